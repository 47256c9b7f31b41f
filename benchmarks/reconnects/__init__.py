"""Clients that come back: the system and the clients of ``benchmarks.resume`` and ``benchmarks.drain``."""
