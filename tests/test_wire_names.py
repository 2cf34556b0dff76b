"""What callers may call things: sessions, executions, files and directories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel import errors
from carrel.wire import jsons, names

# ---- identifiers ------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=4, max_size=128))
def test_an_identifier_is_any_4_to_128_printable_ascii_characters(text: str) -> None:
    """Space, slash and @ included, and never changed on the way."""
    assert names.decode_identifier(text) == text


@given(st.text(max_size=200))
def test_any_other_identifier_is_refused_by_its_own_code(text: str) -> None:
    try:
        assert names.decode_identifier(text) == text
        assert 4 <= len(text) <= 128
        assert text.isascii()
        assert text.isprintable()
    except errors.IdentifierLengthInvalid:
        assert not 4 <= len(text) <= 128
    except errors.RequestInvalid as error:
        assert error.target == "identifier"
        assert not (text.isascii() and text.isprintable())


def test_an_operation_id_fits_into_a_path() -> None:
    assert names.decode_operation_id(None) is None
    assert names.decode_operation_id("553e972b-2925") == "553e972b-2925"
    for text in ("", "a/b", "a b", "a\r\nb", "é", "x" * 129):
        with pytest.raises(errors.RequestInvalid):
            names.decode_operation_id(text)


# ---- file names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "directory", "path"),
    [
        ("a.txt", "", "a.txt"),
        ("/mnt/data/a.txt", "", "a.txt"),
        ("sub//dir/a.txt", "", "sub/dir/a.txt"),
        ("a.txt", "sub/dir", "sub/dir/a.txt"),
        ("résumé 1 (final), @$&=;,#%^.txt", "", "résumé 1 (final), @$&=;,#%^.txt"),
        ("日本語.csv", "数据", "数据/日本語.csv"),
        (".hidden", "", ".hidden"),
        ("..a", "", "..a"),
    ],
)
def test_a_file_name_is_a_path_below_the_data_folder(name: str, directory: str, path: str) -> None:
    assert names.decode_file_path(name, names.decode_directory(directory)) == path


@pytest.mark.parametrize("text", [None, "", "/", ".", "/mnt/data", "/mnt/data/"])
def test_the_data_folder_has_many_names(text: str | None) -> None:
    assert names.decode_directory(text) == ""


@pytest.mark.parametrize("text", ["/mnt/data/a/b", "a/b", "a/b/", "a//b"])
def test_a_directory_may_be_absolute_below_the_data_folder(text: str) -> None:
    assert names.decode_directory(text) == "a/b"


ESCAPES = [
    "..",
    "../x",
    "a/../../x",
    "a/./x",
    "/etc/passwd",
    "/mnt/database/x",
    "/mnt/data/../x",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "..\\..\\x",
    "C:\\x",
    "\ud800",
    "x" * 256,
    "é" * 128,
    "/".join("x" * 40),
    "/".join(["y" * 250] * 10),
]


@pytest.mark.parametrize("text", ESCAPES)
def test_a_name_that_escapes_or_does_not_fit_is_refused(text: str) -> None:
    """And the message can be sent: whatever stood in the name."""
    for decoder in (names.decode_file_path, names.decode_directory):
        with pytest.raises(errors.FilePathInvalid) as caught:
            decoder(text)
        assert jsons.encode(caught.value.message)


@pytest.mark.parametrize("name", ["", "/mnt/data/", "/mnt/data"])
def test_a_file_needs_a_name(name: str) -> None:
    with pytest.raises(errors.FilePathInvalid):
        names.decode_file_path(name)


@given(st.text(max_size=300), st.text(max_size=50))
def test_no_path_that_passes_leads_out(name: str, directory: str) -> None:
    try:
        path = names.decode_file_path(name, names.decode_directory(directory))
    except errors.FilePathInvalid:
        return
    assert path
    assert not path.startswith("/")
    assert all(segment not in ("", ".", "..") and len(segment.encode()) <= 255 for segment in path.split("/"))
    assert "\0" not in path


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        (b"plain.txt", "plain.txt"),
        (b"with%20space.csv", "with space.csv"),  # AutoGen
        (b"r%C3%A9sum%C3%A9.txt", "résumé.txt"),
        (b"%2Fmnt%2Fdata%2Fx.txt", "/mnt/data/x.txt"),
        ("résumé.txt".encode(), "résumé.txt"),  # requests, httpx, curl
        (b"100% sure.txt", "100% sure.txt"),
        (b"100%25 sure.txt", "100%25 sure.txt"),
        (b"100%.txt", "100%.txt"),
        (b"say %22hi%22 now.txt", 'say "hi" now.txt'),  # Node
        (b"%FF.txt", "%FF.txt"),  # decoded it would not be UTF-8, so it never was encoded
        (b"", ""),
    ],
)
def test_upload_names_are_read_as_each_client_means_them(raw: bytes, meant: str) -> None:
    assert names.decode_upload_name(raw) == meant


def test_an_upload_name_must_be_utf8() -> None:
    with pytest.raises(errors.FilePathInvalid):
        names.decode_upload_name(b"\xff.txt")
