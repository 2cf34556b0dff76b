"""The frame in which the console draws a session's markup: what it may do is said by its headers, and these hold alone.

Nothing of the console's is between the markup and the browser here: what it takes out (src/carrel/console/output.html) is gone around.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Frame, Page, expect

from browser import TIMEOUT_MS, Driver
from conftest import Server

DRAW = """([mime, text]) => new Promise((resolve) => {
  const frame = document.createElement("iframe");
  frame.id = "drawn";
  frame.sandbox = "allow-scripts";
  frame.src = "output";
  frame.addEventListener("load", () => {
    const channel = new MessageChannel();
    channel.port1.onmessage = ({ data }) => resolve(data.height);
    frame.contentWindow.postMessage({ mime, text, theme: "light" }, "*", [channel.port2]);
  }, { once: true });
  document.getElementById("drawn")?.remove();
  document.body.append(frame);
})"""


class Listener:
    """Somebody on the network: counts who comes, and who says anything."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.seen, self.said = self._socket.getsockname()[1], 0, b""
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.seen += 1
                connection.settimeout(1)
                with connection, contextlib.suppress(TimeoutError):
                    self.said += connection.recv(1024)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def beacon() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def bare_tab(browser_driver: Driver, console_server: Server) -> Iterator[Page]:
    """A tab that nobody watches for refusals, which attacks cause by the dozen."""
    tab = browser_driver.run(
        lambda: browser_driver.browser.new_context(base_url=console_server.connection["http"]).new_page()
    )
    yield tab
    browser_driver.run(tab.context.close)


@pytest.fixture
def bare_page(browser_driver: Driver, bare_tab: Page) -> Page:
    browser_driver.run(lambda: _open(bare_tab))
    return bare_tab


def _open(page: Page) -> None:
    page.set_default_timeout(TIMEOUT_MS)
    page.goto("/console/")
    page.evaluate("sessionStorage.setItem('token', 'a token')")


def drawn(page: Page, mime: str, text: str) -> tuple[Frame, float]:
    height = page.evaluate(DRAW, [mime, text])
    return next(each for each in page.frames if each != page.main_frame), height


def test_its_headers_say_what_it_may(console_server: Server) -> None:
    with httpx.Client(base_url=console_server.connection["http"], trust_env=False) as http:
        reply = http.get("/console/output")
        policy = dict(each.strip().partition(" ")[::2] for each in reply.headers["content-security-policy"].split(";"))

        assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert policy["sandbox"] == "allow-scripts"
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["script-src"].startswith("'sha256-") and " " not in policy["script-src"]
        assert policy["frame-ancestors"] == "'self'"
        assert (policy["img-src"], policy["font-src"]) == ("data:", "data:")
        assert http.get("/console/output.html").status_code in (401, 404)
        assert "frame-src 'self'" in http.get("/console/").headers["content-security-policy"]


def test_markup_is_drawn_and_as_tall_as_it_is(bare_page: Page) -> None:
    frame, height = drawn(
        bare_page, "text/html", "<style>i{color:red}</style><h1 style='height:321px;margin:0'>A <i>b</i></h1>"
    )

    expect(frame.locator("h1")).to_have_text("A b")
    assert 321 <= height < 340
    assert frame.locator("i").evaluate("e => getComputedStyle(e).color") == "rgb(255, 0, 0)"
    frame, _ = drawn(
        bare_page,
        "image/svg+xml",
        "<svg xmlns='http://www.w3.org/2000/svg' width='90' height='50'><rect width='9' height='9'/></svg>",
    )
    expect(frame.locator("svg rect")).to_have_count(1)
    frame, _ = drawn(bare_page, "image/svg+xml", "<svg><rect></svg")  # none: then as HTML has it
    expect(frame.locator("svg rect")).to_have_count(1)


SCRIPTS = """
<script>document.title = 'ran'</script>
<img src=x onerror="document.title = 'ran'">
<svg onload="document.title = 'ran'"><script>document.title = 'ran'</script></svg>
<iframe srcdoc="<script>parent.document.title = 'ran'</script>"></iframe>
<details open ontoggle="document.title = 'ran'">x</details>
<math><mtext><table><mglyph><style><img src=x onerror="document.title = 'ran'"></style></mglyph></table></mtext></math>
<a href="javascript:document.title = 'ran'" class=go>go</a>
<form action="javascript:document.title = 'ran'"><button class=go>go</button></form>
<object data="data:text/html,<script>top.document.title = 'ran'</script>"></object>
<svg><animate attributeName=href to="javascript:document.title = 'ran'"/><a><text>go</text></a></svg>
<title>ran</title><meta http-equiv=refresh content="0;url=javascript:document.title='ran'"><p id=end>end</p>
"""
ACTIVE = "script, iframe, object, form, title, meta, animate, [onerror], [onload], [ontoggle], [href^=javascript]"
AROUND = """(markup) => {
  document.body.append(document.createRange().createContextualFragment(markup.replace(/<(title|meta)[^]*/, "")));
  for (const each of document.querySelectorAll(".go")) each.click();
  const script = document.createElement("script");
  script.textContent = "document.title = 'ran'";
  document.body.append(script);
  return new Promise((done) => setTimeout(done, 50));
}"""


def test_no_script_of_the_markups_runs(bare_page: Page) -> None:
    """Neither by what the page takes out, nor where that is gone around and the policy is alone."""
    frame, _ = drawn(bare_page, "text/html", SCRIPTS)
    expect(frame.locator("#end")).to_have_text("end")
    assert frame.evaluate("(active) => document.getElementById('output').querySelectorAll(active).length", ACTIVE) == 0
    frame.evaluate(AROUND, SCRIPTS)

    assert (frame.title(), bare_page.title()) == ("Output", "Sign in · Carrel")


PREFIXED = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink" width="99" height="99">
<defs><rect id="r" width="9" height="9"/></defs><use x:href="#r"/>
<a x:href="//127.0.0.1:PORT/"><rect id="go" width="99" height="99"/></a></svg>"""


@pytest.mark.thorough
def test_a_link_by_any_other_prefix_leads_nowhere(bare_page: Page, beacon: Listener) -> None:
    """The prefix of a namespace is the drawing's to choose: a click on such a link connected to another machine."""
    frame, _ = drawn(bare_page, "image/svg+xml", PREFIXED.replace("PORT", str(beacon.port)))
    frame.locator("#go").click()
    bare_page.wait_for_timeout(500)

    assert frame.evaluate("() => [...document.querySelectorAll('a')].map((each) => each.href.baseVal)") == [""]
    assert frame.evaluate("() => document.querySelector('use').href.baseVal") == "#r"
    assert (beacon.seen, frame.url.rpartition("/")[2]) == (0, "output")


def test_it_reaches_neither_page_nor_storage(bare_page: Page) -> None:
    frame, _ = drawn(bare_page, "text/html", "x")

    for expression in (
        "top.document",
        "parent.sessionStorage",
        "sessionStorage",
        "localStorage",
        "document.cookie = 'a=1'",
        "indexedDB.open('x')",
    ):
        refused = frame.evaluate(f"() => {{ try {{ {expression}; return '' }} catch (error) {{ return error.name }} }}")
        assert refused == "SecurityError", expression
    assert frame.evaluate("() => self.origin") == "null"
    assert frame.evaluate("() => open('/console/')") is None  # a popup
    assert frame.evaluate(
        "() => { try { top.location = '/health'; return '' } catch (error) { return error.name } }"
    ) in ("SecurityError", "")
    assert bare_page.url.endswith("/console/")
    assert frame.evaluate("() => { alert(1); return confirm('x') }") is False


BEACONS = """
<link rel=preconnect href=//127.0.0.1:PORT><link rel=prefetch href=//127.0.0.1:PORT><link rel=stylesheet href=//127.0.0.1:PORT>
<link rel=icon href=//127.0.0.1:PORT><link rel=modulepreload href=//127.0.0.1:PORT>
<style>@import '//127.0.0.1:PORT';
@font-face {font-family: f; src: url(//127.0.0.1:PORT)} p {font-family: f; background: url(//127.0.0.1:PORT)}</style>
<img src=//127.0.0.1:PORT><img srcset='//127.0.0.1:PORT 1x'><picture><source srcset=//127.0.0.1:PORT><img></picture>
<video src=//127.0.0.1:PORT poster=//127.0.0.1:PORT autoplay></video><audio src=//127.0.0.1:PORT autoplay></audio>
<embed src=//127.0.0.1:PORT><object data=//127.0.0.1:PORT></object><iframe src=//127.0.0.1:PORT></iframe>
<svg><image href=//127.0.0.1:PORT /><use href='//127.0.0.1:PORT#x'/><filter id=q><feImage href=//127.0.0.1:PORT /></filter></svg>
<p style='background:url(//127.0.0.1:PORT);cursor:url(//127.0.0.1:PORT),auto;mask:url(//127.0.0.1:PORT#m)'></p>
<p style='filter:url(//127.0.0.1:PORT#f)'>p</p>
<input type=image src=//127.0.0.1:PORT><body background=//127.0.0.1:PORT><table background=//127.0.0.1:PORT></table>
<meta http-equiv=refresh content='0;url=//127.0.0.1:PORT'><base href=//127.0.0.1:PORT><p id=end>end</p>
"""


def test_nothing_is_fetched_from_anywhere(bare_page: Page, beacon: Listener) -> None:
    """A session without network gets none by way of whoever looks at it: what is drawn asks nobody, and its scripts could not either."""
    frame, _ = drawn(bare_page, "text/html", BEACONS.replace("PORT", str(beacon.port)))
    expect(frame.locator("#end")).to_be_visible()
    assert frame.locator("#output").locator("link, meta, base, video, object, embed, input").count() == 0
    for attempt in (
        "fetch('//HOST')",
        "navigator.sendBeacon('//HOST', 'x')",
        "new WebSocket('ws://HOST')",
        "new EventSource('//HOST')",
        "new Image().src = '//HOST'",
    ):
        text = attempt.replace("HOST", f"127.0.0.1:{beacon.port}")
        frame.evaluate(f"async () => {{ try {{ await ({text}) }} catch {{}} }}")

    assert beacon.seen == 0


def test_it_is_not_led_elsewhere(bare_page: Page, beacon: Listener) -> None:
    """By the console's own policy: a link in what is drawn, were it left there, leads nowhere but to this server."""
    frame, _ = drawn(bare_page, "text/html", f"<a href='http://127.0.0.1:{beacon.port}/' id=go>go</a>")
    assert frame.locator("#go").get_attribute("href") is None
    told = """() => { window.refused = new Promise((resolve) => {
      document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
    }) }"""
    bare_page.evaluate(told)
    frame.evaluate(f"() => {{ location.href = 'http://127.0.0.1:{beacon.port}/' }}")

    assert bare_page.evaluate("refused") == "frame-src"
    assert (
        beacon.said == b""
    )  # chromium may get a connection ready before it looks at the policy: nothing is sent over it


def test_it_takes_its_markup_once_and_from_its_page_alone(bare_page: Page) -> None:
    frame, _ = drawn(bare_page, "text/html", "<p id=first>first</p>")
    forged = "postMessage({ mime: 'text/html', text: 'forged' }, '*', [new MessageChannel().port2])"
    bare_page.evaluate(f"document.getElementById('drawn').contentWindow.{forged}")
    frame.evaluate(f"() => {forged}")

    expect(frame.locator("#output")).to_have_text("first")
