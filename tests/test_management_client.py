"""The client of the control plane against other servers than ours: long work told in every way that ARM has, failures, and lies.

The server here answers what a test wrote down. What Carrel itself answers is tested by test_control_plane.py.
"""

from __future__ import annotations

import inspect
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest

from carrel.client import (
    ApiError,
    AsyncIdentities,
    AsyncManagement,
    FixedCredential,
    Identities,
    Management,
    OperationFailed,
    PoolSettings,
    ServerCredential,
    Token,
    by_identity,
    by_secret,
)
from carrel.client.operations import retry_after, wait_of
from scripted import Script

POOL = {
    "id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p",
    "name": "p",
    "properties": {"provisioningState": "Succeeded", "containerType": "PythonLTS"},
}


@pytest.fixture
def arm(script: Script) -> Iterator[Management]:
    with Management(script.url, "token", subscription="s", resource_group="g") as management:
        yield management


def test_both_clients_have_the_same_methods() -> None:
    """What one can do the other can, with the same arguments."""

    def methods(kind: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(each).parameters) for name, each in functions if not name.startswith("_")}

    plain = methods(Management)
    plain["aclose"] = plain.pop("close")
    assert plain == methods(AsyncManagement)
    assert methods(Identities) == methods(AsyncIdentities)


# ---- long work -----------------------------------------------------------------------------------------------------------------


def test_a_status_document_is_followed_and_the_resource_asked_for(script: Script, arm: Management) -> None:
    """Each look is told of; the token goes along."""
    status = {"Azure_AsyncOperation": "HERE/status?t=1", "Retry_After": "0"}
    script.say(201, {**POOL, "properties": {"provisioningState": "InProgress"}}, **status)
    script.say(200, {"status": "InProgress"}, Retry_After="0")
    script.say(200, {"status": "Succeeded"})
    script.say(200, POOL, ETag='"7"')
    told: list[str] = []

    pool = arm.create_pool("p", PoolSettings(max_sessions=3), on_progress=lambda each: told.append(each.state))

    assert (pool.state, pool.etag, pool.resource_group) == ("Succeeded", '"7"', "g")
    assert script.lines[1:] == ["GET /status", "GET /status", f"GET {POOL['id']}"]
    assert {headers["Authorization"] for _, _, headers, _ in script.asked} == {"Bearer token"}
    assert script.asked[0][3] == {
        "location": "local",
        "properties": {"poolManagementType": "Dynamic", "scaleConfiguration": {"maxConcurrentSessions": 3}},
    }
    assert told == ["InProgress", "InProgress"]


def test_a_location_is_followed_until_it_answers_otherwise(script: Script, arm: Management) -> None:
    script.say(202, None, Location="HERE/one", Retry_After="0")
    script.say(202, None, Location="HERE/two", Retry_After="0")
    script.say(204)

    assert arm.delete_pool("p") is True
    assert script.lines[1:] == ["GET /one", "GET /two"]


def test_a_resource_that_is_being_made_is_asked_itself(script: Script, arm: Management) -> None:
    """Where no header leads anywhere."""
    script.say(201, {**POOL, "properties": {"provisioningState": "InProgress"}}, Retry_After="0")
    script.say(200, POOL)
    script.say(200, POOL)

    assert arm.create_pool("p").state == "Succeeded"


def test_nothing_to_delete_is_told(script: Script, arm: Management) -> None:
    script.say(204)

    assert arm.delete_pool("p") is False


def test_work_that_fails_says_why(script: Script, arm: Management) -> None:
    script.say(202, None, Azure_AsyncOperation="HERE/status", Retry_After="0")
    script.say(200, {"status": "Failed", "error": {"code": "ImageBroken", "message": "no", "target": "properties.x"}})

    with pytest.raises(OperationFailed) as caught:
        arm.update_pool("p", PoolSettings(max_sessions=3))

    assert (caught.value.code, caught.value.message, caught.value.target) == ("ImageBroken", "no", "properties.x")


def test_one_need_not_wait(script: Script, arm: Management) -> None:
    script.say(201, POOL, Azure_AsyncOperation="HERE/status")

    assert arm.create_pool("p", is_waiting=False).name == "p"
    assert len(script.asked) == 1


def test_waiting_has_an_end(script: Script, arm: Management) -> None:
    script.say(202, None, Location="HERE/one", Retry_After="7")

    with pytest.raises(TimeoutError, match="goes on"):
        arm.delete_pool("p", timeout=0.1)


@pytest.mark.parametrize("header", ["Azure_AsyncOperation", "Location"])
def test_the_token_goes_nowhere_else(script: Script, arm: Management, header: str) -> None:
    """An answer that leads to another host, port or scheme is not followed."""
    for url in ("http://127.0.0.1:1/x", "https://evil.example/x", f"{script.url}@evil.example/x"):
        script.say(202, None, **{header: url})
        with pytest.raises(ApiError, match="not itself"):
            arm.delete_pool("p")


def test_pages_are_followed_at_home_only(script: Script, arm: Management) -> None:
    script.say(200, {"value": [POOL], "nextLink": "HERE/next?a=b%20c&api-version=1"})
    script.say(200, {"value": [POOL], "nextLink": None})
    assert [each.name for each in arm.pools()] == ["p", "p"]
    assert script.asked[1][1] == "/next?a=b%20c&api-version=1"

    script.say(200, {"value": [POOL], "nextLink": "http://localhost:1/next"})
    with pytest.raises(ApiError, match="not itself"):
        arm.pools()


# ---- failures ------------------------------------------------------------------------------------------------------------------


def test_only_what_may_be_repeated_is(script: Script, arm: Management) -> None:
    """After the time that the server asks for."""
    script.say(429, None, Retry_After="0")
    script.say(503, None, Retry_After="0.3")
    script.say(200, POOL)
    began = time.monotonic()
    assert arm.pool("p").name == "p"
    assert time.monotonic() - began >= 0.3

    script.say(503, None, Retry_After="0")
    with pytest.raises(ApiError):
        arm.update_pool("p", PoolSettings(max_sessions=1))
    script.say(503, None, Retry_After="0")
    with pytest.raises(ApiError):
        arm.rotate_mcp_key("p")
    assert len(script.asked) == 5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("-4", 0),
        ("nan", 2),
        ("1e99", 60),
        ("soon", 2),
        ("", 2),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ],
)
def test_retry_after_is_a_bounded_number_of_seconds(text: str, seconds: float) -> None:
    assert wait_of(httpx.Response(429, headers={"Retry-After": text})) == seconds


def test_trying_again_has_an_end() -> None:
    assert [retry_after("GET", attempt, None) is None for attempt in range(5)] == [False, False, False, True, True]
    assert retry_after("GET", 0, httpx.Response(404)) is None
    assert retry_after("PATCH", 0, httpx.Response(429)) is None


def test_all_that_is_wrong_is_told(script: Script, arm: Management) -> None:
    inner = [{"code": "A", "message": "one", "target": "x"}, {"code": "B", "message": "two"}, "nonsense", None]
    script.say(400, {"error": {"code": "Invalid", "message": "both", "details": inner}})

    with pytest.raises(ApiError) as caught:
        arm.create_pool("p")

    assert [(each.code, each.target) for each in caught.value.details[:2]] == [("A", "x"), ("B", None)]


@pytest.mark.parametrize("name", ["../../x", "a/b", "a?b#c", "ä b", "%2e%2e"])
def test_a_name_is_one_segment_of_the_path(script: Script, arm: Management, name: str) -> None:
    """Whatever it is: it leads to no other resource."""
    script.say(404, {"error": {"code": "ResourceNotFound", "message": "no"}})
    with pytest.raises(ApiError):
        arm.pool(name)

    path = script.asked[0][1].partition("?")[0]
    assert path.count("/") == str(POOL["id"]).count("/")


@pytest.mark.parametrize("body", [[], "text", {}, {"value": 5}, {"value": [None]}, {"value": [{"id": 5}]}, None])
def test_what_is_no_answer_of_this_api_is_an_error(script: Script, arm: Management, body: Any) -> None:
    """Not a crash: what stands at an address may be anything."""
    script.say(200, body)
    with pytest.raises(ApiError, match="endpoint"):
        arm.pools()
    script.say(200, body)
    with pytest.raises(ApiError, match="endpoint"):
        arm.pool("p")


@pytest.mark.parametrize(
    "body",
    [
        {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret.\r\nTrace ID: 1"},
        {"error": {"code": "invalid_client", "message": "AADSTS7000215: Invalid client secret."}},
    ],
)
def test_an_authoritys_no_is_told(script: Script, body: Any) -> None:
    """In its own words, the first line of them."""
    credential = ServerCredential(by_secret(script.url, "tenant", "client", "wrong"))
    script.say(401, body)
    with pytest.raises(ApiError) as caught:
        credential.get_token("https://x/.default")

    assert (caught.value.code, caught.value.message) == ("invalid_client", "AADSTS7000215: Invalid client secret.")
    assert script.lines == ["POST /tenant/oauth2/v2.0/token"]


@pytest.mark.parametrize("body", [[], "text", {}, {"access_token": 5}, None])
def test_an_authority_that_makes_no_sense_is_an_error(script: Script, body: Any) -> None:
    script.say(200, body)
    with pytest.raises(ApiError):
        ServerCredential(by_identity(f"{script.url}/msi", "header")).get_token("https://x/.default")


def test_a_token_is_kept_until_shortly_before_its_end(script: Script) -> None:
    """By scope; an end that is no number is none."""
    credential = ServerCredential(by_identity(f"{script.url}/msi", "header"))
    for number, ends in enumerate([time.time() + 3600, time.time() + 60, "soon", 1e400]):
        script.say(200, {"access_token": f"t{number}", "expires_on": str(ends)[:10]})

    assert [credential.get_token("https://x/.default").token for _ in range(2)] == ["t0", "t0"]
    assert [credential.get_token("https://y/.default").token for _ in range(3)] == ["t1", "t2", "t3"]
    assert "resource=https%3A%2F%2Fx" in script.asked[0][1]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_never_means_what_is_above(script: Script, arm: Management, name: str) -> None:
    for call in (arm.pool, arm.delete_pool, arm.delete_group):
        with pytest.raises(ApiError, match="no name"):
            call(name)
    with pytest.raises(ApiError, match="no name"):
        arm.pool("p", resource_group=name)
    assert script.asked == []


@pytest.mark.parametrize(
    "wrong",
    [
        "/subscriptions/s/resourceGroups/g",
        "/x/providers/Microsoft.Authorization/roleAssignments/no-guid",
        f"/a/../providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}",
        f"/a?/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}",
        f"//evil.example/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}/../../x",
        "",
    ],
)
def test_only_role_assignments_are_deleted_as_such(script: Script, arm: Management, wrong: str) -> None:
    """The id of a resource group would delete the group."""
    with pytest.raises(ApiError, match="no id of a role assignment"):
        arm.remove_assignment(wrong)
    right = f"/subscriptions/s/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    script.say(204)
    assert arm.remove_assignment(right) is False
    assert script.lines == [f"DELETE {right}"]


def test_a_fixed_token_goes_to_its_own_plane() -> None:
    """One without an audience, which is no JWT, anywhere."""

    def token(audience: str) -> str:
        return jwt.encode({"aud": audience, "exp": 2**33}, "k" * 32)

    data, arm = token("https://acasessions.io"), token("https://localhost:8443/")
    credential = FixedCredential(arm, data)
    assert credential.get_token("https://dynamicsessions.io/.default").token == data
    assert credential.get_token("https://management.azure.com/.default").token == arm
    assert FixedCredential("opaque").get_token("https://management.azure.com/.default").token == "opaque"
    with pytest.raises(ApiError, match="none of the tokens"):
        FixedCredential(data).get_token("https://management.azure.com/.default")


# ---- credentials ---------------------------------------------------------------------------------------------------------------


def test_azure_cores_credentials_are_asked_for_each_call(script: Script) -> None:
    """By scope, as azure-identity's are; the asynchronous client takes those of azure.identity.aio."""
    asked: list[str] = []

    class Plain:
        def get_token(self, *scopes: str, **_: Any) -> Token:
            asked.extend(scopes)
            return Token(f"t{len(asked)}", int(time.time()) + 3600)

    with Management(script.url, Plain(), subscription="s") as management:
        for _ in range(2):
            script.say(200, {"value": []})
            management.groups()
    assert asked == ["https://management.azure.com/.default"] * 2
    assert [headers["Authorization"] for _, _, headers, _ in script.asked] == ["Bearer t1", "Bearer t2"]
    assert "t1" not in repr(Token("t1", 1))


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(script: Script) -> None:
    class Plain:
        async def get_token(self, *_: str, **__: Any) -> Token:
            return Token("t", int(time.time()) + 3600)

    script.say(503, None, Retry_After="0")
    script.say(200, POOL)
    script.say(202, None, Location="HERE/one", Retry_After="0")
    script.say(200)
    script.say(200, {"value": [POOL], "nextLink": "HERE/next"})
    script.say(200, {"value": [POOL]})
    async with AsyncManagement(script.url, Plain(), subscription="s") as management:
        assert (await management.pool("p")).name == "p"
        assert await management.delete_pool("p") is True
        assert len(await management.pools()) == 2


ROLE: Callable[[str], dict[str, Any]] = lambda guid: {  # noqa: E731
    "id": f"/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/{guid}",
    "name": guid,
    "properties": {"roleName": "It's a role"},
}


def test_roles_are_found_by_name(script: Script, arm: Management) -> None:
    """A quote in a name stays within the filter."""
    script.say(200, {"value": [ROLE("g1")]})
    bag = {"roleDefinitionId": ROLE("g1")["id"], "principalId": "who", "scope": "/subscriptions/s"}
    script.say(201, {"id": "/x", "name": "n", "properties": bag})

    given = arm.assign_role("It's a role", "who", kind="User")

    assert given.role_guid == "g1"
    assert httpx.URL(script.url + script.asked[0][1]).params["$filter"] == "roleName eq 'It''s a role'"
    assert script.asked[1][3]["properties"]["principalType"] == "User"
    script.say(200, {"value": []})
    with pytest.raises(ApiError) as caught:
        arm.assign_role("none", "who")
    assert caught.value.status == 404
