"""List, then watch, again and again: how the present state of one kind of object is followed without polling it.

``WatchMachine`` is the rule, without clock or connection; ``ListWatch`` puts it around a KubernetesClient. The API's
own description: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec
import structlog

from session_service.aiokit.backoff import Backoff, jittered
from session_service.clients.kubernetes import KubernetesClient
from session_service.clients.kubernetes_types import Object, Resource, Status, WatchEvent
from session_service.errors import BackendUnavailableError, KubernetesExpiredError
from session_service.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

PAGE_LIMIT = 500
RELIST_AFTER_FAILURES = 3
SHORTEST_WATCH_S = 1.0  # one that ends sooner, and has told nothing, is as good as a failure

T = TypeVar("T", bound=Object)
_statuses = msgspec.json.Decoder(Status)


class WatchTimes(msgspec.Struct, frozen=True, kw_only=True):
    """A watch is ended by the server after ``watch_s`` ± 10 % and made again from where it was. One on which nothing,
    not even a bookmark, came for ``silence_limit_s`` is taken for dead: servers send a bookmark a minute, unasked.
    """

    watch_s: float = 300.0
    silence_limit_s: float = 90.0
    backoff: Backoff = Backoff(first_s=0.2, max_s=10.0, jitter=0.2)


WATCH_TIMES = WatchTimes()


class Listed(msgspec.Struct, Generic[T], frozen=True):
    """All there is; what is not in it is gone."""

    items: tuple[T, ...]


class Changed(msgspec.Struct, Generic[T], frozen=True):
    item: T


class Deleted(msgspec.Struct, Generic[T], frozen=True):
    """``item``: as it was last."""

    item: T


class Next(StrEnum):
    LIST = "list"
    WATCH = "watch"


class Outcome(StrEnum):
    """How a list or a watch came to its end."""

    ENDED = "ended"  # by the server, after its time
    EXPIRED = "expired"  # 410: what lies between was compacted away
    FAILED = "failed"  # unanswered, silent, or refused


class WatchMachine:
    """Where a list-and-watch stands. ``now_s`` is monotonic seconds."""

    def __init__(self, backoff: Backoff, *, random: Callable[[], float] = random_module.random) -> None:
        self.resource_version: str | None = None
        self._backoff = backoff
        self._random = random
        self._failures = 0  # in a row
        self._begun_at_s = 0.0
        self._heard_at_s: float | None = None

    @property
    def next(self) -> Next:
        return Next.LIST if self.resource_version is None else Next.WATCH

    def begun(self, now_s: float) -> None:
        """A list or a watch is sent."""
        self._begun_at_s = now_s

    def listed(self, resource_version: str, now_s: float) -> None:
        self.resource_version = resource_version
        self._heard_at_s = now_s

    def heard(self, resource_version: str, now_s: float) -> None:
        """An event came, a bookmark included: everything up to its version has been told."""
        self.resource_version = resource_version or self.resource_version
        self._heard_at_s = now_s
        self._failures = 0

    def over(self, outcome: Outcome, now_s: float) -> float:
        """It is over; seconds to wait before ``next``."""
        told_nothing = self._heard_at_s is None or self._heard_at_s < self._begun_at_s
        if outcome is Outcome.ENDED and not (told_nothing and now_s - self._begun_at_s < SHORTEST_WATCH_S):
            self._failures = 0
            return 0.0
        self._failures += 1
        if outcome is Outcome.EXPIRED or self._failures >= RELIST_AFTER_FAILURES:
            self.resource_version = None
        if outcome is Outcome.EXPIRED and self._failures == 1:
            return 0.0
        return self._backoff.delay_s(self._failures, self._random)

    def is_current(self, now_s: float, within_s: float) -> bool:
        """Whether something was heard in the last ``within_s``."""
        return (
            self.resource_version is not None
            and self._heard_at_s is not None
            and now_s - self._heard_at_s <= within_s
        )


class ListWatch(Generic[T]):
    """Follows the objects of one kind and label. ``clock`` is monotonic."""

    def __init__(
        self,
        client: KubernetesClient,
        resource: Resource[T],
        times: WatchTimes,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._resource = resource
        self._times = times
        self._metrics = metrics
        self._clock = clock
        self._machine = WatchMachine(times.backoff)

    @property
    def is_current(self) -> bool:
        """Whether what was told is all that happened until a moment ago, as far as can be known."""
        return self._machine.is_current(self._clock(), self._times.silence_limit_s)

    async def follow(self, label_selector: str) -> AsyncGenerator[Listed[T] | Changed[T] | Deleted[T], None]:
        """Without end; faults of the API are logged, counted and waited out. Close it when it is no longer read."""
        machine = self._machine
        while True:
            machine.begun(self._clock())
            outcome = Outcome.ENDED
            try:
                if machine.next is Next.LIST:
                    items, version = await list_all(self._client, self._resource, label_selector)
                    machine.listed(version, self._clock())
                    self._metrics.watch_heard(self._resource.plural)
                    yield Listed(items)
                    continue
                async with aclosing(self._watch(label_selector)) as events:
                    async for event in events:
                        if event is not None:
                            yield event
            except KubernetesExpiredError as error:
                outcome = Outcome.EXPIRED
                log.info("kubernetes_watch_expired", resource=self._resource.plural, detail=error.detail)
            except BackendUnavailableError as error:
                outcome = Outcome.FAILED
                log.warning("kubernetes_watch_failed", resource=self._resource.plural, detail=error.detail)
            self._metrics.watch_over(self._resource.plural, outcome.value)
            await asyncio.sleep(machine.over(outcome, self._clock()))

    async def _watch(self, label_selector: str) -> AsyncGenerator[Changed[T] | Deleted[T] | None, None]:
        """What one watch tells; None for a bookmark."""
        assert self._machine.resource_version is not None  # noqa: S101 - the machine's next says so
        events = self._client.watch(
            self._resource,
            label_selector,
            self._machine.resource_version,
            timeout_s=jittered(self._times.watch_s, 0.1, random_module.random),
            silence_limit_s=self._times.silence_limit_s,
        )
        async with aclosing(events):
            async for event in events:
                if event.type == "ERROR":
                    raise _error(event)
                item = self._decoded(event)
                self._machine.heard(item.metadata.resource_version, self._clock())
                self._metrics.watch_heard(self._resource.plural)
                match event.type:
                    case "ADDED" | "MODIFIED":
                        yield Changed(item)
                    case "DELETED":
                        yield Deleted(item)
                    case _:
                        yield None

    def _decoded(self, event: WatchEvent) -> T:
        try:
            return self._resource.item.decode(event.object)
        except msgspec.DecodeError as error:
            raise BackendUnavailableError(f"an event without an object: {error}") from None


async def list_all(client: KubernetesClient, resource: Resource[T], label_selector: str) -> tuple[tuple[T, ...], str]:
    """Every object and the version at which that was all, page by page. Raises what ``list_page`` raises."""
    items: list[T] = []
    continue_from = ""
    while True:
        page = await client.list_page(resource, label_selector, limit=PAGE_LIMIT, continue_from=continue_from)
        items += page.items
        continue_from = page.metadata.continue_
        if not continue_from:
            return tuple(items), page.metadata.resource_version


def _error(event: WatchEvent) -> Exception:
    try:
        status = _statuses.decode(event.object)
    except msgspec.DecodeError:
        status = Status(message="an error without a status")
    detail = f"{status.reason}: {status.message}"
    return KubernetesExpiredError(detail) if status.code == 410 else BackendUnavailableError(detail)
