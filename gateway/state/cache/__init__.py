"""The response cache: answers of other times, sealed, in the shared store. `cache.py` is the port, `scripts.py` what runs there."""
