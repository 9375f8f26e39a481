"""The shared store: what several workers and machines know together. `port.py` says what is asked of it."""
