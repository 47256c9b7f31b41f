"""The application: tables are made at its start, Redis is connected for as long as it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from benchmarks.named_sessions_004.cache import SessionCacheManager
from benchmarks.named_sessions_004.config import Settings
from benchmarks.named_sessions_004.database import DBManager
from benchmarks.named_sessions_004.repository import SessionRepository
from benchmarks.named_sessions_004.routes import session_router
from benchmarks.named_sessions_004.security import JWTHandler
from benchmarks.named_sessions_004.service import SessionService


def create_app(settings: Settings) -> FastAPI:
    database = DBManager(settings.postgres)
    cache = SessionCacheManager(settings.redis)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        database.create_tables()
        cache.connect()
        yield
        cache.close()
        database.close()

    app = FastAPI(lifespan=lifespan)
    service = SessionService(SessionRepository(), cache)
    app.include_router(session_router(service, database, JWTHandler(settings.security)))
    return app
