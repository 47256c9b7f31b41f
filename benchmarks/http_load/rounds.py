"""Rounds of the same load on several servers in turns, so that a busy neighbour meets all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.http_load.cores import cpu_s
from benchmarks.http_load.generator import Load, LoadGenerator, Outcome
from benchmarks.http_load.server_process import Target


class Rounds:
    """What the rounds of each target came to. Refused requests are an error: they would be measured as fast ones."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets
        self._outcomes: dict[str, list[Outcome]] = {target.name: [] for target in targets}
        self._costs_us: dict[str, list[float]] = {target.name: [] for target in targets}

    def run(self, generator: LoadGenerator, load_of: Callable[[Target, int], Load], *, rounds: int) -> None:
        """Round 0 warms up and does not count: connections, prepared statements and caches are made in it."""
        for number in range(rounds + 1):
            for target in self._targets:
                before_s = cpu_s(target.pid)
                outcome = generator.run(load_of(target, number))
                used_s = cpu_s(target.pid) - before_s
                if outcome.failures:
                    raise RuntimeError(f"{target.name} answered with {set(outcome.failures)}")
                if number > 0:
                    self._outcomes[target.name].append(outcome)
                    self._costs_us[target.name].append(used_s / len(outcome.latencies_s) * 1e6)

    def per_s(self, name: str) -> float:
        return statistics.median(outcome.per_s for outcome in self._outcomes[name])

    def ratio(self, name: str, other: str) -> float:
        """The median of the rounds' ratios of requests per second."""
        pairs = zip(self._outcomes[name], self._outcomes[other], strict=True)
        return round(statistics.median(one.per_s / two.per_s for one, two in pairs), 2)

    def figures(self, kind: str) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for target in self._targets:
            outcomes = self._outcomes[target.name]
            quantiles = statistics.quantiles((one for outcome in outcomes for one in outcome.latencies_s), n=100)
            prefix = f"{kind}: {target.name}"
            figures[f"{prefix} requests/s"] = round(self.per_s(target.name))
            figures[f"{prefix} p50 ms"] = round(quantiles[49] * 1e3, 2)
            figures[f"{prefix} p99 ms"] = round(quantiles[98] * 1e3, 2)
            figures[f"{prefix} CPU us/request"] = round(statistics.median(self._costs_us[target.name]))
            figures[f"{prefix} load generator busy"] = round(statistics.median(one.busy for one in outcomes), 2)
        return figures
