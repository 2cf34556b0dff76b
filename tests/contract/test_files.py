"""Files of a session: both shapes, directories, names, content, ranges, and what does not lie below /mnt/data."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from endpoint import NEW_FILES, OLD_FILES, V24_02, V25_10, VERSIONS, Endpoint, error_of

pytestmark = pytest.mark.every_pool

NAMES = [
    "plain.txt",
    "with space.txt",
    "grüße 日本 \U0001f600.txt",
    "a&b=c;d,e#f%g^h(i)j@k$l.txt",
    "100%.txt",
    "quo'te.txt",
    ".hidden",
    "no-extension",
    "two..dots.txt",
    "upload",
    "content",
    "x" * 255,
]
ESCAPES = ["../etc/passwd", "..", "a/../../b", "/etc/passwd", "/mnt/data/../x", "a\\b", "a\x00b", "a\nb", "x" * 256]


@pytest.mark.parametrize("version", NEW_FILES)
def test_the_new_shape(endpoint: Endpoint, version: str) -> None:
    """Upload, list and metadata give the same object; a delete is a 204."""
    uploaded = endpoint.upload("notes.md", b"# Notes\n", version=version)

    resource = uploaded.json()
    assert uploaded.status_code == 200
    assert resource.pop("lastModifiedAt").endswith("Z")
    assert resource == {
        "name": "notes.md",
        "directory": ".",
        "type": "file",
        "contentType": "text/markdown; charset=utf-8",
        "sizeInBytes": 8,
    }
    assert endpoint.send("GET", "files", version=version).json() == {"value": [uploaded.json()], "nextLink": None}
    assert endpoint.send("GET", "files/notes.md", version=version).json() == uploaded.json()
    assert endpoint.send("GET", "files/notes.md/content", version=version).content == b"# Notes\n"
    deleted = endpoint.send("DELETE", "files/notes.md", version=version)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert endpoint.send("GET", "files", version=version).json()["value"] == []


@pytest.mark.parametrize("version", OLD_FILES)
def test_the_old_shape(endpoint: Endpoint, version: str) -> None:
    """An envelope with numbered "$id"s around each file, a message after a delete."""
    uploaded = endpoint.upload("a.txt", b"data", version=version)

    body = uploaded.json()
    properties = body["value"][0]["properties"]
    assert (body["$id"], body["value"][0]["$id"], properties["$id"]) == ("1", "2", "3")
    assert (properties["filename"], properties["size"]) == ("a.txt", 4)
    assert properties["lastModifiedTime"].endswith("Z")
    assert endpoint.send("GET", "files", version=version).json() == body
    assert endpoint.send("GET", "files/a.txt", version=version).json() == body
    assert endpoint.send("GET", "files/content/a.txt", version=version).content == b"data"
    deleted = endpoint.send("DELETE", "files/a.txt", version=version)
    assert (deleted.status_code, deleted.json()) == (200, {"message": "file deleted successfully"})


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.one_level
def test_every_spelling_of_upload_and_download_is_there_on_every_version(endpoint: Endpoint, version: str) -> None:
    for number, path in enumerate(("files/upload", "files", "python/uploadFile")):
        reply = endpoint.send("POST", path, version=version, files={"file": (f"{number}.txt", b"x")})
        assert reply.status_code == 200, (path, reply.text)
    for path in ("files/content/0.txt", "files/1.txt/content", "files/content/2.txt/content"):
        assert endpoint.send("GET", path, version=version).content == b"x", path
    query = {"filename": "2.txt"}
    assert endpoint.send("GET", "python/downloadFile", version=version, query=query).content == b"x"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_goes_round(endpoint: Endpoint, name: str) -> None:
    """Uploaded, listed, seen by code, read and deleted under the very same name."""
    if len(name) == 255:
        name = name[:251] + ".txt"
    quoted = quote(name, safe="")
    uploaded = endpoint.upload(name, b"content")

    assert (uploaded.status_code, uploaded.json()["name"]) == (200, name)
    assert [each["name"] for each in endpoint.send("GET", "files").json()["value"]] == [name]
    assert endpoint.result("import os; os.listdir('.')") == [name]
    assert endpoint.raw("GET", endpoint.target(f"files/{quoted}/content"))[2] == b"content"
    assert endpoint.raw("GET", endpoint.target(f"files/{quoted}"))[0] == 200
    assert endpoint.raw("DELETE", endpoint.target(f"files/{quoted}"))[0] == 204


@pytest.mark.parametrize("sent", ["/mnt/data/a.txt", "a%2Etxt", "a.txt"])
def test_clients_spell_upload_names_in_their_own_ways(endpoint: Endpoint, sent: str) -> None:
    """An absolute path below /mnt/data, percent-encoded, or plain: the same file."""
    assert endpoint.upload(sent, b"x", version=V24_02).json()["value"][0]["properties"]["filename"] == "a.txt"


@pytest.mark.parametrize("path", ["", "/", ".", "/mnt/data", "/mnt/data/"])
def test_the_root_has_many_spellings(shared: Endpoint, path: str) -> None:
    assert shared.upload("root.txt", b"x", path=path).json()["directory"] == "."
    listed = shared.send("GET", "files", query={"path": path}).json()["value"]
    assert "root.txt" in [each["name"] for each in listed]


@pytest.mark.parametrize("path", ["sub/folder", "/mnt/data/sub/folder", "sub/folder/", "sub//folder"])
def test_directories_are_made_on_the_way(endpoint: Endpoint, path: str) -> None:
    """An upload with `path` makes it; listing, metadata, download and delete take the same `path`."""
    uploaded = endpoint.upload("in.txt", b"inside", path=path)

    assert (uploaded.status_code, uploaded.json()["directory"]) == (200, "sub/folder")
    query = {"path": path}
    assert [each["name"] for each in endpoint.send("GET", "files", query=query).json()["value"]] == ["in.txt"]
    assert endpoint.send("GET", "files/in.txt", query=query).json()["sizeInBytes"] == 6
    assert endpoint.send("GET", "files/in.txt/content", query=query).content == b"inside"
    assert endpoint.result("open('sub/folder/in.txt').read()") == "inside"
    assert endpoint.send("DELETE", "files/in.txt", query=query).status_code == 204


def test_names_may_hold_directories(endpoint: Endpoint) -> None:
    """As several clients send them, with the slash plain or encoded."""
    endpoint.upload("sub/in.txt", b"inside", version=V24_02)

    for path in ("files/content/sub/in.txt", "files/sub%2Fin.txt/content", "files/content/sub%2Fin.txt"):
        assert endpoint.raw("GET", endpoint.target(path))[2] == b"inside", path


def test_listing_one_level_or_all(endpoint: Endpoint) -> None:
    """Directories are entries of type `directory`; `recursive` descends; the old shape knows files only, with their path as name."""
    endpoint.upload("top.txt", b"1")
    endpoint.upload("in.txt", b"22", path="one/two")

    def names(version: str = V25_10, **query: str) -> list[tuple[str, ...]]:
        body = endpoint.send("GET", "files", version=version, query=query).json()
        return sorted((each["directory"], each["name"], each["type"]) for each in body["value"])

    assert names() == [(".", "one", "directory"), (".", "top.txt", "file")]
    below = [
        (".", "one", "directory"),
        (".", "top.txt", "file"),
        ("one", "two", "directory"),
        ("one/two", "in.txt", "file"),
    ]
    assert names(recursive="true") == below
    assert names(path="one", recursive="true") == [("one", "two", "directory"), ("one/two", "in.txt", "file")]
    old = endpoint.send("GET", "files", version=V24_02).json()["value"]
    assert sorted(each["properties"]["filename"] for each in old) == ["one/two/in.txt", "top.txt"]


def test_a_missing_directory_is_empty(shared: Endpoint) -> None:
    reply = shared.send("GET", "files", query={"path": "not/there"})

    assert (reply.status_code, reply.json()["value"]) == (200, [])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.one_level
def test_a_missing_file_is_a_404(shared: Endpoint, version: str) -> None:
    for path in ("files/missing.txt", "files/missing.txt/content", "files/content/missing.txt"):
        reply = shared.send("GET", path, version=version)
        assert (reply.status_code, error_of(reply)["code"]) == (404, "FileNotFound")
    reply = shared.send("DELETE", "files/missing.txt", version=version)
    assert (reply.status_code, error_of(reply)["code"]) == (404, "DeleteFileError")


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.one_level
def test_names_that_escape_are_refused(shared: Endpoint, name: str) -> None:
    """In upload names, in `path` and in the URL: 400 FilePathInvalid, whatever the call."""
    quoted = quote(name, safe="")
    boundary = b"b0undary"
    disposition = b'Content-Disposition: form-data; name="file"; filename="' + name.encode() + b'"'
    form = b"\r\n".join([b"--" + boundary, disposition, b"", b"x", b"--" + boundary + b"--", b""])
    headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}
    refused = [
        shared.raw("GET", shared.target(f"files/{quoted}")),
        shared.raw("GET", shared.target(f"files/{quoted}/content")),
        shared.raw("GET", shared.target(f"files/content/{quoted}")),
        shared.raw("DELETE", shared.target(f"files/{quoted}")),
        shared.raw("GET", shared.target("files", more={"path": name})),
        shared.raw("GET", shared.target("python/downloadFile", more={"filename": name})),
    ]
    if not set(name) & {"\x00", "\n"}:  # a part's header cannot hold these at all
        refused.append(shared.raw("POST", shared.target("files"), form, headers))

    for status, reply_headers, body in refused:
        assert (status, reply_headers["x-ms-error-code"]) == (400, "FilePathInvalid"), body


def test_a_path_may_be_neither_endless_nor_bottomless(shared: Endpoint) -> None:
    for path in ("a/" * 64, "x/" + "y" * 3000):
        assert shared.upload("a.txt", b"x", path=path).status_code == 400


@pytest.mark.parametrize(
    ("asked", "status", "content", "where"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("bytes=5-2", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
    ],
)
@pytest.mark.one_level
def test_ranges(shared: Endpoint, asked: str, status: int, content: bytes | None, where: str | None) -> None:
    """One range is honoured, what cannot be read is ignored, what lies outside is 416."""
    shared.upload("digits.txt", b"0123456789")
    reply = shared.send("GET", "files/digits.txt/content", headers={"Range": asked})

    assert (reply.status_code, reply.headers.get("content-range")) == (status, where)
    assert content is None or reply.content == content


def test_downloads_carry_what_browsers_and_clients_need(shared: Endpoint) -> None:
    """Type, length, date, ranges; as an attachment, so that no page of a session's is shown as ours. HEAD has no body."""
    shared.upload("page é.html", b"<script>1</script>")
    target = shared.target(f"files/{quote('page é.html', safe='')}/content")
    _, got, body = shared.raw("GET", target)
    _, headed, nothing = shared.raw("HEAD", target)

    assert body == b"<script>1</script>"
    assert nothing == b""
    for headers in (got, headed):
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert (headers["content-length"], headers["accept-ranges"]) == ("18", "bytes")
        assert headers["last-modified"].endswith("GMT")
        assert headers["content-disposition"].startswith("attachment")
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "text/csv; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.PNG", "image/png"),
        ("a.unheard-of", "application/octet-stream"),
        ("Makefile", "application/octet-stream"),
        ("a.tar.gz", "application/gzip"),
    ],
)
@pytest.mark.one_level
def test_content_types_go_by_the_name(shared: Endpoint, name: str, kind: str) -> None:
    assert shared.upload(name, b"x").json()["contentType"] == kind
    assert shared.send("GET", f"files/{name}/content").headers["content-type"] == kind


def test_an_empty_file_goes_round(shared: Endpoint) -> None:
    assert shared.upload("empty.txt", b"").json()["sizeInBytes"] == 0
    assert shared.send("GET", "files/empty.txt/content").content == b""


def test_an_upload_replaces_and_code_that_has_the_old_one_open_keeps_it(endpoint: Endpoint) -> None:
    """Atomic: a reader sees the one or the other, whole."""
    endpoint.upload("a.txt", b"old content")
    endpoint.run("held = open('a.txt')")
    endpoint.upload("a.txt", b"new")

    assert endpoint.result("held.read(), open('a.txt').read()") == ["old content", "new"]
    assert [each["name"] for each in endpoint.send("GET", "files").json()["value"]] == ["a.txt"]


def test_code_and_callers_see_each_others_files(endpoint: Endpoint) -> None:
    """The working directory is the data folder, at /mnt/data where there is a sandbox; uploads are writable for the code."""
    endpoint.upload("in.csv", b"a,b\n1,2\n")
    endpoint.result("open('out.csv', 'w').write(open('in.csv').read().replace(',', ';'))")
    endpoint.result("open('in.csv', 'a').write('3,4\\n')")

    assert endpoint.send("GET", "files/out.csv/content").content == b"a;b\n1;2\n"
    assert endpoint.send("GET", "files/in.csv/content").content == b"a,b\n1,2\n3,4\n"


def test_a_directory_can_be_deleted_and_not_downloaded(endpoint: Endpoint) -> None:
    endpoint.upload("in.txt", b"x", path="folder/deep")
    content = endpoint.send("GET", "files/folder/content")

    assert content.status_code in (404, 409)
    assert endpoint.send("GET", "files/folder").json()["type"] == "directory"
    assert endpoint.send("DELETE", "files/folder").status_code == 204
    assert endpoint.result("import os; os.listdir('.')") == []


def test_many_files_are_listed_whole(endpoint: Endpoint) -> None:
    """Thousands of entries come in one reply."""
    endpoint.result("for n in range(3000): open(f'file-{n:05}.txt', 'w').close()")
    value: list[dict[str, Any]] = endpoint.send("GET", "files").json()["value"]

    assert [each["name"] for each in value] == [f"file-{n:05}.txt" for n in range(3000)]
