"""A real browser for the tests of the console: Debian's chromium, without a window, driven by Playwright.

Theory of operation: one browser for the run, a fresh context (storage, cookies, cache) for each test. Playwright's plain API has an event
loop of its own in the thread that uses it, beside which no other asynchronous test could run there. So that thread is one of its own: a
test that takes `page` runs in it, whole, and pytest's waits. What a page says on its console, or throws, or asks of anybody but the
server, fails the test that had it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    expect,
    sync_playwright,
)

import chromium
from conftest import Server

T = TypeVar("T")

# What chromium itself says of an answer that is no success, or of nobody answering: tests of those cause them on purpose.
_EXPECTED = ("Failed to load resource",)
TIMEOUT_MS = 20_000


class Driver:
    """The thread that the browser is driven from."""

    def __init__(self, program: Path) -> None:
        expect.set_options(timeout=TIMEOUT_MS)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="browser")
        self._playwright, self.browser = self.run(lambda: self._start(program))

    def run(self, work: Callable[[], T]) -> T:
        """`work` in the browser's thread."""
        if threading.current_thread().name.startswith("browser"):
            return work()
        return self._thread.submit(work).result()

    def _start(self, program: Path) -> tuple[Playwright, Browser]:
        playwright = sync_playwright().start()
        return playwright, playwright.chromium.launch(executable_path=program, args=chromium.ARGUMENTS)

    def close(self) -> None:
        self.run(self.browser.close)
        self.run(self._playwright.stop)
        self._thread.shutdown()


class Watched:
    """What a page did that it should not have."""

    def __init__(self, page: Page, origin: str) -> None:
        self.faults: list[str] = []
        self._origin = origin
        page.on("console", self._spoken)
        page.on("pageerror", lambda error: self.faults.append(f"thrown: {error}"))
        page.on("request", self._asked)

    def _spoken(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_EXPECTED):
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https") and f"{parts.scheme}://{parts.netloc}" != self._origin:
            self.faults.append(f"asked elsewhere: {request.url}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """A test with a browser's page runs in the browser's thread."""
    if "browser_driver" not in pyfuncitem.fixturenames:
        return None
    driver: Any = pyfuncitem.funcargs["browser_driver"]
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    driver.run(lambda: pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(scope="session")
def browser_driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    program = chromium.found()
    if program is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(chromium.PROGRAMS)}")
    driver = Driver(chromium.wrapped(program, tmp_path_factory.mktemp("browser")))
    yield driver
    driver.close()


@contextlib.contextmanager
def tab(browser: Browser, origin: str) -> Iterator[Page]:
    """An empty one, with a storage of its own, that may ask nobody but `origin`. In the browser's thread."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    watched = Watched(page, origin)
    try:
        yield page
    finally:
        context.close()
    assert watched.faults == []


@pytest.fixture
def blank_page(browser_driver: Driver, console_server: Server) -> Iterator[Page]:
    """A tab that nobody has signed in with."""
    opened = tab(browser_driver.browser, console_server.connection["http"])
    yield browser_driver.run(opened.__enter__)
    browser_driver.run(lambda: opened.__exit__(None, None, None))


@pytest.fixture
def page(browser_driver: Driver, blank_page: Page, console_server: Server) -> Page:
    """A tab signed in as the server's own service principal, by the form for applications."""
    browser_driver.run(lambda: sign_in(blank_page, console_server))
    return blank_page


def sign_in(page: Page, server: Server, where: str = "") -> None:
    """As a person does it who has an application's secret. `where` is the part of the address after `#/`."""
    page.goto(f"{server.connection['http']}/console/#/{where}")
    page.get_by_text("Other ways").click()
    page.get_by_label("Client id").fill(server.connection["client_id"])
    page.get_by_label("Client secret").fill(server.connection["client_secret"])
    page.get_by_role("form", name="As an application").get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Pages").wait_for()


@pytest.fixture(scope="session")
def console_server(managed_server: Server) -> Server:
    """One that runs already for others where it can: pools of the small image, none kept ready."""
    return managed_server
