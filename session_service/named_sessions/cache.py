"""The cache of active sessions in Redis (document 004, "Caching Strategy"; docs/named-sessions.md, "The cache").

``session:active:user:{user_id}`` is the bare UUID. Beside it, ``session:active:epoch:{user_id}`` is the highest epoch
that was written, which no lower one overwrites; and ``session:active:settled`` says up to where the contents are
known to be right, so that contents that were rolled back or lost are told from those that were not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from session_service.aiokit.batching import Batcher
from session_service.database.redis import SOCKET_TIMEOUT_S, Redis, Script
from session_service.domain.named_session import ActiveSession

USER_KEY = "session:active:user:{}"
EPOCH_KEY = "session:active:epoch:{}"
SETTLED_KEY = "session:active:settled"
ALL_KEYS = "session:active:*"

FILL_LIMIT_S = 0.5  # after the miss, by Redis' own clock: a reader that was held up longer fills in nothing
EPOCH_TTL_S = 86_400  # longer than any writer is held up between its commit and its write here
_LATE = -1
_BATCH = 128  # users in a call
_WIDTH = 4  # calls at a time, of the pool's connections
_SCAN_COUNT = 1000

_canonical_uuid = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# KEYS: settled, then users' values; ARGV: the TTL, refreshed on access. pcall: a key of another type is a miss.
_READ = Script("""
local now = redis.call('TIME')
local mark = redis.pcall('GET', KEYS[1])
local answer = {type(mark) == 'string' and mark, now[1] * 1000 + math.floor(now[2] / 1000)}
for i = 2, #KEYS do
    local value = redis.pcall('GETEX', KEYS[i], 'EX', ARGV[1])
    answer[i + 1] = type(value) == 'string' and value
end
return answer
""")

# KEYS: value and epoch of each user; ARGV: both TTLs, then epoch, id (none: empty) and deadline of each. A deadline
# is in ms; 0: none; -1: long past. What comes so late may be old: nothing says so where the epoch was lost meanwhile.
_WRITE = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #KEYS, 2 do
    local at = 3 * (i - 1) / 2 + 3
    local epoch, id, deadline = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
    local known = redis.pcall('GET', KEYS[i + 1])
    known = type(known) == 'string' and tonumber(known) or -1
    if deadline == -1 and known == -1 then
        redis.call('DEL', KEYS[i])
    elseif tonumber(epoch) >= known and (deadline <= 0 or now <= deadline) then
        redis.call('SET', KEYS[i + 1], epoch, 'EX', ARGV[2])
        if id == '' then
            redis.call('DEL', KEYS[i])
        else
            redis.call('SET', KEYS[i], id, 'EX', ARGV[1])
        end
    end
end
return 1
""")


class CacheRead(msgspec.Struct, frozen=True):
    """What Redis says of one user. ``settled``: the contents' own mark; ``at_ms``: when this was, by Redis' clock."""

    session_id: bytes | None
    settled: bytes | None
    at_ms: int


class _Write(msgspec.Struct, frozen=True):
    user_id: int
    active: ActiveSession
    deadline_ms: int


class ActiveSessionCache:
    """One round trip a call; calls that come together make one. Nothing here raises: False and None say it failed.

    ``settled`` is asked also while Redis is avoided: loops ask it, and so find out first that Redis is back.

    ``ttl_s``: ACTIVE_SESSION_CACHE_TTL_SECONDS.
    """

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        within_s = 2 * SOCKET_TIMEOUT_S
        self._reads = Batcher(self._read_together, limit=_BATCH, width=_WIDTH, within_s=within_s)
        self._writes = Batcher(self._write_together, limit=_BATCH, width=_WIDTH, within_s=within_s)

    @property
    def avoided(self) -> bool:
        """Whether Redis is not asked right now, since it failed just now."""
        return self._redis.avoided

    async def read(self, user_id: int) -> CacheRead | None:
        """What is cached for the user, whose TTL begins anew. None: Redis did not answer."""
        try:
            return await self._reads.call(user_id)
        except TimeoutError:
            return None

    async def fill(self, user_id: int, active: ActiveSession, read: CacheRead) -> None:
        """Write what PostgreSQL said after ``read`` found nothing; too late, it is left."""
        await self._write(_Write(user_id, active, read.at_ms + round(FILL_LIMIT_S * 1000)))

    async def put(self, user_id: int, active: ActiveSession, *, age_s: float) -> bool:
        """Write what was committed, unless something newer is there. False: it is not known whether it is there.

        ``age_s``: how long ago its statement was sent, at most.
        """
        return await self._write(_Write(user_id, active, _LATE if age_s > FILL_LIMIT_S else 0))

    async def put_many(self, changes: Mapping[int, ActiveSession]) -> bool:
        """As ``put`` for each user. False: not all of them are known to be there."""
        writes = [_Write(user_id, active, 0) for user_id, active in changes.items()]
        for start in range(0, len(writes), _BATCH):
            if not all(await self._write_together(writes[start : start + _BATCH])):
                return False
        return True

    async def settled(self) -> tuple[bytes | None] | None:
        """The contents' mark, which may not be there. None: Redis did not answer."""

        async def get(client: Any) -> tuple[bytes | None] | None:
            (mark,) = await client.mget(SETTLED_KEY)  # of what is no string it says that it is not there
            return (mark,)

        return await self._redis.probe(get, None)

    async def set_settled(self, mark: bytes) -> bool:
        async def put(client: Any) -> bool:
            return bool(await client.set(SETTLED_KEY, mark))

        return await self._redis.attempt(put, False)

    async def purge(self) -> bool:
        """Remove everything of this cache. False: Redis did not answer on the way."""
        cursor: int | None = 0

        async def step(client: Any) -> int | None:
            following, keys = await client.scan(cursor, match=ALL_KEYS, count=_SCAN_COUNT)
            if keys:
                await client.unlink(*keys)
            return int(following)

        while True:
            cursor = await self._redis.attempt(step, None)
            if not cursor:
                return cursor is not None

    async def _write(self, write: _Write) -> bool:
        try:
            return await self._writes.call(write)
        except TimeoutError:
            return False

    async def _read_together(self, user_ids: Sequence[int]) -> list[CacheRead | None]:
        keys = [SETTLED_KEY, *(USER_KEY.format(user_id) for user_id in user_ids)]

        async def read(client: Any) -> list[CacheRead | None]:
            settled, at_ms, *values = await _READ.run(client, keys, [self._ttl_s])
            return [CacheRead(_session_id(value), settled, at_ms) for value in values]

        return await self._redis.attempt(read, [None] * len(user_ids))

    async def _write_together(self, writes: Sequence[_Write]) -> list[bool]:
        keys = [key.format(write.user_id) for write in writes for key in (USER_KEY, EPOCH_KEY)]
        arguments: list[str | int] = [self._ttl_s, max(EPOCH_TTL_S, self._ttl_s)]
        for write in writes:
            arguments += (write.active.epoch, write.active.id or "", write.deadline_ms)

        async def send(client: Any) -> bool:
            return bool(await _WRITE.run(client, keys, arguments))

        return [await self._redis.attempt(send, False)] * len(writes)


def _session_id(value: bytes | None) -> bytes | None:
    """What somebody else wrote there need not be one."""
    return value if value is not None and _canonical_uuid.fullmatch(value) else None
