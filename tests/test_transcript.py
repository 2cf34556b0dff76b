"""What an execution printed, as many read it while it grows: order, places, characters, bounds."""

from __future__ import annotations

import asyncio
import random

import pytest

from carrel.guest.texts import whole
from carrel.sessions import transcript
from carrel.sessions.transcript import DISPLAY, PIECE, Piece, Transcript


def read_all(kept: Transcript, place: int = 0) -> list[Piece]:
    pieces = []
    while (piece := kept.read(place)) is not None:
        pieces.append(piece)
        place = piece.place
    return pieces


def test_pieces_come_in_the_order_in_which_they_came() -> None:
    kept = Transcript(100)
    kept.add("stdout", b"a")
    kept.add("stdout", b"b")
    kept.add("stderr", b"e")
    kept.display(b"{}")
    kept.display(b"{}")
    kept.add("stdout", b"c")

    assert [(piece.kind, piece.data) for piece in read_all(kept)] == [
        ("stdout", b"ab"),
        ("stderr", b"e"),
        (DISPLAY, b"{}"),
        (DISPLAY, b"{}"),
        ("stdout", b"c"),
    ]
    assert (kept.text("stdout"), kept.text("stderr"), kept.displays()) == (b"abc", b"e", [b"{}", b"{}"])


def test_whoever_comes_back_gets_what_he_has_not_seen() -> None:
    """A place means the same at any time, also when what it names has grown since; half a display is read again, whole."""
    kept = Transcript(100)
    kept.add("stdout", b"ab")
    (seen,) = read_all(kept)
    kept.add("stdout", b"cd")
    kept.display(b"{...}")

    assert [piece.data for piece in read_all(kept, seen.place)] == [b"cd", b"{...}"]
    assert [piece.data for piece in read_all(kept, 1)] == [b"bcd", b"{...}"]
    assert [piece.data for piece in read_all(kept, 6)] == [b"{...}"]
    assert read_all(kept, 9) == read_all(kept, 10**12) == []


def test_no_piece_cuts_a_character() -> None:
    """However the bytes came; what is no character in the end is given as it is."""
    text = "aä€😀" * 40_000
    data = text.encode()
    chance = random.Random(4)  # noqa: S311 - the same pieces each time
    kept, at = Transcript(10**6), 0
    seen, place = "", 0
    while at < len(data):
        size = chance.choice((1, 2, 3, 70_000))
        kept.add("stdout", data[at : at + size])
        at += size
        for piece in read_all(kept, place):
            assert len(piece.data) <= PIECE
            seen += piece.data.decode()
            place = piece.place
    assert seen == text

    kept.add("stdout", "€".encode()[:2])
    assert kept.read(place) is None
    kept.close()
    assert [piece.data for piece in read_all(kept, place)] == ["€".encode()[:2]]


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", 0),
        (b"a", 1),
        (b"\xe2", 0),
        (b"\xe2\x82", 0),
        (b"\xe2\x82\xac", 3),
        (b"a\xf0\x9f\x98", 1),
        (b"\x80" * 5, 5),
    ],
)
def test_whole_characters(data: bytes, size: int) -> None:
    assert whole(data) == size


def test_a_text_ends_at_its_limit_in_characters_and_the_other_goes_on() -> None:
    kept = Transcript(3)
    kept.add("stdout", "äö".encode())
    kept.add("stdout", "üäö".encode())
    kept.add("stderr", b"ab")
    kept.add("stdout", b"x")
    kept.close("ended")

    assert (kept.text("stdout").decode(), kept.text("stderr")) == ("äöü", b"ab\nended")
    kept.add("stderr", b"late")
    kept.display(b"{}")
    assert kept.text("stderr") == b"ab\nended" and kept.displays() == []


def test_a_row_of_changes_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the order among each other is given up, and no byte."""
    monkeypatch.setattr(transcript, "MAX_CHANGES", 10)
    kept = Transcript(1000)
    for _ in range(100):
        kept.add("stdout", b"o")
        kept.add("stderr", b"e")
    assert len(read_all(kept)) == 10
    kept.close()

    assert kept.text("stdout") == b"o" * 100 and kept.text("stderr") == b"e" * 100
    assert b"".join(piece.data for piece in read_all(kept) if piece.kind == "stderr") == b"e" * 100
    assert len(read_all(kept)) <= 12


def test_watchers_are_told() -> None:
    kept = Transcript(10)
    event = asyncio.Event()
    kept.watchers.add(event)
    kept.add("stdout", b"x")
    assert event.is_set()
    event.clear()
    kept.display(b"{}")
    assert event.is_set()
    event.clear()
    kept.close()
    assert event.is_set()
