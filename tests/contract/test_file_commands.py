"""The client's and the command line's file calls and sessions' lives, as a person uses them."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from carrel.client import ApiError, AsyncClient, Client
from conftest import Server, fresh_identifier

pytestmark = pytest.mark.one_level


def carrel(
    server: Server, *arguments: str, cwd: Path | None = None, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "carrel.cli", *arguments, "--state", str(server.state)]
    return subprocess.run(command, cwd=cwd, input=data, capture_output=True, timeout=60, check=False)


def test_files_by_command(server: Server, tmp_path: Path) -> None:
    """Up, listed, renamed, archived, down again; nothing on this machine is replaced unasked."""
    session = fresh_identifier()
    (tmp_path / "notes.txt").write_bytes(b"from here")

    assert carrel(server, "file", "upload", session, "notes.txt", cwd=tmp_path).stdout == b"notes.txt\n"
    assert carrel(server, "file", "upload", session, "-", "deep/in.bin", data=b"\x00\xff").stdout == b"deep/in.bin\n"
    again = carrel(server, "file", "upload", session, "notes.txt", "--new", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, b"") and b"ConditionNotMet" in again.stderr
    assert carrel(server, "file", "mkdir", session, "made/here").stdout == b"made/here\n"
    assert carrel(server, "file", "rename", session, "notes.txt", "made/n.txt").stdout == b"made/n.txt\n"
    listed = carrel(server, "file", "list", session, "-r").stdout.decode().split()
    assert {"deep/", "deep/in.bin", "made/", "made/here/", "made/n.txt"} <= set(listed)
    assert carrel(server, "file", "download", session, "made/n.txt", cwd=tmp_path).stdout == b"n.txt\n"
    assert (tmp_path / "n.txt").read_bytes() == b"from here"
    refused = carrel(server, "file", "download", session, "made/n.txt", cwd=tmp_path)
    assert refused.returncode == 1 and b"already" in refused.stderr
    assert carrel(server, "file", "download", session, "deep/in.bin", "-O", "-").stdout == b"\x00\xff"
    assert carrel(server, "file", "archive", session, "made", cwd=tmp_path).stdout == b"made.tar\n"
    with tarfile.open(tmp_path / "made.tar") as packed:
        assert packed.getnames() == ["here", "n.txt"]
    assert carrel(server, "file", "archive", session, "absent", cwd=tmp_path).returncode == 1
    assert not (tmp_path / "absent.tar").exists()
    assert carrel(server, "file", "delete", session, "made").returncode == 0
    assert carrel(server, "file", "delete", session, "made").returncode == 1
    assert carrel(server, "session", "stop", session).returncode == 0


@pytest.mark.thorough
def test_a_session_by_command(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened with an environment, kept alive, watched to its end."""
    session = fresh_identifier()
    monkeypatch.setenv("FROM_HERE", "mine")
    assert carrel(server, "session", "keep-alive", session).returncode == 1

    opened = carrel(server, "session", "open", session, "--env", "A=1=2", "--env", "FROM_HERE")
    assert opened.returncode == 0, opened.stderr
    shown = carrel(server, "exec", "--session", session, "import os; print(os.environ['A'], os.environ['FROM_HERE'])")
    assert shown.stdout == b"1=2 mine\n"
    assert carrel(server, "session", "keep-alive", session).stdout.startswith(b"20")
    assert b"no such variable" in carrel(server, "session", "open", session, "--env", "NOT_HERE").stderr
    assert carrel(server, "session", "open", session, "--secret", "A=none").returncode == 1
    threading.Timer(2.0, lambda: carrel(server, "session", "stop", session)).start()
    told = carrel(server, "session", "events", session).stdout.decode().splitlines()
    assert [line.split()[0] for line in told] == ["session", "ended"]
    assert told[-1] == "ended it was deleted"


def test_the_client_watches_and_archives(client: Client) -> None:
    client.upload("a.txt", b"1")
    watching = client.watch(is_recursive=True)
    assert next(watching).kind == "watching"

    client.upload("b/c.txt", b"22")

    found = {change.kind + " " + change.file.path for change in (next(watching), next(watching)) if change.file}
    assert found == {"created b", "created b/c.txt"}
    data = b"".join(client.archive("b"))
    with tarfile.open(fileobj=io.BytesIO(data)) as packed:
        assert packed.getnames() == ["c.txt"]
    with pytest.raises(ApiError) as refused:
        next(client.archive("absent"))
    assert refused.value.status == 404
    events = client.session_events()
    assert next(events).kind == "session"
    client.end()
    assert next(events).reason == "it was deleted"
    with pytest.raises(ApiError) as ended:
        next(watching)
    assert ended.value.code == "SessionEnded"


@pytest.mark.anyio
async def test_the_asyncio_client_does_too(async_client: AsyncClient) -> None:
    assert (await async_client.open({"A": "1"})).etag
    assert (await async_client.execute("import os; os.environ['A']")).result == "1"
    await async_client.make_directory("x")
    stored = await async_client.upload("x/a", b"1", if_none_match="*")
    assert (await async_client.rename("x/a", "x/b", if_match=stored.etag)).path == "x/b"
    assert b"".join([piece async for piece in async_client.archive("x")])[:1] == b"b"
    watching = async_client.watch("x")
    assert (await anext(watching)).kind == "watching"
    await async_client.delete_file("x/b")
    assert (await anext(watching)).kind == "removed"
    assert (await async_client.keep_alive()).expires_at.timestamp() > time.time()
    events = async_client.session_events()
    assert (await anext(events)).kind == "session"
    await async_client.end()
    assert [event.kind async for event in events] == ["ended"]
