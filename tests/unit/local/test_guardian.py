from pathlib import Path

from session_service.local.guardian import Charge, read_charge


def test_reads_processes_and_directories() -> None:
    lines = ["watch 12 345\n", "remove /tmp/a b\n", "watch 12 345\n", "watch 13 Mon_Jan_1\n"]
    assert read_charge(lines) == Charge(frozenset({(12, "345"), (13, "Mon_Jan_1")}), (Path("/tmp/a b"),))


def test_ignores_what_the_death_cut_off() -> None:
    assert read_charge(["watch 12\n", "watch x 1\n", "", "remove /tm"]) == Charge(frozenset(), ())
