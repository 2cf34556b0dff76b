"""Azure's `.management` routes: looked at and stopped by name, without making a session."""

from __future__ import annotations

import pytest

from endpoint import V24_02, V25_02, V25_10, Endpoint, error_of

pytestmark = pytest.mark.one_level


def post(endpoint: Endpoint, route: str, version: str = V25_02, **query: str) -> tuple[int, object]:
    reply = endpoint.send("POST", f".management/{route}", version=version, query=query)
    return reply.status_code, reply.json() if "json" in reply.headers["content-type"] else reply.text


@pytest.mark.parametrize("version", [V24_02, V25_02, V25_10])
def test_a_session_is_shown_with_its_end_spelled_otherwise(endpoint: Endpoint, version: str) -> None:
    endpoint.run("0")
    plain = endpoint.send("GET", "session").json()

    status, managed = post(endpoint, "getSession", version)

    assert (status, managed) == (
        200,
        {**{k: v for k, v in plain.items() if k != "expireAt"}, "expiresAt": plain["expireAt"]},
    )


def test_looking_makes_no_session_and_keeps_none_alive(endpoint: Endpoint) -> None:
    for route in ("getSession", "stopSession"):
        reply = endpoint.send("POST", f".management/{route}")
        assert (reply.status_code, error_of(reply)["code"]) == (400, "SessionWithIdentifierNotFound")
        assert error_of(reply)["target"] == "identifier"
    assert endpoint.send("GET", "session").status_code == 404
    endpoint.run("0")
    first = post(endpoint, "getSession")
    assert post(endpoint, "getSession") == first


def test_the_list_is_paged_and_counts(endpoint: Endpoint) -> None:
    endpoint.run("0")
    status, page = post(endpoint, "listSessions", skip="0")

    assert status == 200
    assert isinstance(page, dict)
    assert endpoint.identifier in [each["identifier"] for each in page["value"]]
    assert (page["count"], page["nextLink"]) == (len(page["value"]), None)
    assert set(page["value"][0]) == {"identifier", "etag", "createdAt", "lastAccessedAt", "expiresAt"}
    assert post(endpoint, "listSessions", skip="10000") == (200, {"value": [], "count": 0, "nextLink": None})
    assert post(endpoint, "listSessions", skip="x")[0] == 400


def test_stopping_ends_the_session(endpoint: Endpoint) -> None:
    """In Azure's words, as plain text; a second time there is none."""
    endpoint.run("x = 1")

    answer = post(endpoint, "stopSession")

    assert answer == (200, f"Session {endpoint.identifier} in session pool python stopped.")
    assert post(endpoint, "stopSession")[0] == 400
    assert endpoint.result("'x' in globals()") is False


def test_only_post_is_taken_and_an_identifier_needed(shared: Endpoint) -> None:
    reply = shared.send("GET", ".management/getSession")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    reply = shared.send("POST", ".management/getSession", query={"identifier": "abc"})
    assert (reply.status_code, error_of(reply)["code"]) == (400, "InvalidLengthOfSessionIdentifier")
