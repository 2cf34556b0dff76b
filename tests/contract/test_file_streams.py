"""Archives and watches over HTTP."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from endpoint import NEW_FILES, OLD_FILES, Endpoint, error_of

TAR = {"Accept": "application/x-tar"}
EVENTS = {"Accept": "text/event-stream"}


@contextlib.contextmanager
def streamed(endpoint: Endpoint, where: str, headers: dict[str, str], **query: str) -> Iterator[httpx.Response]:
    headers = {"Authorization": f"Bearer {endpoint.token}", **headers}
    url, params = f"{endpoint.url}/{where}", endpoint.query(more=query)
    with endpoint.http.stream("GET", url, params=params, headers=headers, timeout=20) as reply:
        yield reply


def told(reply: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a reply; comments are left out."""
    kind = ""
    for line in reply.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def unpacked(content: bytes) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as packed:
        files = {entry.name: packed.extractfile(entry) for entry in packed}
        return {name: None if file is None else file.read() for name, file in files.items()}


# ---- archives ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [OLD_FILES[0], NEW_FILES[-1]])
def test_a_directory_comes_as_an_archive(endpoint: Endpoint, version: str) -> None:
    """Whole, with what is in its directories, with names of every kind, without links; the same on every version."""
    endpoint.upload("a.txt", b"1")
    endpoint.upload("grüße/日本.bin", bytes(range(256)) * 3000)
    endpoint.result("import os; os.mkdir('empty'); os.symlink('/etc/passwd', 'link'); os.mkfifo('pipe')")

    reply = endpoint.send("GET", "files", headers=TAR, version=version)

    assert reply.headers["content-type"] == "application/x-tar"
    assert reply.headers["content-disposition"] == "attachment; filename*=UTF-8''data.tar"
    wanted = {"a.txt": b"1", "empty": None, "grüße": None, "grüße/日本.bin": bytes(range(256)) * 3000}
    assert unpacked(reply.content) == wanted
    below = endpoint.send("GET", "files", headers=TAR, query={"path": "grüße"})
    assert unpacked(below.content) == {"日本.bin": bytes(range(256)) * 3000}
    assert below.headers["content-disposition"].endswith("gr%C3%BC%C3%9Fe.tar")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("absent", 404, "FileNotFound"), ("file", 409, "FileConflict"), ("../..", 400, "FilePathInvalid")],
)
@pytest.mark.parametrize("headers", [TAR, EVENTS], ids=["archive", "watch"])
def test_what_is_no_directory_is_neither_archived_nor_watched(
    shared: Endpoint, headers: dict[str, str], path: str, status: int, code: str
) -> None:
    shared.upload("file", b"x")
    shared.result("import os; os.path.islink('link') or os.symlink('/etc', 'link')")

    reply = shared.send("GET", "files", headers=headers, query={"path": path})
    assert (reply.status_code, error_of(reply)["code"]) == (status, code)
    assert shared.send("GET", "files", headers=headers, query={"path": "link"}).status_code in (404, 409)


@pytest.mark.parametrize("accept", ["*/*", "application/json, application/x-tar;q=0.5", "application/*", "x-tar", ""])
@pytest.mark.one_level
def test_who_does_not_name_it_gets_the_listing(shared: Endpoint, accept: str) -> None:
    reply = shared.send("GET", "files", headers={"Accept": accept})
    assert reply.headers["content-type"].startswith("application/json")


def test_an_archive_that_cannot_be_right_is_cut_off(endpoint: Endpoint) -> None:
    """A large file that shrinks while it is read: the connection breaks, and nobody takes the rest for an archive."""
    endpoint.upload("big", bytes(24 * 1024 * 1024))

    with pytest.raises(httpx.RemoteProtocolError), streamed(endpoint, "files", TAR) as reply:
        pieces = reply.iter_raw()
        next(pieces)
        endpoint.result("import os; os.truncate('big', 1000)")
        for _ in pieces:
            pass
    assert endpoint.result("1 + 1") == 2


def test_a_reader_of_an_archive_may_stall_or_leave(endpoint: Endpoint) -> None:
    """Neither holds up the session's code or its other calls, and those who left make room for others."""
    endpoint.upload("big", bytes(24 * 1024 * 1024))

    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(streamed(endpoint, "files", TAR)).iter_raw() for _ in range(4)]
        for pieces in held:
            next(pieces)
        refused = endpoint.send("GET", "files", headers=TAR)
        assert (refused.status_code, error_of(refused)["code"]) == (429, "TooManyRequests")
        assert endpoint.result("6 * 7") == 42
        assert endpoint.send("GET", "files/big").status_code == 200
    deadline = time.monotonic() + 10
    while (reply := endpoint.send("GET", "files", headers=TAR)).status_code == 429 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(unpacked(reply.content)["big"] or b"") == 24 * 1024 * 1024


def test_an_archive_while_the_session_ends(endpoint: Endpoint) -> None:
    endpoint.upload("big", bytes(24 * 1024 * 1024))

    with pytest.raises(httpx.RemoteProtocolError), streamed(endpoint, "files", TAR) as reply:
        pieces = reply.iter_raw()
        next(pieces)
        endpoint.send("DELETE", "session")
        for _ in pieces:
            pass


# ---- watches -------------------------------------------------------------------------------------------------------------------


def test_a_watch_tells_what_code_and_callers_do(endpoint: Endpoint) -> None:
    """Created, changed and removed, within a second, in the shape of the file's metadata."""
    endpoint.upload("there.txt", b"x")

    with streamed(endpoint, "files", EVENTS, recursive="true") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = told(reply)
        assert next(events) == ("watching", {})
        began = time.monotonic()
        endpoint.result("import os; os.mkdir('deep'); open('deep/made.csv', 'w').write('1,2')")
        first = {next(events)[1]["name"], next(events)[1]["name"]}
        assert first == {"deep", "made.csv"}
        assert time.monotonic() - began < 2
        endpoint.upload("there.txt", b"xy")
        kind, file = next(events)
        assert (kind, file["name"], file["sizeInBytes"], file["directory"]) == ("changed", "there.txt", 2, ".")
        assert file["contentType"] == "text/plain; charset=utf-8"
        endpoint.send("DELETE", "files/there.txt")
        kind, file = next(events)
        assert (kind, file["name"]) == ("removed", "there.txt")


def test_a_watch_of_one_directory_leaves_out_the_others(endpoint: Endpoint) -> None:
    endpoint.upload("in/a", b"x")

    with streamed(endpoint, "files", EVENTS, path="in") as reply:
        events = told(reply)
        assert next(events)[0] == "watching"
        endpoint.result(
            "import os; open('outside', 'w'); os.mkdir('in/sub'); open('in/sub/deep', 'w'); open('in/b', 'w')"
        )
        seen = sorted((kind, file["name"]) for kind, file in (next(events), next(events)))
        assert seen == [("created", "b"), ("created", "sub")]


def test_a_watch_ends_with_its_session(endpoint: Endpoint) -> None:
    """As an `error` event, since the reply has begun."""
    endpoint.upload("a", b"x")

    with streamed(endpoint, "files", EVENTS) as reply:
        events = told(reply)
        next(events)
        endpoint.send("DELETE", "session")
        kind, body = next(events)
        assert (kind, body["error"]["code"]) == ("error", "SessionEnded")
        assert next(events, None) is None


def test_watchers_that_leave_make_room(endpoint: Endpoint) -> None:
    """Four at once; the agent looks for nobody who is gone."""
    endpoint.upload("a", b"x")

    with contextlib.ExitStack() as stack:
        held = [told(stack.enter_context(streamed(endpoint, "files", EVENTS))) for _ in range(4)]
        for events in held:
            assert next(events)[0] == "watching"
        refused = endpoint.send("GET", "files", headers=EVENTS)
        assert (refused.status_code, error_of(refused)["code"]) == (429, "TooManyRequests")
    deadline = time.monotonic() + 10
    while True:
        with streamed(endpoint, "files", EVENTS) as reply:
            if reply.status_code == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.thorough
def test_a_watcher_that_stalls_costs_nothing(endpoint: Endpoint) -> None:
    """While thousands of files come and go; afterwards it is told how things are, not how they were."""
    endpoint.upload("a", b"x")

    with streamed(endpoint, "files", EVENTS) as reply:
        events = told(reply)
        next(events)
        endpoint.result(
            "import os\nfor turn in range(3):\n"
            "    for n in range(1500): open(f'f{n}', 'w').write('x' * turn)\n"
            "for n in range(1500): os.remove(f'f{n}')\nopen('last', 'w').write('x')"
        )
        files: dict[str, str] = {}
        for kind, file in events:
            files[file["name"]] = kind
            if file["name"] == "last":
                break
        time.sleep(0.6)
        assert {kind for name, kind in files.items() if name != "last"} <= {"created", "changed", "removed"}
        assert endpoint.result("6 * 7") == 42


@pytest.mark.thorough
def test_code_is_not_slowed_by_being_watched(endpoint: Endpoint) -> None:
    """A look takes a small share of the time, however much there is to look at."""
    endpoint.result("for n in range(5000): open(f'f{n}', 'w').close()")
    endpoint.result("1")
    alone = min(_round_trips(endpoint))

    with streamed(endpoint, "files", EVENTS) as reply:
        events = told(reply)
        next(events)
        watched = min(_round_trips(endpoint))

    assert watched < alone + 0.02


def _round_trips(endpoint: Endpoint) -> list[float]:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        endpoint.result("1 + 1")
        took.append(time.perf_counter() - began)
    return took
