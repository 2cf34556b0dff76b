"""What an agent may send on an archive, a watch and a file call, and that anything else costs it the session: it is hostile input."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from carrel.errors import SessionLost
from carrel.guest.frames import INITIAL_CREDIT, MAX_PAYLOAD, FrameError, encode
from carrel.models import ChangeKind
from carrel.sessions import checks, streams
from carrel.sessions.link import AgentLink
from carrel.sessions.streams import Archive, Download, Flow, Watch

pytestmark = pytest.mark.anyio
FILE = {"name": "a", "directory": "", "is_directory": False, "size": 1, "modified_at": 1.5, "etag": "1-2-3-4"}


@pytest.mark.parametrize(
    "etag", [None, 5, "", 'x"', "1-2\r\nset-cookie: a=b", "A-1", "1" * 81, "1-2\n", "é", ["1"], "1 2", "*"]
)
def test_a_tag_that_is_none(etag: Any) -> None:
    """It becomes a header of a reply."""
    with pytest.raises(FrameError):
        checks.file_info({**FILE, "etag": etag})


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"{}",
        b"[",
        b"[5]",
        b"[" * 5000,
        b'[{"kind": "eaten"}]',
        b'[{"kind": ""}]',
        b'[{"file": {}}]',
        b'[{"kind": "created"}]',
        b'[{"kind": "created", "file": {"name": "../x"}}]',
        b'[{"kind": ["created"]}]',
        b"\xff",
    ],
)
def test_changes_that_are_none(page: bytes) -> None:
    with pytest.raises(FrameError):
        checks.file_changes(page)


def test_changes_that_are() -> None:
    page = json.dumps([{"kind": "watching"}, {"kind": "removed", "file": FILE}]).encode()
    assert [change.kind for change in checks.file_changes(page)] == [ChangeKind.WATCHING, ChangeKind.REMOVED]


@pytest.mark.parametrize("kind", [Archive, Watch])
@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ({"data": "file"}, b"x"),  # before its beginning
        ({"data": "changes"}, b"x"),
        ({"data": "info"}, b"x"),
        ({"data": "entries"}, b"x"),
        ({"data": ["file"]}, b"x"),
        ({"credit": 5}, b""),
        ({}, b""),
    ],
)
def test_a_flow_begins_as_it_should(kind: type[Flow], header: dict[str, Any], payload: bytes) -> None:
    with pytest.raises(FrameError):
        kind(1).data(header, payload)
    with pytest.raises(FrameError):
        kind(1).end({"end": 1})


def test_a_flow_goes_on_as_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second beginning, nothing of another kind, nothing empty, never more than the credit, and not for ever."""
    for header, payload in (
        ({"data": "info"}, b""),
        ({"data": "changes"}, b"x"),
        ({"data": "file"}, b""),
        ({"data": "entries"}, b"[]"),
    ):
        archive = Archive(1)
        archive.data({"data": "info"}, b"")
        with pytest.raises(FrameError):
            archive.data(header, payload)
    archive = Archive(1)
    archive.data({"data": "info"}, b"")
    for _ in range(INITIAL_CREDIT // MAX_PAYLOAD):
        archive.data({"data": "file"}, bytes(MAX_PAYLOAD))
    with pytest.raises(FrameError, match="more than was asked for"):
        archive.data({"data": "file"}, b"x")
    monkeypatch.setattr(streams, "ARCHIVE_BYTES", 10)
    archive = Archive(1)
    archive.data({"data": "info"}, b"")
    with pytest.raises(FrameError, match="without end"):
        archive.data({"data": "file"}, bytes(11))


def test_a_download_is_no_longer_than_it_said() -> None:
    download = Download(1)
    download.data({"data": "info", "file": FILE, "start": 0, "length": 3}, b"")
    with pytest.raises(FrameError):
        download.data({"data": "file"}, b"1234")


async def test_a_watch_that_lies_costs_the_session() -> None:
    """The link is broken, and with it whoever watches and whoever calls."""
    ours, theirs = socket.socketpair()
    broken: list[str] = []
    link = AgentLink(ours, lambda: None, broken.append)

    asyncio.get_running_loop().call_later(0.05, theirs.sendall, encode({"s": link._next, "data": "info"}))
    async with link.watch("", False) as watch:
        theirs.sendall(encode({"s": watch.number, "data": "changes"}, b'[{"kind": "eaten"}]'))
        with pytest.raises(SessionLost):
            async for _ in link.changes(watch):
                pass
    assert len(broken) == 1 and "broke the protocol" in broken[0]
    theirs.close()
