import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.telemetry.redaction import REDACTED, is_secret_key, redact_text, redact_value

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJjYW5hcnkiLCJleHAiOjF9.Y2FuYXJ5LXNpZ25hdHVyZQ"
OPAQUE = "canary-0123456789"
WRAPPED = base64.urlsafe_b64encode(JWT.encode()).decode().rstrip("=")

CARRIERS = {
    "header": "Authorization: Bearer {}",
    "header in lower case": "authorization: bearer {}",
    "header, encoded": "h=Bearer%20{}",
    "header in a dict": "{{'Authorization': 'Bearer {}'}}",
    "query": "GET /ws?deviceId=d&token={}&attempt=1 HTTP/1.1",
    "query at the end": "GET /ws?access_token={}",
    "query, encoded": "next=/ws%3Ftoken%3D{}%26a=1",
    "JSON": '{{"type":"authenticate","token":"{}"}}',
    "JSON in JSON": json.dumps({"m": '{{"type": "authenticate", "token": "{}"}}'})
    .replace("{{", "{{")
    .replace("}}", "}}"),
    "camel case": '{{"sessionToken": "{}"}}',
    "repr of a dict": "{{'token': '{}', 'x': 1}}",
    "repr of a struct": "Authenticate(token='{}')",
    "subprotocol": "session.v1, bearer.{}",
    "after an escaped line feed": "first line\\nBearer {}",
    "environment": "SECRET_KEY={}",
    "password": "postgres: password={} host=x",
}


@pytest.mark.parametrize("carrier", CARRIERS.values(), ids=CARRIERS)
@pytest.mark.parametrize("secret", [JWT, OPAQUE, WRAPPED], ids=["jwt", "opaque", "wrapped"])
def test_no_carrier_lets_a_secret_through(carrier: str, secret: str) -> None:
    text = carrier.replace("{{", "{").replace("}}", "}").replace("{}", secret)
    assert secret in text
    redacted = redact_text(text)
    assert secret not in redacted
    assert REDACTED in redacted
    for piece in secret.split("."):
        assert piece not in redacted


@pytest.mark.parametrize("around", ["{}", "\\n{}", "x{}", "'{}'", "[{}]", "a,{},b", "<{}>", "id-{}"])
@pytest.mark.parametrize("secret", [JWT, JWT[:-5], JWT.rsplit(".", 1)[0] + ".", WRAPPED])
def test_a_jwt_needs_no_carrier(around: str, secret: str) -> None:
    redacted = redact_text(around.format(secret))
    assert "eyJ" not in redacted
    assert "ZXlK" not in redacted


@pytest.mark.parametrize(
    "text",
    [
        "session_service.sessions.session_ops created session 018f3c1e-aaaa-7bbb-8ccc-0123456789ab",
        "simulator-ab12.default.svc.cluster.local:50055 is away",
        "invalid token: expired",
        '{"event":"they renewed a key","keys":3,"token":null}',
        "SELECT * FROM session.active_sessions WHERE session_id = $1",
        "",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


def test_json_stays_json() -> None:
    line = json.dumps({"token": JWT, "n": {"access_token": OPAQUE, "url": f"/ws?token={OPAQUE}"}, "after": 1})
    assert json.loads(redact_text(line)) == {
        "token": REDACTED,
        "n": {"access_token": REDACTED, "url": f"/ws?token={REDACTED}"},
        "after": 1,
    }


@given(st.text())
def test_redacting_again_changes_nothing(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


parts = st.text("ABCabc012-_", min_size=12, max_size=40)


@given(st.text(max_size=30), parts, parts, st.text(max_size=30))
def test_a_jwt_anywhere_in_any_text_is_gone(before: str, claims: str, signature: str, after: str) -> None:
    token = f"eyJhbGciOiJIUzI1NiJ9.eyJ{claims}.{signature}"
    assert token not in redact_text(before + token + after)


@pytest.mark.parametrize(
    "key", ["token", "access_token", "sessionToken", "Authorization", "SECRET_KEY", "DB_PASSWORD"]
)
def test_telling_keys(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ["tokens_verified", "event", "session_id", "key", "token_count"])
def test_other_keys(key: str) -> None:
    assert not is_secret_key(key)


def test_values_are_replaced_by_key_at_any_depth() -> None:
    value = {"a": [{"token": "x", "b": ({"password": "y"}, 1)}], "token": None}
    assert redact_value(value) == {"a": [{"token": REDACTED, "b": [{"password": REDACTED}, 1]}], "token": None}
