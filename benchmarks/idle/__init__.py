"""Many quiet connections: the clients and servers of ``benchmarks.memory`` and ``benchmarks.idle_cpu``."""
