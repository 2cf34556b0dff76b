"""File calls while the code swaps what they are about: directories against links, files against pipes, as fast as it can."""

from __future__ import annotations

import contextlib
import io
import tarfile
import time

import httpx
import pytest

from endpoint import Endpoint

SWAPPER = """
import os, shutil, tempfile, threading, time
outside = tempfile.mkdtemp()
open(outside + '/stolen', 'w').write('OUTSIDE')
os.makedirs('d/sub'); open('d/inside', 'w').write('x'); open('d/sub/deep', 'w').write('y')
os.symlink(outside, 'link')
stop = threading.Event()
def swap():
    while not stop.is_set():
        for first, second in (('d', 'away'), ('link', 'd'), ('d', 'link'), ('away', 'd')):
            try: os.rename(first, second)
            except OSError: pass
        try:
            os.rename('d/inside', 'd/kept'); os.mkfifo('d/inside'); os.remove('d/inside'); os.rename('d/kept', 'd/inside')
        except OSError: pass
        try:
            os.rename('d/sub', 'd/was'); os.symlink(outside, 'd/sub'); os.remove('d/sub'); os.rename('d/was', 'd/sub')
        except OSError: pass
thread = threading.Thread(target=swap, daemon=True); thread.start()
"""


@pytest.mark.thorough
def test_no_call_leaves_the_data_however_it_is_swapped(endpoint: Endpoint) -> None:
    """Nothing outside is read, listed, made, moved or removed; the session goes on, and so does its agent."""
    endpoint.run(SWAPPER)
    seen = b""
    until = time.monotonic() + 4
    turn = 0
    while time.monotonic() < until:
        turn += 1
        for path in ("", "d", "d/sub", "link"):
            with contextlib.suppress(httpx.RemoteProtocolError):
                reply = endpoint.send("GET", "files", query={"path": path}, headers={"Accept": "application/x-tar"})
                if reply.status_code == 200:
                    seen += _contents(reply.content)
            seen += endpoint.send("GET", "files", query={"path": path, "recursive": "true"}).content
        endpoint.send("POST", f"files/made{turn}/mkdir", query={"path": "d/sub"})
        endpoint.send("POST", "files", files={"file": (f"up{turn}", b"x")}, query={"path": "d"})
        endpoint.send("POST", f"files/up{turn}/rename", query={"path": "d"}, json={"to": f"d/sub/mv{turn}"})
        endpoint.send("POST", "files/stolen/rename", query={"path": "d"}, json={"to": "got"})
        endpoint.send("DELETE", "files/stolen", query={"path": "d/sub"})
        seen += endpoint.send("GET", "files/stolen/content", query={"path": "d"}).content

    left = endpoint.result(
        "stop.set(); thread.join(); found = sorted(os.listdir(outside)); text = open(outside + '/stolen').read();"
        "shutil.rmtree(outside); [found, text]"
    )
    assert left == [["stolen"], "OUTSIDE"]
    assert b"OUTSIDE" not in seen
    assert turn > 3


def _contents(packed: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as archive:
        files = [archive.extractfile(entry) for entry in archive if entry.isfile()]
        assert all(entry.isfile() or entry.isdir() for entry in archive)
        return b"".join(file.read() for file in files if file is not None)
