"""Twenty workers, killed at random: every piece of work is completed once, and none is lost."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter

from tests.support.inbox_worker import work
from tests.support.sandboxes import Sandboxes

ITEMS = 10_000
TASKS = 16  # workers within this process, whose connections are cut
PROCESSES = 4  # workers that are killed with SIGKILL
KILL_EVERY_S = 0.15
LIMIT_S = 300.0


async def keep_task(dsn: str, name: str, kills: Counter[str], chooser: random.Random, done: asyncio.Event) -> None:
    """A worker that is cut off at random and comes back, until one has found nothing left."""
    while not done.is_set():
        worker = asyncio.ensure_future(work(dsn, name))
        await asyncio.wait({worker}, timeout=chooser.uniform(0.5, 3) if kills["tasks"] < 60 else LIMIT_S)
        if worker.done():
            worker.result()
            done.set()
            return
        kills["tasks"] += 1
        worker.cancel()  # in the middle of whatever it does: its connection is aborted, not closed
        await asyncio.wait({worker})


async def keep_process(dsn: str, name: str, kills: Counter[str], chooser: random.Random, done: asyncio.Event) -> None:
    while not done.is_set():
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.support.inbox_worker", dsn, name)
        ended = asyncio.ensure_future(process.wait())
        await asyncio.wait({ended}, timeout=chooser.uniform(1, 3) if kills["processes"] < 12 else LIMIT_S)
        if ended.done():
            assert ended.result() == 0
            return
        kills["processes"] += 1
        process.kill()
        await ended


async def test_each_is_completed_once_and_none_is_lost(sandboxes: Sandboxes) -> None:
    owner, dsn = await sandboxes.owner(), sandboxes.shared_dsn
    await owner.execute(
        "INSERT INTO session (inbox_status, max_attempts) SELECT 'pending', 100 FROM generate_series(1, $1)", ITEMS
    )
    # Who completes what, as PostgreSQL saw it: a second completion of a row would be a second line.
    await owner.execute(
        """
        CREATE TABLE sandbox.completions (id uuid, made_at timestamptz DEFAULT clock_timestamp());
        CREATE FUNCTION sandbox.note_completion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN INSERT INTO sandbox.completions (id) VALUES (NEW.id); RETURN NULL; END $$;
        CREATE TRIGGER note_completion AFTER UPDATE ON session FOR EACH ROW
            WHEN (NEW.inbox_status = 'completed') EXECUTE FUNCTION sandbox.note_completion();
        """
    )
    kills: Counter[str] = Counter()
    chooser, done = random.Random(1), asyncio.Event()
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        for number in range(TASKS):
            group.create_task(keep_task(dsn, f"task-{number}", kills, chooser, done))
        for number in range(PROCESSES):
            group.create_task(keep_process(dsn, f"process-{number}", kills, chooser, done))
    rows = await owner.fetch("SELECT inbox_status, messages, claim, attempts FROM session")
    assert Counter(row["inbox_status"] for row in rows) == {"completed": ITEMS}
    assert all(len(json.loads(row["messages"])) == 1 for row in rows)
    completions = await owner.fetchrow("SELECT count(*), count(DISTINCT id) FROM sandbox.completions")
    assert tuple(completions or ()) == (ITEMS, ITEMS)
    assert kills["tasks"] >= 10
    assert kills["processes"] >= 2
    assert sum(row["attempts"] for row in rows) > ITEMS  # some were lost on the way, and claimed again
