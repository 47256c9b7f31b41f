"""Document 004, "API Endpoints": each endpoint's answers, as they are written there."""

from __future__ import annotations

import uuid

import pytest

from tests.support.named_client import NamedClient

pytestmark = pytest.mark.asyncio(loop_scope="module")


# --- GET /sessions/ ------------------------------------------------------------------------------------------------


async def test_the_list_holds_all_sessions_of_the_caller(user: NamedClient, another_user: NamedClient) -> None:
    first, second = await user.create("Data Analysis Project"), await user.create("Machine Learning Model")
    await another_user.create("Somebody else's")
    status, body = await user.call("GET", "/")
    assert status == 200
    assert body == [
        {"id": first, "user_id": user.user_id, "title": "Data Analysis Project", "active": False},
        {"id": second, "user_id": user.user_id, "title": "Machine Learning Model", "active": True},
    ]


async def test_the_list_of_a_user_without_sessions_is_empty(user: NamedClient) -> None:
    assert await user.call("GET", "/") == (200, [])


async def test_answers_are_json(user: NamedClient) -> None:
    await user.create("A")
    for method, path in (("GET", "/"), ("GET", "/active"), ("POST", "/active/A"), ("POST", "/"), ("DELETE", "/nope")):
        async with user.request(method, path) as response:
            assert response.content_type == "application/json", (method, path)


# --- GET /sessions/active ------------------------------------------------------------------------------------------


async def test_the_active_session_is_a_bare_json_string(user: NamedClient) -> None:
    session_id = await user.create("A")
    async with user.request("GET", "/active") as response:
        assert response.status == 200
        assert await response.text() == f'"{session_id}"'
    assert str(uuid.UUID(session_id)) == session_id


async def test_without_an_active_session_the_lookup_is_404(user: NamedClient) -> None:
    status, body = await user.call("GET", "/active")
    assert status == 404
    assert body.keys() == {"detail"}
    assert isinstance(body["detail"], str)


async def test_the_lookup_is_of_the_caller_only(user: NamedClient, another_user: NamedClient) -> None:
    await another_user.create("A")
    assert (await user.call("GET", "/active"))[0] == 404


# --- POST /sessions/ -----------------------------------------------------------------------------------------------


async def test_creating_answers_200_with_the_session(user: NamedClient) -> None:
    status, body = await user.call("POST", "/", json={"title": "New Analysis Session"})
    assert status == 200
    assert body == {
        "id": str(uuid.UUID(body["id"])),
        "user_id": user.user_id,
        "title": "New Analysis Session",
        "active": True,
    }


async def test_creating_makes_it_the_active_one(user: NamedClient) -> None:
    session_id = await user.create("A")
    assert await user.active() == session_id


async def test_creating_with_a_title_of_the_users_is_409(user: NamedClient) -> None:
    session_id = await user.create("A")
    status, body = await user.call("POST", "/", json={"title": "A"})
    assert status == 409
    assert body.keys() == {"detail"}
    assert isinstance(body["detail"], str)
    assert await user.titles() == {"A": True}
    assert await user.active() == session_id


async def test_a_refused_title_leaves_the_active_session_active(user: NamedClient) -> None:
    await user.create("A")
    session_id = await user.create("B")
    assert (await user.call("POST", "/", json={"title": "A"}))[0] == 409
    assert await user.titles() == {"A": False, "B": True}
    assert await user.active() == session_id


async def test_nothing_but_the_title_is_taken_from_the_body(user: NamedClient) -> None:
    forged = {"title": "A", "user_id": 1, "active": False, "id": "550e8400-e29b-41d4-a716-446655440000"}
    status, body = await user.call("POST", "/", json=forged)
    assert status == 200
    assert (body["user_id"], body["active"]) == (user.user_id, True)
    assert body["id"] != forged["id"]


# --- POST /sessions/active/{title} ---------------------------------------------------------------------------------


async def test_activating_by_title(user: NamedClient) -> None:
    first = await user.create("Data Analysis Project")
    await user.create("B")
    status, body = await user.call("POST", "/active/Data%20Analysis%20Project")
    assert status == 200
    assert body == {"detail": f"'Data Analysis Project' set as active session for user_id={user.user_id}"}
    assert await user.active() == first


async def test_activating_what_is_active_already_changes_nothing(user: NamedClient) -> None:
    session_id = await user.create("A")
    assert (await user.call("POST", "/active/A"))[0] == 200
    assert await user.titles() == {"A": True}
    assert await user.active() == session_id


async def test_activating_an_unknown_title_is_404(user: NamedClient) -> None:
    session_id = await user.create("A")
    status, body = await user.call("POST", "/active/B")
    assert status == 404
    assert body.keys() == {"detail"}
    assert isinstance(body["detail"], str)
    assert await user.active() == session_id


async def test_somebody_elses_title_is_as_one_that_is_not_there(user: NamedClient, another_user: NamedClient) -> None:
    await another_user.create("Theirs")
    for method, path in (("POST", "/active/{}"), ("DELETE", "/{}")):
        theirs = await user.call(method, path.format("Theirs"))
        nobodys = await user.call(method, path.format("Nobody"))
        assert theirs[0] == nobodys[0] == 404
        assert str(theirs[1]).replace("Theirs", "Nobody") == str(nobodys[1])
    assert await another_user.titles() == {"Theirs": True}


# --- DELETE /sessions/{title} --------------------------------------------------------------------------------------


async def test_deleting_by_title(user: NamedClient) -> None:
    await user.create("A")
    await user.create("B")
    assert await user.call("DELETE", "/A") == (200, {"detail": "Session deleted successfully"})
    assert await user.titles() == {"B": True}


async def test_deleting_an_unknown_title_is_404(user: NamedClient) -> None:
    status, body = await user.call("DELETE", "/A")
    assert status == 404
    assert body.keys() == {"detail"}
    assert isinstance(body["detail"], str)


async def test_deleting_the_active_session_is_400(user: NamedClient) -> None:
    session_id = await user.create("A")
    status, body = await user.call("DELETE", "/A")
    assert status == 400
    assert body.keys() == {"detail"}
    assert isinstance(body["detail"], str)
    assert await user.active() == session_id


async def test_a_session_named_active_can_be_deleted_and_activated(user: NamedClient) -> None:
    """Against GET the route ``/sessions/active`` wins; the other methods have only the title there."""
    await user.create("active")
    await user.create("B")
    assert (await user.call("POST", "/active/active"))[0] == 200
    assert await user.titles() == {"active": True, "B": False}
    await user.call("POST", "/active/B")
    assert (await user.call("DELETE", "/active"))[0] == 200
    assert await user.titles() == {"B": True}
