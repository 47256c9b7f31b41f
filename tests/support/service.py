"""A pod in the test's own process: the real SessionServer on real servers, and what tests need to talk to it."""

from __future__ import annotations

import time
from collections.abc import Mapping

import aiohttp

from session_service import config
from session_service.clients.token_signer import sign_token
from session_service.local.ports import free_port
from session_service.server import SessionServer
from session_service.websocket.admission import AdmissionLimits

SECRET_KEY = "the-secret-key-of-the-tests-0123456789"


def token(user_id: str = "user-1", *, ttl_s: float = 600, scope: str = "", secret: str = SECRET_KEY) -> str:
    return sign_token(secret, "HS256", user_id, now_s=time.time(), ttl_s=ttl_s, scope=scope)


def bearer(user_id: str = "user-1", *, ttl_s: float = 600, scope: str = "") -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user_id, ttl_s=ttl_s, scope=scope)}"}


class Service:
    """One running pod. ``http`` has its base URL; use it for plain calls."""

    def __init__(self, environ: Mapping[str, str], *, admission: AdmissionLimits | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environ = {
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "POD_NAME": "pod-under-test",
            "SECRET_KEY": SECRET_KEY,
            "SIMULATOR_BACKEND": "process",
            "DRAIN_DELAY_SECONDS": "0",
            **environ,
        }
        settings = config.load(self.environ).settings
        config.check_for_serving(settings)
        self.server = SessionServer(settings, self.environ, admission=admission)
        self.http: aiohttp.ClientSession

    async def __aenter__(self) -> Service:
        await self.server.initialize()
        await self.server.start()
        self.http = aiohttp.ClientSession(self.url)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.http.close()
        await self.server.shutdown("test over")
