"""What ``benchmarks.active_session`` and ``benchmarks.create_named_session`` compare, on one installation."""
