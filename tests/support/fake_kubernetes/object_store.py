"""What an API server keeps: objects under versions, and the history that watches read."""

from __future__ import annotations

import asyncio
import bisect
import copy
import itertools
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

Manifest = dict[str, Any]

FOREGROUND = "foregroundDeletion"


class Key(NamedTuple):
    plural: str
    namespace: str
    name: str


class Event(NamedTuple):
    version: int
    type: str  # ADDED, MODIFIED, DELETED
    key: Key
    object: Manifest


class ExpiredError(Exception):
    """The history that was asked for has been compacted away."""


class ObjectStore:
    """Every write is one version. ``get`` and ``select`` return copies; what ``peek`` shows is not to be changed."""

    def __init__(self) -> None:
        self._objects: dict[Key, Manifest] = {}
        self._events: list[Event] = []
        self._versions = itertools.count(1001)
        self.version = 1000
        self.compacted_to = 0
        self._changed = asyncio.Event()

    def get(self, key: Key) -> Manifest | None:
        found = self._objects.get(key)
        return None if found is None else copy.deepcopy(found)

    def select(self, plural: str, namespace: str) -> list[tuple[Key, Manifest]]:
        return [(key, copy.deepcopy(found)) for key, found in self.peek(plural, namespace)]

    def peek(self, plural: str, namespace: str) -> list[tuple[Key, Manifest]]:
        """By name, as they are at this moment: a write puts another object in the place of the earlier one."""
        return [
            (key, self._objects[key])
            for key in sorted(self._objects)
            if (key.plural, key.namespace) == (plural, namespace)
        ]

    def owned(self) -> list[tuple[Key, Manifest]]:
        """What has owners. Not to be changed, either."""
        return [item for item in sorted(self._objects.items()) if item[1]["metadata"].get("ownerReferences")]

    def uids(self) -> set[str]:
        return {found["metadata"]["uid"] for found in self._objects.values()}

    def create(self, key: Key, manifest: Manifest) -> Manifest:
        made = copy.deepcopy(manifest)
        made["metadata"] |= {
            "namespace": key.namespace,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": now(),
            "generation": 1,
        }
        return self._write("ADDED", key, made)

    def update(self, key: Key, changed: Manifest) -> Manifest:
        return self._write("MODIFIED", key, copy.deepcopy(changed))

    def mark_ending(self, key: Key, *, finalizer: str | None = None) -> Manifest:
        found = self._objects[key]
        if "deletionTimestamp" in found["metadata"]:
            return copy.deepcopy(found)
        changed = copy.deepcopy(found)
        changed["metadata"]["deletionTimestamp"] = now()
        if finalizer is not None:
            changed["metadata"].setdefault("finalizers", []).append(finalizer)
        return self._write("MODIFIED", key, changed)

    def remove(self, key: Key) -> None:
        if (found := self._objects.get(key)) is not None:
            self._write("DELETED", key, copy.deepcopy(found))
            del self._objects[key]

    def compact(self) -> None:
        """Forget the history: a watch or a list that wants to go on from before this moment cannot."""
        self.compacted_to = self.version
        self._events.clear()

    def events_since(self, version: int) -> list[Event]:
        if version < self.compacted_to:
            raise ExpiredError
        begins_at = bisect.bisect_right(self._events, version, key=lambda event: event.version)
        return self._events[begins_at:]

    async def wait_for_change(self, since: int, limit_s: float) -> None:
        """Return when something was written after ``since``, or after ``limit_s``."""
        if self.version > since:
            return
        try:
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
        except TimeoutError:
            return

    def _write(self, type_: str, key: Key, changed: Manifest) -> Manifest:
        self.version = next(self._versions)
        changed["metadata"]["resourceVersion"] = str(self.version)
        if type_ != "DELETED":
            self._objects[key] = changed
        self._events.append(Event(self.version, type_, key, copy.deepcopy(changed)))
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()
        return copy.deepcopy(changed)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
