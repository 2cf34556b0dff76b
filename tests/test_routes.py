"""From a raw path and query to a route: what callers' URLs mean."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel import errors
from carrel.server.request import decode_query, decode_target
from carrel.server.routes import FIXED, find

POOL = b"/subscriptions/s/resourceGroups/g/sessionPools/p"


@pytest.mark.parametrize(
    ("path", "identifier", "rest"),
    [
        (POOL + b"/code/execute", None, b"code/execute"),
        (POOL.lower() + b"//code//execute/", None, b"code/execute"),
        (b"//" + POOL[1:] + b"/files", None, b"files"),
        (POOL + b"/identifier/a%2Fb%40c/code/execute", "a/b@c", b"code/execute"),
        (POOL, None, b""),
        (POOL + b"/files/content//mnt/data/a.txt", None, b"files/content/mnt/data/a.txt"),
    ],
)
def test_a_pools_endpoint_is_found_in_the_raw_path(path: bytes, identifier: str | None, rest: bytes) -> None:
    target = decode_target(path)

    assert target is not None
    assert (target.subscription.lower(), target.resource_group, target.pool) == ("s", "g", "p")
    if b"//mnt" not in path:
        assert (target.identifier, target.rest) == (identifier, rest)
    else:  # an absolute name behind our own slash is that name
        assert target.rest == b"files/content/a.txt"


@pytest.mark.parametrize(
    "path", [b"/", b"/subscriptions/s", b"/subscriptions/s/resourceGroups/g/sessionPools", b"/x" + POOL, b""]
)
def test_any_other_path_is_not_a_pool(path: bytes) -> None:
    assert decode_target(path) is None


@pytest.mark.parametrize(
    ("rest", "pattern", "argument"),
    [
        (b"code/execute", "code/execute", ""),
        (b"Python/UploadFile", "python/uploadFile", ""),
        (b"listsessions", "listSessions", ""),
        (b"executions/a%2Fb", "executions/{id}", "a/b"),
        (b"executions/a.b/Cancel", "executions/{id}/cancel", "a.b"),
        (b"executions/cancel", "executions/{id}", "cancel"),
        (b".Management/getsession", ".management/getSession", ""),
        (b"session/Variables", "session/variables", ""),
        (b"files/a.txt", "files/{name}", "a.txt"),
        (b"files/sub/a%20b.txt", "files/{name}", "sub/a b.txt"),
        (b"files/sub%2Fa.txt/content", "files/{name}/content", "sub/a.txt"),
        (b"files/%E6%97%A5.csv/content", "files/{name}/content", "日.csv"),
        (b"files/content/sub/a.txt", "files/content/{name}", "sub/a.txt"),
        (b"files/content/a.txt/content", "files/content/{name}", "a.txt/content"),
        (b"files/content", "files/{name}", "content"),
        (b"files/upload", "files/upload", "upload"),
        (b"files/100%25.txt", "files/{name}", "100%.txt"),
    ],
)
def test_a_route_is_found_and_its_name_decoded_once(rest: bytes, pattern: str, argument: str) -> None:
    route = find(rest)

    assert route is not None
    assert (route.pattern, route.argument) == (pattern, argument)


@pytest.mark.parametrize(
    "rest", [b"", b"nope", b"code", b"code/execute/x", b"mcp", b".management/x", b"metadata/x", b"session/x"]
)
def test_any_other_path_is_no_route(rest: bytes) -> None:
    assert find(rest) is None


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(errors.RequestInvalid):
        find(b"files/%FF")


def test_a_method_that_is_not_there_is_told_which_are() -> None:
    with pytest.raises(errors.MethodNotAllowed) as caught:
        FIXED["session"].handler("POST")
    assert caught.value.headers == {"Allow": "DELETE, GET, HEAD, PUT"}
    assert FIXED["files"].handler("HEAD") is FIXED["files"].handler("GET")


def test_query_names_match_in_any_case_and_values_are_decoded() -> None:
    assert decode_query(b"Identifier=a%20b%2Fc&API-Version=v&path=") == {
        "identifier": "a b/c",
        "api-version": "v",
        "path": "",
    }
    assert decode_query(b"identifier=same&identifier=same") == {"identifier": "same"}


def test_a_name_may_come_more_than_once() -> None:
    """The one parameter that is a list."""
    assert decode_query(b"name=a&Name=b&name=c,d") == {"name": "a,b,c,d"}


@pytest.mark.parametrize("query", [b"identifier=a&identifier=b", b"x=%FF", b"\xff=1", b"&".join([b"a=1"] * 60)])
def test_an_ambiguous_or_broken_query_is_refused(query: bytes) -> None:
    with pytest.raises(errors.RequestInvalid):
        decode_query(query)


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_no_path_or_query_breaks_the_parser(path: bytes, query: bytes) -> None:
    """Anything but a clean error would be a 500."""
    try:
        target = decode_target(POOL + b"/" + path)
        assert target is not None
        find(target.rest)
        decode_query(query)
    except errors.RequestInvalid:
        pass


def test_long_paths_and_queries_are_not_kept() -> None:
    """Paths are looked at before anybody knows who asks: kept, a thousand of 64 kB were 150 MB of the gateway's for ever."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(300):
            decode_target(b"/subscriptions/%d/resourceGroups/g/sessionPools/%s/mcp" % (number, b"p" * 50_000))
            decode_query(b"identifier=%d%s" % (number, b"i" * 50_000))
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 2**20
