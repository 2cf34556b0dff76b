"""Files in both shapes, byte ranges, and multipart uploads however they are cut."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carrel import errors
from carrel.models import FileInfo
from carrel.wire import files, multipart

FILE = FileInfo("data.csv", "sub/dir", False, 12, 1714634467.25)


# ---- files ------------------------------------------------------------------------------------------------------------


def test_old_files_are_numbered_depth_first_and_know_no_directories() -> None:
    listed = [replace(FILE, name="x", directory=""), replace(FILE, name="d", is_directory=True), FILE]

    assert json.loads(files.encode_old_files(listed)) == {
        "$id": "1",
        "value": [
            {
                "$id": "2",
                "properties": {
                    "$id": "3",
                    "filename": "x",
                    "size": 12,
                    "lastModifiedTime": "2024-05-02T07:21:07.2500000Z",
                },
            },
            {
                "$id": "4",
                "properties": {
                    "$id": "5",
                    "filename": "sub/dir/data.csv",
                    "size": 12,
                    "lastModifiedTime": "2024-05-02T07:21:07.2500000Z",
                },
            },
        ],
    }


def test_new_files_have_type_directory_and_content_type() -> None:
    folder = FileInfo("sub", "", True, 4096, 0)

    assert json.loads(files.encode_file(FILE)) == {
        "name": "data.csv",
        "directory": "sub/dir",
        "type": "file",
        "contentType": "text/csv; charset=utf-8",
        "sizeInBytes": 12,
        "lastModifiedAt": "2024-05-02T07:21:07.2500000Z",
    }
    listing = json.loads(files.encode_files([folder]))
    assert listing["nextLink"] is None
    assert (listing["value"][0]["type"], listing["value"][0]["directory"]) == ("directory", ".")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("README.md", "text/markdown; charset=utf-8"),
        ("a.TXT", "text/plain; charset=utf-8"),
        ("plot.png", "image/png"),
        ("x.yaml", "application/yaml"),
        ("x.tar.gz", "application/gzip"),
        ("x", "application/octet-stream"),
        ("data:a?b#c.json", "application/json"),
        ("\ud800.json", "application/json"),
    ],
)
def test_content_types_go_by_the_extension(name: str, kind: str) -> None:
    assert files.content_type(name) == kind


@given(st.integers(0, 50), st.integers(0, 60) | st.none(), st.integers(0, 60) | st.none())
@example(10, None, 0)
@example(0, 0, None)
def test_a_range_is_what_slicing_would_give(size: int, first: int | None, last: int | None) -> None:
    content = bytes(range(size))
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    suffix = content[-last:] if last else b""
    expected = suffix if first is None else content[first : None if last is None else last + 1]
    try:
        span = files.decode_range(header, size)
    except errors.RangeInvalid as error:
        assert expected == b""
        assert error.headers == {"Content-Range": f"bytes */{size}"}
        return
    if span is None:  # not a range: nothing named, or backwards
        assert (first is None and last is None) or (first is not None and last is not None and last < first)
        return
    assert content[span[0] : span[0] + span[1]] == expected != b""


@pytest.mark.parametrize(
    "header", [None, "", "bytes", "items=0-1", "bytes=0-1,3-4", "bytes=a-b", "bytes=" + "9" * 40 + "-"]
)
def test_what_is_not_one_range_means_the_whole_file(header: str | None) -> None:
    assert files.decode_range(header, 100) is None


# ---- multipart --------------------------------------------------------------------------------------------------------


def form(content: bytes, header: bytes = b'name="file"; filename="a.txt"', boundary: bytes = b"b0undary") -> bytes:
    head = b"--" + boundary + b"\r\nContent-Disposition: form-data; " + header + b"\r\nContent-Type: text/plain\r\n\r\n"
    return head + content + b"\r\n--" + boundary + b"--\r\n"


def read(pieces: list[bytes], boundary: bytes = b"b0undary") -> tuple[bytes | None, bytes]:
    reader = multipart.FileForm(boundary)
    content = b"".join(piece for data in pieces for piece in reader.feed(data))
    reader.finish()
    return reader.file_name, content


CONTENT = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"--", b"b0undary", b"\r\n--b0undar", b"\r\n", b"x", b"\0"]), max_size=30
).map(b"".join)


@given(CONTENT.filter(lambda content: b"\r\n--b0undary" not in b"\r\n" + content), st.data())
def test_a_form_reads_the_same_however_it_is_cut(content: bytes, data: st.DataObject) -> None:
    """Content that looks like a boundary, and cuts in the middle of one, change nothing."""
    body = form(content)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=12)) | {0, len(body)})
    pieces = [body[start:end] for start, end in itertools.pairwise(cuts)]

    assert read(pieces) == (b"a.txt", content)


@given(st.integers(0, len(form(b"some content")) - 5))
def test_a_form_cut_short_is_never_taken_for_whole(length: int) -> None:
    with pytest.raises(errors.RequestInvalid):
        read([form(b"some content")[:length]])


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b'name="file"; filename="/mnt/data/a.txt"', b"/mnt/data/a.txt"),
        (b"name=file; filename=a.txt", b"a.txt"),  # .NET without quotes
        (b'name="file"; filename="r\xc3\xa9sum\xc3\xa9.txt"', "résumé.txt".encode()),
        (b"name=file; filename=\"=?utf-8?B?w6k=?=\"; filename*=utf-8''%C3%A9.txt", "é.txt".encode()),
        (b'name="upload"; filename="a.txt"', b"a.txt"),
        (b'name="file"', b""),
        (b'name="file"; filename="C:\\\\Users\\\\me\\\\a.txt"', b"a.txt"),
    ],
)
def test_the_file_part_is_found_by_name_or_file_name(header: bytes, name: bytes) -> None:
    assert read([form(b"x", header)]) == (name, b"x")


def test_other_parts_are_skipped() -> None:
    end = b"--b0undary--\r\n"
    note = form(b"ignored", b'name="note"').removesuffix(end)
    late = form(b"late", b'name="file"; filename="b.txt"')

    assert read([note + form(b"x").removesuffix(end) + late]) == (b"a.txt", b"x")
    with pytest.raises(errors.RequestInvalid, match="holds no file"):
        read([form(b"ignored", b'name="note"')])


@pytest.mark.parametrize(
    "body", [b"nonsense", b"--other\r\n\r\n", b"--b0undary\r\nA" + b"A" * 100_000, b"--b0undary\r\n\x00: x\r\n\r\n"]
)
def test_a_malformed_form_is_refused(body: bytes) -> None:
    with pytest.raises(errors.RequestInvalid):
        read([body])


def test_the_boundary_is_taken_from_the_content_type() -> None:
    assert multipart.boundary_of("multipart/form-data; boundary=abc") == b"abc"
    assert multipart.boundary_of('Multipart/Form-Data; charset=utf-8; boundary="a b;c"') == b"a b;c"
    for text in (
        None,
        "",
        "application/json",
        "multipart/form-data",
        "application/json; boundary=x",
        "multipart/form-data; boundary=" + "x" * 300,
    ):
        assert multipart.boundary_of(text) is None


@given(st.integers(0, 30))
def test_the_boundary_is_sniffed_from_the_first_line_however_it_is_cut(length: int) -> None:
    """Semantic Kernel sends its uploads as application/json."""
    body = form(b"x")
    found = multipart.sniff_boundary(body[:length])

    assert found == (b"b0undary" if length >= len(b"--b0undary\r\n") else None)
    assert multipart.sniff_boundary(b"\r\n" + body) == b"b0undary"


@pytest.mark.parametrize("start", [b'{"code"', b"-x", b"\r\nx", b"--" + b"x" * 300, b"--a\0\r\n" + b"y" * 300])
def test_what_does_not_begin_with_a_boundary_is_refused(start: bytes) -> None:
    with pytest.raises(errors.RequestInvalid):
        multipart.sniff_boundary(start)


def test_a_body_that_ends_in_its_first_line_is_refused() -> None:
    for start in (b"", b"--abc"):
        with pytest.raises(errors.RequestInvalid):
            multipart.sniff_boundary(start, is_end=True)
