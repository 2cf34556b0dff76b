"""Files that code plants for the agent to trip over: none is followed, opened for good, or waited on."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from carrel.client import ApiError
from carrel.models import Level
from fortress import Attacker


def status(call: Any, *arguments: Any) -> int:
    """Of a call of the client's: 200, or the error's."""
    try:
        call(*arguments)
    except ApiError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    "target",
    [
        *("/etc/passwd", "/proc/1/environ", "/proc/1/fd/3", "/proc/self/mem", "/dev/zero", "/dev/random"),
        *("..", "/", "other.txt", "loop", "/proc/1/root"),
    ],
)
def test_a_symlink_is_never_followed(attacker: Attacker, target: str) -> None:
    """It is not listed, has no metadata, cannot be downloaded; an upload replaces the link, a delete removes it, the target stays."""
    attacker.value(
        f"open('other.txt', 'w').write('other'); os.symlink({target!r}, 'loop'); os.symlink({target!r}, 'folder')"
    )
    client = attacker.client

    assert [file.name for file in client.list_files(is_recursive=True)] == ["other.txt"]
    assert status(client.stat, "loop") in (404, 409)
    assert status(client.download, "loop") in (404, 409)
    for path in ("folder/passwd", "folder/x", "folder/etc/passwd"):
        assert status(client.download, path) in (404, 409)
        assert status(client.stat, path) in (404, 409)
        assert status(client.delete_file, path) in (404, 409)
        assert status(client.upload, path, b"x") == 409
    assert client.list_files("folder") == []
    assert client.upload("loop", b"mine").size == 4
    assert attacker.value("[os.path.islink('loop'), open('loop').read(), open('other.txt').read()]") == [
        False,
        "mine",
        "other",
    ]
    client.delete_file("folder")
    assert attacker.value("os.path.lexists('folder')") is False


@pytest.mark.parametrize(
    "kind", ["os.mkfifo('trap')", "s = socket.socket(socket.AF_UNIX); s.bind('trap')"], ids=["fifo", "socket"]
)
def test_what_is_no_file_is_not_waited_on(attacker: Attacker, kind: str) -> None:
    """A FIFO without a writer and a socket: answered at once, replaced by an upload, removed by a delete."""
    if "socket" in kind and attacker.server.level is Level.RESTRICTED:
        pytest.skip("at this level code has no sockets to plant")
    client, began = attacker.client, time.monotonic()
    attacker.value(kind)

    assert client.list_files() == []
    assert status(client.stat, "trap") in (404, 409)
    assert status(client.download, "trap") in (404, 409)
    client.upload("trap", b"mine")
    assert client.download("trap") == b"mine"
    attacker.value(f"os.unlink('trap'); {kind}")
    client.delete_file("trap")
    assert attacker.value("os.listdir('.')") == []
    assert time.monotonic() - began < 5


@pytest.mark.open_at(
    Level.GVISOR,
    reason="in gVisor's own file systems they can be made; what opens is gVisor's own null and its kind, never a device of the host",
)
def test_device_files_cannot_be_made(attacker: Attacker) -> None:
    """Neither block nor character devices, on no writable place."""
    code = """
import stat
kinds = [(kind | 0o666, os.makedev(*n)) for kind in (stat.S_IFCHR, stat.S_IFBLK) for n in ((1, 1), (1, 3), (8, 0), (254, 0))]
folders = ('.', '/tmp', '/dev/shm', os.environ['HOME'])
[refused(os.mknod, f'{folder}/device', mode, number) for folder in folders for mode, number in kinds]
"""
    assert set(attacker.value(code)) <= {"EPERM", "EACCES"}


def test_hard_links_lead_nowhere_else(attacker: Attacker) -> None:
    """Other mounts' files cannot be linked in; an upload over a hard link replaces one name and leaves the other's content."""
    code = (
        "[refused(os.link, p, 'linked') for p in ('/etc/passwd', '/bin/sh', '/proc/self/environ', '/dev/null', '/tmp')]"
    )
    assert set(attacker.value(code)) <= {"EXDEV", "EPERM"}
    attacker.value("open('one', 'w').write('content'); os.link('one', 'two')")
    attacker.client.upload("two", b"new")

    assert attacker.value("[open('one').read(), open('two').read()]") == ["content", "new"]


def test_a_directory_swapped_for_a_link_meanwhile_is_no_way_out(attacker: Attacker) -> None:
    """Code renames a folder and a link to / over each other as fast as it can while files are uploaded and read through it."""
    swap = """
os.makedirs('real'); os.symlink('/', 'link')
def race():
    while running:
        for a, b in (('place', 'real'), ('place', 'link')):
            try: os.rename(b, 'place'); os.rename('place', b)
            except OSError: pass
running = True
for n in range(2): threading.Thread(target=race, daemon=True).start()
"""
    attacker.value(swap)
    client = attacker.client
    for number in range(60):
        assert status(client.upload, f"place/etc/{number}", b"x") in (
            200,
            400,
            404,
            409,
        )  # 400: EINVAL, gVisor's word for it
        assert status(client.download, "place/etc/passwd") in (404, 409)
    attacker.value("running = False")

    assert attacker.value("os.path.exists('/etc/59')") is False


def test_a_file_that_shrinks_or_grows_while_it_is_read(attacker: Attacker) -> None:
    """A short file never looks like a whole one: the download breaks off, or has what was announced."""
    attacker.value("file = open('moving', 'wb', 0); file.truncate(20 << 20)")
    attacker.value(
        "def race():\n    for n in range(400):\n        os.truncate('moving', (n % 2) * (20 << 20)); time.sleep(0.002)\n"
        "threading.Thread(target=race, daemon=True).start()"
    )
    for _ in range(8):
        try:
            assert len(attacker.client.download("moving")) in (0, 20 << 20)
        except (ApiError, httpx.HTTPError):
            continue
    attacker.still_works()


@pytest.mark.parametrize(
    "name",
    [
        *("'n\\ne\\tw'", "b'\\xff\\xfe\\x80'", "'\\x1b[2J'", "'x' * 255", "'%2e%2e%2f'"),
        *("'<script>'", "'\\u202e.txt'", "' '", "'\"'"),
    ],
)
def test_names_of_every_kind_are_listed(attacker: Attacker, name: str) -> None:
    """Line ends, invalid UTF-8, terminal codes, quotes: valid JSON, and the other files beside it."""
    attacker.value(f"os.mkdir('folder'); open('plain', 'w').close(); open({name}, 'w').close()")
    attacker.value(f"os.chdir('folder'); open({name}, 'w').close(); os.chdir('..')")

    assert len(attacker.client.list_files()) == 3
    assert len(attacker.client.list_files(is_recursive=True)) == 4
    attacker.client.delete_file("folder")


@pytest.mark.parametrize(
    "code",
    [
        "refused(os.truncate, os.open('huge', os.O_CREAT | os.O_WRONLY), 2**63 - 1)",
        "refused(os.truncate, os.open('huge', os.O_CREAT | os.O_WRONLY), 2**62 + 1)",
        "open('huge', 'w').close(); refused(os.utime, 'huge', ns=(2**62, 2**62))",
        "open('huge', 'w').close(); refused(os.utime, 'huge', (-2**40, -2**40))",
        "open('huge', 'w').close(); refused(os.utime, 'huge', (2**40, 2**40))",
        "open('huge', 'w').close(); os.chmod('huge', 0)",
        "os.mkdir('huge'); os.chmod('huge', 0)",
    ],
    ids=["2**63-1 bytes", "2**62+1 bytes", "far future", "far past", "year 36812", "no rights", "closed folder"],
)
def test_absurd_metadata_does_not_end_the_session(attacker: Attacker, code: str) -> None:
    """Sparse files of eight exbibytes, times before and after all calendars, files without rights: listed, described, deleted."""
    attacker.value(f"kept = 1; {code}; 0")

    assert [file["name"] for file in listing(attacker)] == ["huge"]
    assert attacker.value("kept") == 1
    assert status(attacker.client.delete_file, "huge") in (
        200,
        409,
    )  # a folder without rights is its owner's to open first
    assert attacker.value("kept") == 1


def listing(attacker: Attacker) -> list[dict[str, Any]]:
    """As JSON: Python's own calendar ends at the year 9999."""
    reply = httpx.get(
        f"{attacker.server.endpoint}/files",
        params={"api-version": "2025-10-02-preview", "identifier": attacker.client.identifier, "recursive": "true"},
        headers={"Authorization": f"Bearer {attacker.server.connection['token']}"},
        trust_env=False,
    )
    assert reply.status_code == 200, reply.text
    value: list[dict[str, Any]] = reply.json()["value"]
    return value


def test_a_bottomless_tree_is_listed_and_deleted(attacker: Attacker) -> None:
    """A thousand folders in each other, longer than any path may be: the listing ends, the delete does what it can, the session lives."""
    attacker.value(
        "kept = 1; here = os.getcwd()\nfor n in range(1000): os.mkdir('d' * 200); os.chdir('d' * 200)\nos.chdir(here)"
    )
    began = time.monotonic()

    assert len(attacker.client.list_files(is_recursive=True)) >= 10
    assert status(attacker.client.delete_file, "d" * 200) in (204, 200, 409)
    assert time.monotonic() - began < 10
    assert attacker.value("kept") == 1


def test_the_data_folder_replaced_is_no_way_out(attacker: Attacker) -> None:
    """It is a mount point: it cannot be renamed, removed or linked away; what is beside it cannot be changed."""
    changes = "refused(os.rename, '/mnt/data', '/mnt/x'), refused(os.rmdir, '/mnt/data'), refused(os.symlink, '/', '/mnt/data2')"

    assert "" not in attacker.value(f"os.chdir('/tmp')\n[{changes}]")
    attacker.client.upload("a.txt", b"x")


def test_a_long_path_that_is_not_there_is_a_404(attacker: Attacker) -> None:
    """However long the answer's message would be: the session lives on."""
    attacker.value("kept = 1")
    path = "/".join(["x" * 200] * 8) + "/missing.txt"

    for call in (attacker.client.stat, attacker.client.download, attacker.client.delete_file):
        assert status(call, path) == 404
    assert attacker.value("kept") == 1
