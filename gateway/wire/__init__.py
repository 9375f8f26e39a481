"""The clients' side: HTTP in, requests out, answers back in the shape of the API that was called. Start at `protocol.py`."""
