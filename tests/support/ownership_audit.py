"""What PostgreSQL itself saw: who wrote every step of a simulator and every claim, and who owned the session then.

The triggers run in the writer's own transaction and read the ownership as it is committed at that moment. A write
that holds its ownership row cannot see another owner there; one that does not, and comes after a claim, does.
"""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg
import msgspec

from tests.support.cluster_template import SERVICE_PASSWORD, SERVICE_ROLE
from tests.support.servers import Database

_INSTALL = """
CREATE SCHEMA audit;
CREATE TABLE audit.steps (
    number BIGINT GENERATED ALWAYS AS IDENTITY, writer TEXT, session_id TEXT, simulator_id TEXT,
    was TEXT, became TEXT, owner TEXT, epoch BIGINT);
CREATE TABLE audit.claims (
    number BIGINT GENERATED ALWAYS AS IDENTITY, writer TEXT, session_id TEXT,
    was TEXT, became TEXT, was_epoch BIGINT, epoch BIGINT);

CREATE FUNCTION audit.step() RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO audit.steps (writer, session_id, simulator_id, was, became, owner, epoch)
    SELECT session_user, NEW.session_id, NEW.simulator_id, OLD.status, NEW.status, o.pod_id, o.epoch
    FROM session.ownership o WHERE o.session_id = NEW.session_id;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;
CREATE TRIGGER audit AFTER UPDATE OF status ON simulator.instances
    FOR EACH ROW EXECUTE FUNCTION audit.step(); -- also where the same status is written again

CREATE FUNCTION audit.claim() RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO audit.claims (writer, session_id, was, became, was_epoch, epoch)
    VALUES (session_user, NEW.session_id, OLD.pod_id, NEW.pod_id, OLD.epoch, NEW.epoch);
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;
CREATE TRIGGER audit AFTER UPDATE ON session.ownership
    FOR EACH ROW WHEN (OLD.pod_id IS DISTINCT FROM NEW.pod_id OR OLD.epoch IS DISTINCT FROM NEW.epoch)
    EXECUTE FUNCTION audit.claim();
"""
# What only a session's owner may write: the reconciler's steps. STOPPING is what users and sweeps ask for.
_STALE_STEPS = """
SELECT * FROM audit.steps
WHERE became IN ('STARTING', 'RUNNING', 'STOPPED', 'ERROR') AND writer IS DISTINCT FROM split_part(owner, '#', 1)
ORDER BY number"""
# A claim raises the epoch and is made by the pod that it names; whatever takes a session away leaves the epoch.
_WRONG_CLAIMS = """
SELECT * FROM audit.claims
WHERE epoch < was_epoch
   OR (became IS NOT NULL AND (epoch <= was_epoch OR writer IS DISTINCT FROM split_part(became, '#', 1)))
ORDER BY number"""


class Claim(msgspec.Struct, frozen=True):
    """A session went from one pod incarnation to another; None: nobody's."""

    session_id: str
    was: str | None
    became: str | None


class OwnershipAudit:
    """Install it before the pods start, and give each pod ``environ_of``: a database role that has its name."""

    def __init__(self, database: Database, pods: int) -> None:
        self._database = database
        self._names = [f"pod-{number}" for number in range(1, pods + 1)]

    async def install(self) -> None:
        connection = await asyncpg.connect(self._database.owner_dsn)
        try:
            for name in self._names:
                # Roles are the server's: another test may have made them.
                if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
                    await connection.execute(
                        f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{SERVICE_PASSWORD}' IN ROLE {SERVICE_ROLE}"
                    )
            await connection.execute(_INSTALL)
        finally:
            await connection.close()

    def environ_of(self, name: str) -> Mapping[str, str]:
        return {"DB_USER": name}

    async def stale_steps(self) -> list[str]:
        """Steps that were written by a pod that did not own the session, each as text."""
        return await self._rows(_STALE_STEPS)

    async def wrong_claims(self) -> list[str]:
        return await self._rows(_WRONG_CLAIMS)

    async def claims(self) -> list[Claim]:
        """Every change of hands, in order."""
        connection = await asyncpg.connect(self._database.owner_dsn)
        try:
            rows = await connection.fetch(
                "SELECT session_id, was, became FROM audit.claims WHERE was IS DISTINCT FROM became ORDER BY number"
            )
        finally:
            await connection.close()
        return [Claim(*row) for row in rows]

    async def steps(self) -> int:
        """How many steps there were in all: an audit that saw none says nothing."""
        connection = await asyncpg.connect(self._database.owner_dsn)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM audit.steps"))
        finally:
            await connection.close()

    async def _rows(self, query: str) -> list[str]:
        connection = await asyncpg.connect(self._database.owner_dsn)
        try:
            return [str(dict(row)) for row in await connection.fetch(query)]
        finally:
            await connection.close()
