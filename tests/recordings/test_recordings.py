"""Every route has a request and a reply in the documentation that went over the wire: docs/reference/recordings, by `make recordings`."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

import httpx
import pytest

from conftest import Server
from recordings import pages, story
from recordings.recorder import Recorder, Recording, operations

pytestmark = pytest.mark.one_level


@pytest.fixture(scope="module")
def recordings(managed_server: Server) -> Iterator[list[Recording]]:
    context = ssl.create_default_context(cafile=managed_server.connection["ca"])
    address = managed_server.connection["https"]
    plain = {"Accept-Encoding": "identity"}
    with httpx.Client(base_url=address, headers=plain, verify=context, trust_env=False, timeout=60) as http:
        recorder = Recorder(managed_server, http)
        story.all_planes(recorder)
    yield recorder.recordings


def test_every_operation_has_a_recording_and_no_other() -> None:
    told = {heading for page in pages.FOLDER.glob("*.md") for heading in pages.headings(page)}

    assert told == {pages.heading(each) for each in operations()}, "run `make recordings`"


@pytest.mark.thorough
def test_the_recordings_are_what_the_server_says(recordings: list[Recording]) -> None:
    """Statuses and shapes: what is said differs from machine to machine in its figures."""
    made = pages.pages(recordings)

    if os.environ.get("CARREL_RECORDINGS") == "write":
        pages.write(made)
    for name, text in made.items():
        kept = (pages.FOLDER / name).read_text()
        assert pages.replies(kept) == pages.replies(text), f"{name}: run `make recordings` and look at what has changed"
