"""What a pod says of itself in ``/metrics``."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.support.websocket_client import HasHttp


async def metric_total(pod: HasHttp, name: str, **labels: str) -> float:
    """The sum of the samples of this name, of those with these labels; 0 where there is none."""
    async with pod.http.get("/metrics") as response:
        text = await response.text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
