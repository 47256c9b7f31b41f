"""Databases that differ only in how many sessions they hold, for ``benchmarks.growth``."""
