"""The OpenAPI document: valid, complete, and in the words of JSON Schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator

from session_service.api.errors import PUBLIC_ERRORS
from session_service.api.openapi import OPERATIONS, build_document
from session_service.errors import ErrorCode

DOCUMENT: dict[str, Any] = json.loads(json.dumps(build_document()))


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for methods in DOCUMENT["paths"].values():
        yield from methods.items()


def patterns(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "pattern" and isinstance(item, str):
                yield item
            else:
                yield from patterns(item)
    elif isinstance(value, list):
        for item in value:
            yield from patterns(item)


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_code_in_descriptions_is_marked_as_commonmark_has_it() -> None:
    assert "``" not in json.dumps(DOCUMENT)
    assert DOCUMENT["components"]["schemas"]["SandboxSessionList"]["description"].startswith("`cursor` asks")


def test_instants_are_date_times() -> None:
    instants = {
        f"{name}.{field}": shape
        for name, schema in DOCUMENT["components"]["schemas"].items()
        for field, shape in schema.get("properties", {}).items()
        if re.search(r"(At|_at|[lL]ast_?[aA]ctive)$", field)
    }
    assert {"SandboxSessionRow.created_at", "SessionCreated.expiresAt", "SimulatorView.lastActive"} <= instants.keys()
    assert {key for key, shape in instants.items() if "date-time" not in json.dumps(shape)} == set()


def test_operations_are_told_apart() -> None:
    keys = [(operation.method, operation.path) for operation in OPERATIONS]
    names = [operation.operation_id for operation in OPERATIONS]
    assert len(set(keys)) == len(keys)
    assert len(set(names)) == len(names)


def test_every_call_with_a_token_says_how_it_is_refused() -> None:
    for _method, operation in operations():
        if operation.get("security") == []:
            continue
        assert operation["responses"]["401"]["headers"].keys() == {"WWW-Authenticate"}
        assert operation["responses"]["503"]["headers"].keys() == {"Retry-After"}


def test_every_body_says_how_it_is_refused() -> None:
    with_body = [operation for _method, operation in operations() if "requestBody" in operation]
    assert with_body
    for operation in with_body:
        assert {"400", "413"} <= operation["responses"].keys()


def test_error_codes_are_those_of_the_code() -> None:
    assert sorted(DOCUMENT["components"]["schemas"]["ErrorCode"]["enum"]) == sorted(ErrorCode)


def test_every_http_code_but_the_routers_own_is_used_by_an_operation() -> None:
    text = json.dumps(DOCUMENT["paths"])
    of_the_router = {ErrorCode.NOT_FOUND, ErrorCode.METHOD_NOT_ALLOWED}
    of_later_parts = {ErrorCode.RATE_LIMITED}
    for code, error in PUBLIC_ERRORS.items():
        if error.status is None or error.status == 200 or code in of_the_router | of_later_parts:
            continue
        assert f"`{code}`" in text, code


def test_patterns_are_ecma_262() -> None:
    found = list(patterns(DOCUMENT))
    assert found
    assert not [pattern for pattern in found if r"\Z" in pattern]
