"""``python -m benchmarks.named_rivals.bare PORT``: the cached lookup and nothing else.

aiohttp on uvloop, PyJWT, one Redis GETEX: no router of many routes, no metrics, no database behind it.
"""

from __future__ import annotations

import asyncio
import os
import sys

import jwt
import redis.asyncio as redis
import uvloop
from aiohttp import web

TTL_S = 3600


async def serve(port: int, secret_key: str, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)

    async def active(request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        user_id = int(jwt.decode(token, secret_key, algorithms=["HS256"])["sub"])
        session_id = await client.getex(f"session:active:user:{user_id}", ex=TTL_S)
        if not isinstance(session_id, bytes):
            return web.Response(status=404)
        return web.Response(body=b'"%b"' % session_id, content_type="application/json")

    app = web.Application()
    app.router.add_get("/api/v1/sessions/active", active)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), os.environ["SECRET_KEY"], os.environ["REDIS_URL"]))
