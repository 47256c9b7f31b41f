"""JSON of the caller's: what it says stays what it is, what cannot be kept is refused by its field's name."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.support.sandbox_client import SandboxClient
from tests.support.servers import Database
from tests.support.service import Service, bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
KEPT = [
    "0",
    "123456789012345678901234567890",
    "-9007199254740993",
    "1e400",
    "1.10",
    "1E-400",
    "0.1000000000000000055511151231257827021181583404541015625",
    '"1e99999"',
    r'"\"1e99999"',
    r'"é \u00e9 \ud83d\ude00 \n \\u0000"',
    "[]",
    "{}",
    '{"": {"a b": [null, true, false, ""]}}',
    "[" * 500 + "]" * 500,
    "true",
]
REFUSED = {
    "U+0000": rb'"\u0000"',
    "U+0000 in a key": rb'{"a\u0000": 1}',
    "half a surrogate pair": rb'"\ud800\u0041"',
    "the other half": rb'"\udc00"',
    "an exponent beyond what is written out": b"[1e5000]",
    "another": b'{"a\\"": [1, -1.5E+0001000]}',
    "a negative one": b"1e-99999",
    "a number of too many digits": b"9" * 140_000,
    "bytes that are not UTF-8": b'"\xff"',
    "a control character": b'"\n"',
    "not a number": b"NaN",
    "infinity": b"Infinity",
    "a comma too many": b"[1,]",
    "depth": b"[" * 100_000 + b"]" * 100_000,
}


def exact(text: str | bytes) -> Any:
    """Numbers as they are, not as a float holds them."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


@pytest.mark.parametrize("text", KEPT, ids=lambda text: text[:20])
async def test_what_json_says_comes_back(client: SandboxClient, text: str) -> None:
    body = f'{{"messages": {text}, "sbx_config": [{text}]}}'
    async with client.request("POST", "", data=body.encode()) as response:
        assert response.status == 201, await response.text()
        row = exact(await response.read())
    assert (row["messages"], row["sbx_config"]) == (exact(text), [exact(text)])
    async with client.request("POST", f"/{row['id']}/messages", data=f'{{"message": {text}}}'.encode()) as response:
        messages = exact(await response.read())["messages"]
    assert messages[-1] == exact(text)
    async with client.request("GET", f"/{row['id']}") as response:
        assert exact(await response.read())["messages"] == messages


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
async def test_what_cannot_be_kept_is_refused(client: SandboxClient, value: bytes) -> None:
    made = await client.create()
    for method, path, field in (
        ("POST", "", b"messages"),
        ("POST", "", b"sbx_config"),
        ("PATCH", f"/{made['id']}", b"messages"),
        ("POST", f"/{made['id']}/messages", b"message"),
    ):
        status, answer = await client.call(method, path, data=b'{"%s": %s}' % (field, value))
        assert (status, answer["code"]) == (400, "INVALID_REQUEST"), answer
        assert answer["error"].startswith((f"{field.decode()}: ", "The body is n")), answer
    assert await client.get(made["id"]) == made


async def test_a_body_has_at_most_1_mib(client: SandboxClient) -> None:
    frame = len('{"messages":""}')
    row = await client.create()
    for size, expected in ((MIB, 201), (MIB + 1, 413)):
        body = b'{"messages":"%s"}' % (b"a" * (size - frame))
        assert len(body) == size
        status, answer = await client.call("POST", "", data=io.BytesIO(body))
        assert status == expected
        if status == 413:
            assert answer["code"] == "PAYLOAD_TOO_LARGE"
    for method, path in (("PATCH", f"/{row['id']}"), ("POST", f"/{row['id']}/messages"), ("POST", "/claim")):
        status, answer = await client.call(method, path, data=io.BytesIO(b'{"messages":"%s"}' % (b"a" * MIB)))
        assert (status, answer["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_other_routes_keep_their_limit(service: Service) -> None:
    body = b'{"deviceId":"d","other":"%s"}' % (b"a" * 65_000)
    async with service.http.post("/api/sessions", data=body, headers=bearer()) as response:
        assert response.status == 201
    async with service.http.post("/api/sessions", data=body + b" " * 1000, headers=bearer()) as response:
        assert response.status == 413
        assert (await response.json())["code"] == "PAYLOAD_TOO_LARGE"


async def test_a_field_that_is_too_large_as_it_is_stored_is_named(client: SandboxClient) -> None:
    many = "[" + ",".join("1" * 200_000) + "]"
    for field in ("messages", "sbx_config"):
        status, answer = await client.call("POST", "", data=f'{{"{field}": {many}}}'.encode())
        assert (status, answer["code"]) == (413, "PAYLOAD_TOO_LARGE")
        assert answer["error"].startswith(f"{field}: ")
    row = await client.create(messages=["a" * 1_000_000])
    status, answer = await client.call("POST", f"/{row['id']}/messages", json={"message": "b" * 100_000})
    assert (status, answer["error"].split(":")[0]) == (413, "messages")
    assert (await client.get(row["id"]))["messages"] == row["messages"]


async def test_nobody_can_write_what_would_be_gigabytes_as_text(client: SandboxClient, database: Database) -> None:
    """Not by SQL either: a pod that reads it for somebody would be at its end."""
    connection = await asyncpg.connect(database.owner_dsn)
    row = await client.create()
    for column in ("messages", "sbx_config"):
        huge = "'[" + ",".join(["1e131071"] * 100) + "]'"
        with pytest.raises(asyncpg.CheckViolationError, match=f"{column}: has more than 8 MiB as text") as raised:
            await connection.execute(f"INSERT INTO session ({column}) VALUES ({huge})")  # noqa: S608 - of the test
        assert raised.value.constraint_name == f"session_{column}_size"
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(
                f"UPDATE session SET {column} = {huge} WHERE id = $1",  # noqa: S608 - of the test
                row["id"],
            )
    await connection.execute("UPDATE session SET messages = '[1e131071]' WHERE id = $1", row["id"])
    await connection.close()
    async with client.request("GET", f"/{row['id']}") as response:
        assert len(exact(await response.read())["messages"][0].as_tuple().digits) == 131_072
