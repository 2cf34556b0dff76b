"""Files beyond what Azure has: directories, renames, tags, and changes that happen only if nobody else was quicker."""

from __future__ import annotations

import concurrent.futures

import httpx
import pytest

from carrel.client import ApiError, Client
from endpoint import Endpoint, error_of

pytestmark = pytest.mark.every_pool

ESCAPES = ["../etc/passwd", "..", "a/../../b", "/etc/passwd", "a\\b", "a\x00b", "x" * 256]


def refusal(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, str(error_of(reply)["code"])


def test_a_directory_is_made_once(endpoint: Endpoint) -> None:
    """With those on the way to it; a repeat finds it there, a file in its place is a conflict."""
    made = endpoint.send("POST", "files/results/mkdir", query={"path": "deep/er"})

    assert (made.status_code, made.json()["directory"], made.json()["type"]) == (201, "deep/er", "directory")
    assert endpoint.send("POST", "files/results/mkdir", query={"path": "deep/er"}).status_code == 200
    assert endpoint.result("import os; os.path.isdir('deep/er/results')")
    endpoint.upload("file", b"x")
    assert refusal(endpoint.send("POST", "files/file/mkdir")) == (409, "FileConflict")
    assert refusal(endpoint.send("POST", "files/below/mkdir", query={"path": "file"})) == (409, "FileConflict")


@pytest.mark.parametrize("name", ["with space", "grüße 日本", "mkdir", "rename", "100%"])
def test_directories_and_renames_take_every_name(endpoint: Endpoint, client: Client, name: str) -> None:
    client.make_directory(f"{name}/{name}")
    client.upload(f"{name}/{name}/{name}", b"x")

    assert client.rename(f"{name}/{name}", f"moved {name}").path == f"moved {name}"
    assert client.download(f"moved {name}/{name}") == b"x"


def test_a_file_changes_its_place(endpoint: Endpoint) -> None:
    """In one step, with directories made on the way; code sees it there at once."""
    endpoint.upload("a.txt", b"content")

    moved = endpoint.send("POST", "files/a.txt/rename", json={"to": "new/b.txt"})

    assert (moved.status_code, moved.json()["directory"], moved.json()["name"]) == (200, "new", "b.txt")
    assert endpoint.result("import os; sorted(os.listdir('.')) + sorted(os.listdir('new'))") == ["new", "b.txt"]
    assert refusal(endpoint.send("POST", "files/a.txt/rename", json={"to": "c.txt"})) == (404, "FileNotFound")


def test_nothing_is_replaced_unless_asked(client: Client) -> None:
    client.upload("a", b"a")
    client.upload("b", b"b")

    with pytest.raises(ApiError) as refused:
        client.rename("a", "b")
    assert (refused.value.status, refused.value.code) == (409, "FileConflict")
    assert (client.download("a"), client.download("b")) == (b"a", b"b")
    client.rename("a", "b", overwrite=True)
    assert client.download("b") == b"a"
    assert [file.path for file in client.list_files()] == ["b"]
    assert client.rename("b", "b").path == "b"  # a repeat does no harm


def test_directories_move_with_what_is_in_them(client: Client) -> None:
    """Never into themselves, and never over one that is not empty."""
    client.upload("from/x/y", b"1")
    client.upload("full/z", b"2")
    client.make_directory("empty")

    for to in ("from/inside", "full", "full/z"):
        with pytest.raises(ApiError) as refused:
            client.rename("from", to, overwrite=True)
        assert (refused.value.status, refused.value.code) == (409, "FileConflict"), to
    client.rename("from", "empty", overwrite=True)
    assert client.download("empty/x/y") == b"1"


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.one_level
def test_neither_end_of_a_rename_leaves_the_data(shared: Endpoint, path: str) -> None:
    shared.upload("here", b"x")
    assert refusal(shared.send("POST", "files/here/rename", json={"to": path})) == (400, "FilePathInvalid")


@pytest.mark.parametrize("to", ["link/stolen", "dangling/x"])
def test_renames_follow_no_link(endpoint: Endpoint, to: str) -> None:
    """Neither at the source, nor on the way, nor at the target: a link that is replaced is replaced itself."""
    endpoint.result(
        "import os, shutil, tempfile; outside = tempfile.mkdtemp(); secret = outside + '/secret';"
        "open(secret, 'w').write('s'); os.symlink(outside, 'link'); os.symlink('/nowhere', 'dangling');"
        "os.symlink(secret, 'leaf'); open('mine', 'w').write('m')"
    )

    assert refusal(endpoint.send("POST", "files/mine/rename", json={"to": to}))[0] == 409
    assert refusal(endpoint.send("POST", "files/link%2Fsecret/rename", json={"to": "got"}))[0] in (404, 409)
    assert refusal(endpoint.send("POST", "files/leaf/rename", json={"to": "got"})) == (404, "FileNotFound")
    assert refusal(endpoint.send("POST", "files/x/mkdir", query={"path": "link"}))[0] == 409
    assert endpoint.send("POST", "files/mine/rename", json={"to": "leaf", "overwrite": True}).status_code == 200
    assert endpoint.result("kept = open(secret).read(); shutil.rmtree(outside); kept") == "s"


@pytest.mark.parametrize(
    "body", [{}, {"to": 5}, {"to": None}, {"to": "x", "overwrite": "yes"}, {"to": "x", "more": 1}, [], "x"]
)
@pytest.mark.one_level
def test_a_rename_that_says_nothing_useful(shared: Endpoint, body: object) -> None:
    shared.upload("kept", b"x")
    assert refusal(shared.send("POST", "files/kept/rename", json=body)) == (400, "SessionRequestValidationFailed")


@pytest.mark.parametrize("body", [b"", b"{", b'{"to": "x"' + b" " * 70_000 + b"}", b'{"to":"\\ud800"}', b"\xff"])
@pytest.mark.one_level
def test_a_rename_that_is_no_request(shared: Endpoint, body: bytes) -> None:
    shared.upload("kept", b"x")
    assert shared.send("POST", "files/kept/rename", content=body).status_code in (400, 413)
    assert shared.send("GET", "files/kept").status_code == 200


# ---- tags ----------------------------------------------------------------------------------------------------------------------


def test_a_file_has_one_tag_until_it_changes(endpoint: Endpoint) -> None:
    """Upload, metadata and download name the same; what code writes makes another, even with the times set back."""
    tags = [endpoint.upload("a", b"one").headers["etag"]]
    assert endpoint.send("GET", "files/a").headers["etag"] == tags[0]
    assert endpoint.send("GET", "files/a/content").headers["etag"] == tags[0]
    tags.append(endpoint.upload("a", b"two").headers["etag"])
    endpoint.result(
        "import os, time; time.sleep(0.02); s = os.stat('a'); open('a', 'r+').write('six');"
        "os.utime('a', ns=(s.st_atime_ns, s.st_mtime_ns))"
    )
    tags.append(endpoint.send("GET", "files/a").headers["etag"])

    assert len(set(tags)) == 3
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


def test_who_reads_again_gets_only_what_is_new(endpoint: Endpoint) -> None:
    tag = endpoint.upload("a", b"one").headers["etag"]

    for path in ("files/a", "files/a/content"):
        same = endpoint.send("GET", path, headers={"If-None-Match": f'"x", W/{tag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag), path
        assert endpoint.send("GET", path, headers={"If-None-Match": '"x"'}).status_code == 200
        wrong = endpoint.send("GET", path, headers={"If-Match": '"x"'})
        assert refusal(wrong) == (412, "ConditionNotMet")
        assert endpoint.send("GET", path, headers={"If-Match": tag}).status_code == 200
    part = {"Range": "bytes=1-", "If-Range": tag}
    assert endpoint.send("GET", "files/a/content", headers=part).content == b"ne"
    endpoint.upload("a", b"two")
    assert endpoint.send("GET", "files/a/content", headers=part).content == b"two"


def test_changes_happen_only_to_what_the_caller_has_seen(client: Client) -> None:
    """Uploads, renames and deletes with If-Match; nothing of a refused one is left."""
    first = client.upload("a", b"one", if_none_match="*")
    second = client.upload("a", b"two", if_match=first.etag)

    for change in (
        lambda: client.upload("a", b"three", if_match=first.etag),
        lambda: client.upload("a", b"three", if_none_match="*"),
        lambda: client.upload("a", b"three", if_none_match=second.etag),
        lambda: client.rename("a", "b", if_match=first.etag),
        lambda: client.delete_file("a", if_match=first.etag),
        lambda: client.upload("absent", b"x", if_match="*"),
        lambda: client.upload("no/such/folder", b"x", if_match=first.etag),
        lambda: client.delete_file("absent", if_match="*"),
        lambda: client.rename("absent", "b", if_match="*"),
    ):
        with pytest.raises(ApiError) as refused:
            change()
        assert (refused.value.status, refused.value.code) == (412, "ConditionNotMet")
    assert [file.path for file in client.list_files()] == ["a"]
    assert client.download("a") == b"two"
    moved = client.rename("a", "b", if_match=second.etag)
    client.delete_file("b", if_match=moved.etag)
    assert client.list_files() == []


def test_of_many_writers_one_wins_each_round(client: Client) -> None:
    """The check and the change are one step: no update is lost, however many add to the same number."""
    client.upload("count", b"0")

    def add() -> int:
        tries = 0
        while True:
            tries += 1
            etag = client.stat("count").etag
            number = int(client.download("count"))
            try:
                client.upload("count", str(number + 1).encode(), if_match=etag)
                return tries
            except ApiError as error:
                assert error.status == 412

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        tries = [each.result(30) for each in [pool.submit(add) for _ in range(20)]]

    assert client.download("count") == b"20"
    assert sum(tries) >= 20


@pytest.mark.parametrize("value", ["x", '"open', "W/*", "*, *", '"a" "b"', "", ",", ", ".join(['"x"'] * 33), '"é"'])
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.one_level
def test_conditions_that_are_none(shared: Endpoint, header: str, value: str) -> None:
    shared.upload("kept", b"x")
    reply = shared.send("DELETE", "files/kept", headers={header: value.encode()})
    assert refusal(reply) == (400, "SessionRequestValidationFailed")


def test_the_star_is_about_links_and_folders_too(endpoint: Endpoint) -> None:
    """If-None-Match: * means nothing at all there; a link counts, and is not what If-Match: * asks for."""
    endpoint.result("import os; os.symlink('/nowhere', 'link'); os.mkdir('folder')")

    for name in ("link", "folder"):
        reply = endpoint.send("POST", "files", files={"file": (name, b"x")}, headers={"If-None-Match": "*"})
        assert refusal(reply) == (412, "ConditionNotMet")
    assert refusal(endpoint.send("DELETE", "files/link", headers={"If-Match": "*"})) == (412, "ConditionNotMet")
    assert endpoint.send("DELETE", "files/folder", headers={"If-Match": "*"}).status_code == 204
