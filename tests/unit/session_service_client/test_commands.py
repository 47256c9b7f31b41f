"""Commands that wait for an answer, over as many sockets as it takes."""

import pytest
from session_service_client.commands import Commands
from session_service_client.errors import ConnectionEndedError, ServiceError


async def test_an_answer_goes_to_the_command_with_its_request_id() -> None:
    commands = Commands()
    one, two = commands.add("r1", {"type": "a"}), commands.add("r2", {"type": "b"})
    assert commands.answered({"type": "result", "requestId": "r2", "success": True, "status": "RUNNING"})
    assert (await two.answer)["status"] == "RUNNING"
    assert not one.answer.done()
    assert not commands.answered({"type": "result", "requestId": "unknown", "success": True})


async def test_a_refusal_is_raised_with_its_code() -> None:
    commands = Commands()
    command = commands.add("r1", {})
    commands.answered(
        {"type": "result", "requestId": "r1", "success": False, "code": "UNKNOWN_SYMBOL", "error": "no"}
    )
    with pytest.raises(ServiceError) as raised:
        await command.answer
    assert (raised.value.code, raised.value.message, raised.value.status) == ("UNKNOWN_SYMBOL", "no", None)


async def test_an_error_frame_answers_too() -> None:
    commands = Commands()
    command = commands.add("r1", {})
    commands.answered({"type": "error", "requestId": "r1", "errorCode": "INVALID_REQUEST", "message": "no"})
    with pytest.raises(ServiceError, match="INVALID_REQUEST"):
        await command.answer


async def test_a_rejected_order_is_an_answer() -> None:
    commands = Commands()
    command = commands.add("r1", {})
    frame = {"type": "result", "requestId": "r1", "success": False, "code": "ORDER_REJECTED", "status": "REJECTED"}
    commands.answered(frame)
    assert await command.answer == frame


async def test_each_socket_is_given_what_has_no_answer_yet() -> None:
    commands = Commands()
    command = commands.add("r1", {})
    first, second = object(), object()
    assert list(commands.unsent(first)) == [command]
    command.sent_over = first
    assert list(commands.unsent(first)) == []
    assert list(commands.unsent(second)) == [command]
    commands.remove("r1")
    assert list(commands.unsent(second)) == []


async def test_a_request_id_waits_once() -> None:
    commands = Commands()
    commands.add("r1", {})
    with pytest.raises(ValueError, match="r1"):
        commands.add("r1", {})


async def test_at_the_end_everyone_who_waits_is_told() -> None:
    commands = Commands()
    command = commands.add("r1", {})
    commands.fail(ConnectionEndedError("SESSION_ENDED", "ended", close_code=4503))
    with pytest.raises(ConnectionEndedError, match="SESSION_ENDED"):
        await command.answer
