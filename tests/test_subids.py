"""Which subordinate ids are a user's, as /etc/subuid says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from carrel.backends import ids
from carrel.host.subids import longest


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ann:100000:65536\n", range(100_000, 165_536)),
        ("ann:100000:10\n1001:300000:20\nbob:1:99999\n", range(300_000, 300_020)),
        ("# ann:1:2\nann\nann::\nann:x:5\nann:5\n\n", range(0)),
        ("ann:0:65536\n", range(0)),  # nobody gets root by a typing error
        ("", range(0)),
    ],
)
def test_the_longest_range_of_the_user_counts(tmp_path: Path, text: str, found: range) -> None:
    """By name or number; lines that are not understood are nobody's."""
    (tmp_path / "subuid").write_text(text)

    assert longest(tmp_path / "subuid", {"ann", "1001"}) == found


def test_a_file_that_is_not_there_gives_nothing(tmp_path: Path) -> None:
    assert longest(tmp_path / "subuid", {"ann"}) == range(0)


def test_every_id_inside_is_handed_out_once(tmp_path: Path) -> None:
    """1 to the last one, beginning elsewhere for another state folder."""
    one, two = (ids.inside(ids.slot(tmp_path / name), 1000) for name in "ab")

    assert sorted(one) == sorted(two) == list(range(1, 1001))
    assert one[-1] != two[-1]
    assert ids.inside(7, 0) == []
