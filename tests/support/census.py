"""What stands at one moment: a cluster's objects and processes, and who looks after the sessions."""

from __future__ import annotations

from collections import Counter

import asyncpg
import msgspec

from tests.support.servers import Database
from tests.support.shared_cluster import SharedCluster


class Census(msgspec.Struct, frozen=True):
    """Of a cluster. Objects by name, with their uids; ``processes`` by the Pod's uid, with their process ids."""

    deployments: dict[str, str]
    services: dict[str, str]
    pods: dict[str, str]
    processes: dict[str, int]
    restarts: int
    names: frozenset[str]  # that resolve

    @classmethod
    def of(cls, shared: SharedCluster) -> Census:
        pods = shared.cluster.pods()
        return cls(
            deployments=_uids(shared.cluster.deployments()),
            services=_uids(shared.cluster.services()),
            pods=_uids(pods),
            processes=shared.containers.pids,
            restarts=sum(
                container["restartCount"]
                for pod in pods.values()
                for container in pod.get("status", {}).get("containerStatuses", ())
            ),
            names=shared.network.names,
        )

    @property
    def is_empty(self) -> bool:
        return not (self.deployments or self.services or self.pods or self.processes or self.names)


def _uids(objects: dict[str, dict[str, dict[str, str]]]) -> dict[str, str]:
    return {name: found["metadata"]["uid"] for name, found in objects.items()}


class Owners(msgspec.Struct, frozen=True):
    """``by_session``: the owner's pod name, "" where nobody is, and the epoch."""

    by_session: dict[str, tuple[str, int]]

    @classmethod
    async def of(cls, database: Database) -> Owners:
        connection = await asyncpg.connect(database.owner_dsn)
        try:
            rows = await connection.fetch(
                "SELECT session_id, coalesce(split_part(pod_id, '#', 1), '') AS pod, epoch FROM session.ownership"
            )
        finally:
            await connection.close()
        return cls({row["session_id"]: (row["pod"], row["epoch"]) for row in rows})

    @property
    def sessions_by_pod(self) -> Counter[str]:
        return Counter(pod for pod, _ in self.by_session.values())

    def taken_since(self, earlier: Owners) -> int:
        """Sessions whose epoch has risen."""
        return sum(
            epoch > earlier.by_session[session_id][1]
            for session_id, (_, epoch) in self.by_session.items()
            if session_id in earlier.by_session
        )
