"""Pictures of every page of the console: `make screenshots`, into out/screenshots.

Starts a server of its own with a few pools, lets some people work in them, and photographs each page at three widths in both themes with
the browser that the tests use. `--docs FOLDER` takes only the pictures that the documentation shows, in one width, small enough for a page.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

import chromium
from carrel.cli import launch
from carrel.client import ApiError, Client, Connection

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out/screenshots"
WIDTHS = {360: 780, 820: 1180, 1440: 900}
_BUILD_S = 600
THEMES = ("light", "dark")
CONFIG = """
[pools.analysis]
scaleConfiguration = {maxConcurrentSessions = 20, readySessionInstances = 2}
carrel = {image = "python-slim", memory = "256MiB", disk = "64MiB", tmp = "16MiB", logs = {records = "full"}}
[pools.scripts]
containerType = "Shell"
scaleConfiguration = {maxConcurrentSessions = 6, readySessionInstances = 1}
sessionNetworkConfiguration = {status = "EgressEnabled"}
carrel = {memory = "256MiB", disk = "64MiB", tmp = "16MiB", egress = {allow = ["pypi.org", "files.pythonhosted.org"]}}
[pools.trusted]
scaleConfiguration = {maxConcurrentSessions = 4, readySessionInstances = 0}
carrel = {image = "python-slim", isolation = "process", minimum = "process", memory = "256MiB", disk = "64MiB", tmp = "16MiB"}
"""
# The slim image has no library that draws: this one is uploaded into the session that is photographed.
CHART = b"""class bars:
    def __init__(self, values):
        self.values = values

    def _repr_svg_(self):
        drawn = ''.join(
            f'<rect x="{20 + 90 * n}" y="{190 - value}" width="60" height="{value}" fill="#2e7d5b"/>'
            f'<text x="{50 + 90 * n}" y="208" font-size="13" text-anchor="middle" fill="#888" font-family="sans-serif">{name}</text>'
            for n, (name, value) in enumerate(self.values.items())
        )
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="380" height="216">{drawn}</svg>'
"""
CELLS = (
    "rain = {'January': 141, 'April': 64, 'July': 52, 'November': 176}\nprint(max(rain, key=rain.get), 'is the wettest month')",
    "import chart\n\nchart.bars(rain)",
)
PEOPLE = ("alice", "bob", "carol", "dave", "erin")
CODE = (
    "sum(range(300_000))",
    "import json\nprint(json.dumps({'rows': 12, 'mean': 4.2}))",
    "[n * n for n in range(12)]",
    "open('report.csv', 'w').write('a,b\\n1,2\\n')",
    "1 / 0",
)


@dataclass(frozen=True)
class Shot:
    """A picture: the part of the address after `#/`, and what is done there first. `is_whole`: all of a page longer than the screen."""

    name: str
    place: str
    act: Callable[[Page], None] = lambda page: None
    is_whole: bool = True
    is_signed_in: bool = True


def _new_pool(page: Page) -> None:
    page.get_by_role("button", name="New pool").click()
    form = page.get_by_role("dialog", name="New pool")
    form.get_by_label("Name", exact=True).fill("reports")
    form.get_by_label("Sessions at most").fill("many")
    form.get_by_role("button", name="Create").click()
    form.locator("[aria-invalid]").first.wait_for()


def _delete(page: Page) -> None:
    page.get_by_role("button", name="Delete analysis").click()


def _select(page: Page) -> None:
    page.get_by_role("grid").focus()
    for key in ("ArrowDown", "Space", "ArrowDown", "Space"):
        page.keyboard.press(key)


def _open_record(page: Page) -> None:
    page.locator(".record summary").nth(1).click()


def _device(page: Page) -> None:
    with page.context.expect_page():
        page.get_by_role("button", name="Sign in").first.click()
    page.locator("output.code").wait_for()


def _draw(page: Page) -> None:
    """Cells and what they give. A tab that had them before has them still."""
    for number, code in enumerate(CELLS, 1):
        page.get_by_label(f"Code of cell {number}", exact=True).fill(code)
        page.keyboard.press("Shift+Enter")
        cell = page.get_by_role("region", name=f"Cell {number}", exact=True)
        cell.get_by_text(re.compile("^Done")).wait_for()
    variables = page.get_by_role("tab", name="Variables")
    if variables.is_visible():  # on a phone it is on another side of the page
        variables.click()
    page.wait_for_timeout(1000)  # for the frame to have the height of what it draws
    page.evaluate("scrollTo(0, 0)")


def _other_ways(page: Page) -> None:
    page.get_by_text("Other ways").click()


SHOTS = (
    Shot("sign-in", "", is_signed_in=False),
    Shot("sign-in-device", "", _device, is_signed_in=False),
    Shot("sign-in-other-ways", "", _other_ways, is_signed_in=False),
    Shot("pools", "pools"),
    Shot("new-pool", "pools", _new_pool, is_whole=False),
    Shot("delete-pool", "pools", _delete, is_whole=False),
    Shot("sessions", "sessions", is_whole=False),
    Shot("sessions-selected", "sessions/default/analysis", _select, is_whole=False),
    Shot("session", "session/default/analysis/alice-01", _draw, is_whole=False),
    Shot("log", "logs/default/analysis", _open_record, is_whole=False),
    Shot("usage", "usage"),
    Shot("health", "health"),
)
DOCS = ("pools", "sessions", "session", "health")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="only the pictures of the documentation, into FOLDER"
    )
    parser.add_argument("--only", metavar="NAME", action="append", help="only this one; repeat for more")
    given = parser.parse_args()
    program = chromium.found()
    if program is None:
        print(f"screenshots: no browser on this machine: none of {', '.join(chromium.PROGRAMS)}", file=sys.stderr)
        return 1
    names = given.only or (list(DOCS) if given.docs else [shot.name for shot in SHOTS])
    shots = [shot for shot in SHOTS if shot.name in names]
    folder = given.docs or OUT
    folder.mkdir(parents=True, exist_ok=True)
    with _server() as state, sync_playwright() as playwright:
        _work(state)
        connection = Connection.read(state)
        wrapper = chromium.wrapped(program, state.parent)
        browser = playwright.chromium.launch(executable_path=wrapper, args=chromium.ARGUMENTS)
        for theme in THEMES:
            for width in [1180] if given.docs else WIDTHS:
                _photograph(browser, connection, folder, shots, theme, width)
        browser.close()
    return 0


@contextlib.contextmanager
def _server() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="carrel-screenshots-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "carrel.toml").write_text(CONFIG)
        (folder / "carrel.toml").chmod(0o644)
        (folder / "state").mkdir()
        options = ["--config", str(folder / "carrel.toml"), "--log-level", "error"]
        with launch.server(folder / "state", options):
            yield folder / "state"


def _work(state: Path) -> None:
    """Some people at once, each with a conversation or two."""

    def work(person: str) -> None:
        for number in range(1, 4):
            with Client.from_connection(state, pool="analysis", identifier=f"{person}-{number:02}") as client:
                for code in CODE[: 2 + (number + len(person)) % 4]:
                    client.execute(code)

    for pool in ("analysis", "scripts"):
        with Client.from_connection(state, pool=pool, identifier="nightly-report") as client:
            _try_until_built(client)
    with Client.from_connection(state, pool="analysis", identifier=f"{PEOPLE[0]}-01") as client:
        client.upload("chart.py", CHART)
    threads = [threading.Thread(target=work, args=(person,)) for person in PEOPLE]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _try_until_built(client: Client) -> None:
    """A first run on a machine builds the images."""
    for _ in range(_BUILD_S):
        try:
            client.shell("ls -la; df -h .")
            return
        except ApiError:
            time.sleep(1)
    raise SystemExit("screenshots: the pools have no images")


def _photograph(
    browser: Browser, connection: Connection, folder: Path, shots: list[Shot], theme: str, width: int
) -> None:
    """All of one width and theme. The tab signs in once; the pictures of signing in come first, before it has."""
    height = WIDTHS.get(width, 760)
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if theme == "dark" else "light", locale="en-GB"
    )
    page = context.new_page()
    base = f"{connection.fields['http']}/console/"
    is_in = False
    for shot in sorted(shots, key=lambda each: each.is_signed_in):
        page.goto("about:blank")
        page.goto(f"{base}#/{shot.place}")
        if shot.is_signed_in and not is_in:
            _sign_in(page, connection)
            is_in = True
        page.get_by_text("Looking…").wait_for(state="hidden")
        page.wait_for_timeout(1500)  # until figures that are asked for one by one are there
        shot.act(page)
        page.screenshot(path=folder / f"{shot.name}-{width}-{theme}.png", full_page=shot.is_whole)
    context.close()


def _sign_in(page: Page, connection: Connection) -> None:
    page.get_by_text("Other ways").click()
    page.get_by_label("Client id").fill(connection.fields["client_id"])
    page.get_by_label("Client secret").fill(connection.fields["client_secret"])
    page.get_by_role("form", name="As an application").get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Pages").wait_for()


if __name__ == "__main__":
    sys.exit(main())
