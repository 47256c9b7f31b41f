"""JSON Schemas of message and body types, as both documents, OpenAPI's and AsyncAPI's, hold them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

REF = "#/components/schemas/{name}"

Schema = dict[str, Any]


def component_schemas(types: Iterable[type[msgspec.Struct]]) -> dict[str, Schema]:
    """The schemas of ``types``, and of what they are made of, by the names of the types."""
    _, components = msgspec.json.schema_components(types, ref_template=REF)
    return {name: _as_json_schema(schema) for name, schema in components.items()}


def _as_json_schema(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _TRANSLATIONS.get(key, _as_json_schema)(item) for key, item in value.items()}
    return [_as_json_schema(item) for item in value] if isinstance(value, list) else value


def _pattern(value: Any) -> Any:
    r"""Python's ``\Z`` (end of the text) is ECMA 262's ``$``, which JSON Schema's patterns are written in."""
    if isinstance(value, str) and value.endswith(r"\Z"):
        return value.removesuffix(r"\Z") + "$"
    return _as_json_schema(value)


def _description(value: Any) -> Any:
    """A docstring's code has two backticks; CommonMark's, in which both documents describe things, has one."""
    return value.replace("``", "`") if isinstance(value, str) else _as_json_schema(value)


# A field of a body may have one of these names too: its value is then a schema, and no text.
_TRANSLATIONS = {"pattern": _pattern, "description": _description}
