"""Bodies and paths of ``/api/v1/sessions`` (document 004): how input is read, and the shape of every answer.

Pure. What is wrong with input is told as the document's own stack tells it: a list of type, place, words and input.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from session_service.domain.named_session import title_fault
from session_service.errors import InputProblem, InvalidInputError


class NewSession(msgspec.Struct, frozen=True):
    """The body of POST: ``title`` has 1 to 1,000 characters, none of them NUL. Other fields are ignored."""

    title: str


class SessionRead(msgspec.Struct, frozen=True):
    """A named session, as answers show it. ``id``: a UUID."""

    id: str
    user_id: int
    title: str
    active: bool


class Detail(msgspec.Struct, frozen=True):
    """Every error but those of input, and the answers that say no more than that something is done."""

    detail: str


class InvalidInputAnswer(msgspec.Struct, frozen=True):
    """The answer to input that cannot be taken: everything that is wrong with it."""

    detail: tuple[InputProblem, ...]


def decode_new_session(raw: bytes) -> NewSession:
    """The body of POST. Raises InvalidInputError."""
    if not raw:
        raise InvalidInputError(InputProblem("missing", ("body",), "Field required", None))
    body = _decode_json(raw)
    if not isinstance(body, dict):
        raise InvalidInputError(
            InputProblem(
                "model_attributes_type",
                ("body",),
                "Input should be a valid dictionary or object to extract fields from",
                body,
            )
        )
    if "title" not in body:
        raise InvalidInputError(InputProblem("missing", ("body", "title"), "Field required", body))
    title = body["title"]
    if not isinstance(title, str):
        raise InvalidInputError(
            InputProblem("string_type", ("body", "title"), "Input should be a valid string", title)
        )
    return NewSession(_checked(title, ("body", "title")))


def title_of_path(raw_path: str, depth: int) -> str:
    """The title in a request's path, which is as it came: percent-encoded, not normalised.

    All that follows the ``depth``th slash is the title, slashes too, encoded or not (RFC 3986 §2.1). Raises
    InvalidInputError.
    """
    encoded = raw_path.split("/", depth)[depth]
    try:
        title = unquote_to_bytes(encoded.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError:
        raise InvalidInputError(
            InputProblem(
                "string_unicode",
                ("path", "title"),
                "Input should be a valid string, unable to parse raw data as a unicode string",
                encoded,
            )
        ) from None
    return _checked(title, ("path", "title"))


def encode_problems(error: InvalidInputError) -> bytes:
    """The body of a 422. Of the input, lone surrogates are shown as ``?``."""
    answer = InvalidInputAnswer(error.problems)
    try:
        return _encode(answer)
    except (UnicodeEncodeError, OverflowError):  # the slower encoder takes surrogates, and integers of any size
        plain = {"detail": [msgspec.structs.asdict(problem) for problem in error.problems]}
        return json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")


def _checked(title: str, loc: tuple[str, ...]) -> str:
    fault = title_fault(title)
    if fault is not None:
        kind, words = fault
        raise InvalidInputError(InputProblem(kind, loc, words, title))
    return title


def _decode_json(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Whatever it is, the slower decoder says where; and it takes escaped lone surrogates, so that the field which
        # holds them can be named.
        try:
            return json.loads(raw.decode(), parse_constant=_refuse_constant)
        except UnicodeDecodeError as error:
            position, words = error.start, "JSON decode error: the body is not UTF-8"
        except json.JSONDecodeError as error:
            position, words = error.pos, f"JSON decode error: {error.msg}"
        except (RecursionError, ValueError):  # nested too deeply; no JSON number
            position, words = 0, "JSON decode error"
    raise InvalidInputError(InputProblem("json_invalid", ("body", position), words, {}))


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


_encode = msgspec.json.Encoder().encode
