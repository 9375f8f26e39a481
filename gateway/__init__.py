"""Residency Gateway: decides for every request where it may go before it decides where it is best to go."""

__version__ = "0.1.0"
