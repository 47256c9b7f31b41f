"""The runner: a process that starts simulators as local processes, so that they outlive any pod and never the run.

``python -m session_service.simulators.runner [--port 0] [--log-directory DIR]``, with SIMULATOR_RUNNER_TOKEN in the
environment. It prints one line, ``runner listening on 127.0.0.1:PORT``, and ends, with all simulators, when its
standard input ends, on SIGTERM, or when its parent dies.

HTTP on 127.0.0.1, JSON, ``Authorization: Bearer <token>``; workloads and specs as in ``simulators.backend``:

- ``PUT /simulators/{id}`` spec → workload; idempotent; READY, FAILED, or PENDING after 5 s
- ``GET /simulators[?database_id=D]`` → ``{version, workloads}``, all or those of one database
- ``GET /simulators/{id}`` → workload or 404
- ``GET /simulators/watch?version=N&wait_s=20`` → the same as the whole list, once its version is not N
- ``PATCH /simulators/{id}[?uid=U]`` ``{session_id}`` → 204: whose a spare is; 404; 409 where another uid stands there
- ``DELETE /simulators/{id}[?uid=U]`` → 204; also where there is none; 409 where another uid stands there
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import os
import re
import signal
import sys
from pathlib import Path

import msgspec
import uvloop
from aiohttp import web
from aiohttp.typedefs import Handler

from session_service.simulators.backend import WorkloadSpec
from session_service.simulators.runner_log import prune
from session_service.simulators.runner_protocol import TOKEN_VARIABLE, Assignment, WorkloadList
from session_service.simulators.runner_simulators import SimulatorProcesses, UidMismatchError

CREATE_WAIT_S = 5.0
LONGEST_WATCH_S = 60.0
SHUTDOWN_LIMIT_S = 1.0  # for requests that are being answered
SIMULATOR_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,127}")  # it names a file


def _json(value: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


class RunnerApi:
    """The HTTP face of SimulatorProcesses."""

    def __init__(self, processes: SimulatorProcesses, *, token: str) -> None:
        self._processes = processes
        self._expected = f"Bearer {token}".encode()

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._authorize])
        application.router.add_get("/simulators", self._list)
        application.router.add_get("/simulators/watch", self._watch)
        application.router.add_put("/simulators/{id}", self._create)
        application.router.add_get("/simulators/{id}", self._get)
        application.router.add_patch("/simulators/{id}", self._assign)
        application.router.add_delete("/simulators/{id}", self._delete)
        return application

    @web.middleware
    async def _authorize(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            raise web.HTTPUnauthorized
        return await handler(request)

    def _whole(self) -> web.Response:
        return _json(WorkloadList(self._processes.version, self._processes.list()))

    async def _list(self, request: web.Request) -> web.Response:
        database_id = request.query.get("database_id")
        return _json(WorkloadList(self._processes.version, self._processes.list(database_id)))

    async def _watch(self, request: web.Request) -> web.Response:
        try:
            version = int(request.query["version"])
            wait_s = min(float(request.query.get("wait_s", "20")), LONGEST_WATCH_S)
        except (KeyError, ValueError):
            raise web.HTTPBadRequest(text="version and wait_s must be numbers") from None
        await self._processes.changed_since(version, wait_s=wait_s)
        return self._whole()

    async def _create(self, request: web.Request) -> web.Response:
        try:
            spec = msgspec.json.decode(await request.read(), type=WorkloadSpec)
        except msgspec.MsgspecError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        if spec.simulator_id != request.match_info["id"] or SIMULATOR_ID.fullmatch(spec.simulator_id) is None:
            raise web.HTTPBadRequest(text="simulator_id must be the path's: letters, digits, _ and -")
        return _json(await self._processes.create(spec, wait_s=CREATE_WAIT_S))

    async def _get(self, request: web.Request) -> web.Response:
        found = self._processes.get(request.match_info["id"])
        if found is None:
            raise web.HTTPNotFound
        return _json(found)

    async def _assign(self, request: web.Request) -> web.Response:
        try:
            assignment = msgspec.json.decode(await request.read(), type=Assignment)
        except msgspec.MsgspecError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        uid = request.query.get("uid")
        try:
            there = await self._processes.assign(request.match_info["id"], uid, assignment.session_id)
        except UidMismatchError:
            raise web.HTTPConflict from None
        if not there:
            raise web.HTTPNotFound
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.Response:
        try:
            await self._processes.delete(request.match_info["id"], request.query.get("uid"))
        except UidMismatchError:
            raise web.HTTPConflict from None
        return web.Response(status=204)


def _end_on(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set ``stop`` on a signal, and when standard input ends: the parent holds its other end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def on_input() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    os.set_blocking(0, False)
    loop.add_reader(0, on_input)


async def serve(*, port: int, token: str, log_directory: Path | None) -> None:
    """Serve until told to end."""
    stop = asyncio.Event()
    _end_on(asyncio.get_running_loop(), stop)
    processes = SimulatorProcesses(environ=os.environ, log_directory=log_directory)
    runner = web.AppRunner(
        RunnerApi(processes, token=token).application(), access_log=None, shutdown_timeout=SHUTDOWN_LIMIT_S
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        listening_port = runner.addresses[0][1]
        sys.stdout.write(f"runner listening on 127.0.0.1:{listening_port}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await processes.close()
        await runner.cleanup()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="runner")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log-directory", type=Path)
    options = parser.parse_args(arguments)
    token = os.environ.pop(TOKEN_VARIABLE, "")
    if not token:
        sys.stderr.write(f"{TOKEN_VARIABLE} must be set\n")
        return 2
    try:
        if options.log_directory is not None:
            options.log_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            prune(options.log_directory)
        uvloop.run(serve(port=options.port, token=token, log_directory=options.log_directory))
    except OSError as error:
        sys.stderr.write(f"runner: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
