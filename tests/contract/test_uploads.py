"""Uploads as a stream: the limit, broken ones, odd forms. Bodies are made as they go out, never held."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator

import pytest

from endpoint import V24_02, Endpoint, error_of
from processes import eventually

pytestmark = pytest.mark.every_pool

LIMIT = 134_217_728
BOUNDARY = "b0undary"
FORM = {"Content_Type": f"multipart/form-data; boundary={BOUNDARY}"}
_PIECE = bytes(range(256)) * 4096  # 1 MiB


def opening(name: str) -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()


CLOSING = f"\r\n--{BOUNDARY}--\r\n".encode()


def content(size: int) -> Iterator[bytes]:
    for at in range(0, size, len(_PIECE)):
        yield _PIECE[: size - at]


def form(name: str, size: int) -> Iterator[bytes]:
    yield opening(name)
    yield from content(size)
    yield CLOSING


def post(endpoint: Endpoint, body: Iterator[bytes], length: int | None) -> tuple[int, str]:
    """An upload written by hand; a length of None is chunked. Returns status and body's text."""
    framing = {"Content-Length": str(length)} if length is not None else {}
    headers = {"Content-Type": FORM["Content_Type"], **framing}
    reply = endpoint.send("POST", "files", headers=headers, content=body)
    return reply.status_code, reply.text


@pytest.mark.slow
@pytest.mark.one_level
@pytest.mark.parametrize("is_chunked", [False, True], ids=["with its length", "chunked"])
def test_exactly_the_limit_passes(endpoint: Endpoint, is_chunked: bool) -> None:
    """134,217,728 bytes go up and come down unchanged."""
    length = None if is_chunked else len(opening("big.bin")) + LIMIT + len(CLOSING)
    status, text = post(endpoint, form("big.bin", LIMIT), length)

    assert status == 200, text
    digest = hashlib.sha256()
    for piece in content(LIMIT):
        digest.update(piece)
    seen = hashlib.sha256()
    with endpoint.http.stream(
        "GET",
        f"{endpoint.url}/files/big.bin/content",
        params=endpoint.query(),
        headers={"Authorization": f"Bearer {endpoint.token}"},
    ) as reply:
        assert reply.headers["content-length"] == str(LIMIT)
        for piece in reply.iter_raw(1024 * 1024):
            seen.update(piece)
    assert seen.digest() == digest.digest()


@pytest.mark.slow
@pytest.mark.one_level
def test_one_byte_more_does_not(endpoint: Endpoint) -> None:
    """413, and nothing is left of it."""
    status, text = post(endpoint, form("big.bin", LIMIT + 1), None)

    assert status == 413, text
    assert endpoint.send("GET", "files").json()["value"] == []
    assert endpoint.result("import os; os.listdir('.')") == []


def test_a_declared_length_over_the_limit_is_refused_unread(endpoint: Endpoint) -> None:
    """The 413 is there before a byte of the content is sent."""
    with endpoint.connect() as caller:
        caller.sendall(endpoint.head("POST", endpoint.target("files"), Content_Length=2 * LIMIT, **FORM))
        caller.settimeout(5)
        answer = caller.recv(65536)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"ContentTooLarge" in answer


def test_an_upload_to_a_full_session_is_a_507(endpoint: Endpoint) -> None:
    """With its own code; what was there stays."""
    if endpoint.result("import os; s = os.statvfs('.'); s.f_blocks * s.f_frsize") > 1024**3:
        pytest.skip("at this isolation level the data folder has no limit of its own")
    endpoint.result(
        "import os; os.posix_fallocate(os.open('filler', os.O_CREAT | os.O_WRONLY), 0, s.f_bavail * s.f_frsize - 4096)"
    )
    reply = endpoint.upload("late.bin", bytes(1 << 20))

    assert (reply.status_code, error_of(reply)["code"]) == (507, "SessionStorageExceeded")
    assert [each["name"] for each in endpoint.send("GET", "files").json()["value"]] == ["filler"]


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with its length", "chunked"])
def test_a_broken_upload_leaves_nothing(endpoint: Endpoint, is_chunked: bool) -> None:
    """The caller vanishes in the middle: no file, no temporary name, and an older file of the name stays whole."""
    endpoint.upload("a.bin", b"old")
    framing = {"Transfer_Encoding": "chunked"} if is_chunked else {"Content_Length": 10_000_000}
    body = opening("a.bin") + _PIECE
    with endpoint.connect() as caller:
        caller.sendall(endpoint.head("POST", endpoint.target("files"), **framing, **FORM))
        caller.sendall(b"%x\r\n%s\r\n" % (len(body), body) if is_chunked else body)
        time.sleep(0.2)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # the close resets

    assert eventually(lambda: endpoint.result("import os; os.listdir('.')") == ["a.bin"])
    assert endpoint.send("GET", "files/a.bin/content").content == b"old"


def test_a_form_without_its_end_leaves_nothing(endpoint: Endpoint) -> None:
    """A complete request whose form is cut short is a 400, not a file."""
    body = opening("cut.bin") + b"content"
    status, _, text = endpoint.raw("POST", endpoint.target("files"), body, {"Content-Type": FORM["Content_Type"]})

    assert status == 400, text
    assert endpoint.result("import os; os.listdir('.')") == []


@pytest.mark.one_level
def test_multipart_under_a_json_content_type(endpoint: Endpoint) -> None:
    """Semantic Kernel leaves its JSON header on uploads: the boundary is read off the body."""
    body = opening("/mnt/data/sk.txt") + b"kernel" + CLOSING
    status, _, text = endpoint.raw(
        "POST", endpoint.target("files/upload", V24_02), body, {"Content-Type": "application/json"}
    )

    assert status == 200, text
    assert endpoint.send("GET", "files/sk.txt/content").content == b"kernel"


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.one_level
def test_a_form_arrives_in_any_pieces(endpoint: Endpoint, step: int) -> None:
    """Chunks of one byte, or across boundaries, give the same file."""
    body = opening("bits.bin") + b"--b0undar\r\n--b0undar" * 20 + CLOSING

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), step):
            yield body[at : at + step]

    assert post(endpoint, pieces(), None)[0] == 200
    assert endpoint.send("GET", "files/bits.bin/content").content == b"--b0undar\r\n--b0undar" * 20


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not a form",
        b"--b0undary--\r\n",
        b'--b0undary\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b0undary--\r\n',
    ],
    ids=["empty", "no form", "no part", "no file"],
)
@pytest.mark.one_level
def test_a_form_without_a_file_is_a_400(shared: Endpoint, body: bytes) -> None:
    status, headers, _ = shared.raw("POST", shared.target("files"), body, {"Content-Type": FORM["Content_Type"]})

    assert (status, headers["x-ms-error-code"]) == (400, "SessionRequestValidationFailed")


@pytest.mark.parametrize("name", ["", "/", "/mnt/data/", "."])
@pytest.mark.one_level
def test_an_upload_needs_a_name(shared: Endpoint, name: str) -> None:
    body = opening(name) + b"x" + CLOSING
    status, headers, _ = shared.raw("POST", shared.target("files"), body, {"Content-Type": FORM["Content_Type"]})

    assert (status, headers["x-ms-error-code"]) == (400, "FilePathInvalid")


def test_an_upload_over_a_directory_is_a_conflict(endpoint: Endpoint) -> None:
    endpoint.upload("in.txt", b"x", path="taken")
    reply = endpoint.upload("taken", b"x")

    assert (reply.status_code, error_of(reply)["code"]) == (409, "FileConflict")
    below = endpoint.upload("x.txt", b"x", path="taken/in.txt")
    assert (below.status_code, error_of(below)["code"]) == (409, "FileConflict")


def test_a_slow_reader_holds_nobody_up(endpoint: Endpoint) -> None:
    """A download that nobody takes waits; code, files and other calls of the session go on."""
    endpoint.result("open('big.bin', 'wb').write(bytes(20_000_000))")
    with endpoint.connect() as reader:
        reader.sendall(endpoint.head("GET", endpoint.target("files/big.bin/content")))
        time.sleep(0.2)

        assert endpoint.result("1 + 1") == 2
        assert endpoint.upload("other.txt", b"x").status_code == 200
        assert len(endpoint.send("GET", "files/big.bin/content").content) == 20_000_000
