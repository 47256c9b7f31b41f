"""A session service: every user session gets its own backend and a live connection to it."""

__version__ = "0.1.0"
