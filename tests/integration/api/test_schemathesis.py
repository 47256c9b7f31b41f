"""Generated calls against a running pod: no 5xx, and every answer is one that the OpenAPI document promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy, booleans
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from session_service.api.openapi import OPERATIONS, build_document
from tests.support.servers import Database, TestServers
from tests.support.service import Service, bearer

EXAMPLES_PER_OPERATION = 12
USER = "7"  # named sessions are of users with a number
TITLE = "A/B"
SANDBOX_SESSIONS = "/api/v1/sandbox-sessions"
HEADERS = bearer(USER, scope="sandbox")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
# Streams do not end, and upgrades are no HTTP answers. What removes comes last, so that there is something to find.
CALLS = sorted(
    (operation for operation in OPERATIONS if operation.tag != "live" and not operation.path.endswith("/events")),
    key=lambda operation: (operation.method == "DELETE", "{" not in operation.path),
)


@pytest.fixture
async def service(servers: TestServers, database: Database) -> AsyncIterator[Service]:
    async with AsyncExitStack() as exits:
        environ = {
            **database.environ(),
            **servers.redis_environ(),
            "SIMULATOR_BACKEND": "service",
            "EXCHANGE_MANAGER_SERVICE": "127.0.0.1:1",
        }
        yield await exits.enter_async_context(Service(environ))


# The pod's loop, in the same process, draws its jitter while examples are generated.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
async def test_generated_calls(service: Service) -> None:
    async with service.http.post("/api/sessions", json={"deviceId": "d"}, headers=HEADERS) as response:
        session_id = (await response.json())["sessionId"]
    async with service.http.post("/api/v1/sessions/", json={"title": TITLE}, headers=HEADERS) as response:
        assert response.status == 200
    async with service.http.post(SANDBOX_SESSIONS, json={}, headers=HEADERS) as response:
        sandbox_session_id = (await response.json())["id"]
    await asyncio.to_thread(call_everything, service.url, session_id, sandbox_session_id)


def call_everything(url: str, session_id: str, sandbox_session_id: str) -> None:
    """Blocking; runs beside the pod's loop."""
    schema: Any = schemathesis.openapi.from_dict(build_document())
    schema.config.update(base_url=url)
    for row in CALLS:
        for mode in GenerationMode:
            there = sandbox_session_id if row.path.startswith(SANDBOX_SESSIONS) else session_id
            try:
                check_operation(schema[row.path][row.method].as_strategy(generation_mode=mode), there)
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, row.path  # nothing can be wrong with such a call


def check_operation(cases: SearchStrategy[Any], session_id: str) -> None:
    @settings(
        max_examples=EXAMPLES_PER_OPERATION,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases, booleans())
    def call(case: Any, names_a_session: bool) -> None:
        for name, there in (("session_id", session_id), ("title", TITLE)):
            if names_a_session and name in case.path_parameters:
                case.path_parameters[name] = there
        if isinstance(case.body, dict) and "waitSeconds" in case.body:
            case.body["waitSeconds"] = 0  # a wait is an answer's time, not another answer
        response = case.call(headers=HEADERS, timeout=10)
        case.validate_response(response, checks=CHECKS)

    call()
