"""What a session displays may be anything: nothing of it reaches the console's page, its storage, its token or the network.

The frame itself is attacked in test_output_frame.py; here it all comes the whole way, from code in a session to the page that shows it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from browser import TIMEOUT_MS, Driver, sign_in
from carrel.client import SessionNotFound
from conftest import Server, fresh_identifier
from notebooks import Notebook

HTML = r"""
<title>taken</title><meta http-equiv="refresh" content="0;url=/health"><base href="//127.0.0.1:9/">
<script>top.document.title = parent.document.title = 'taken'; top.location = '/health'</script>
<script>for (const each of [parent, top]) each.postMessage({height: 1e9, token: 1}, '*')</script>
<img src=x onerror="parent.document.title = 'taken'"><img src="//127.0.0.1:9/beacon">
<a href="javascript:parent.document.title = 'taken'" target=_top id=link>link</a>
<form action="/console/" method=post target=_top><input name=q><button>go</button></form>
<iframe src="/console/"></iframe><object data="/console/"></object><embed src="/console/">
<link rel=preconnect href="//127.0.0.1:9"><link rel=stylesheet href="//127.0.0.1:9/x.css">
<style>@import "//127.0.0.1:9/y.css"; body { position: fixed; inset: 0; background: url(//127.0.0.1:9/z) }</style>
<div style="position: fixed; inset: -2000px; z-index: 2147483647; background: red">covers</div><p id=end>end</p>
"""
SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9"
  onload="parent.document.title = 'taken'">
<script>parent.document.title = 'taken'</script><a xlink:href="javascript:alert(1)"><rect id="end" width="9" height="9"/></a>
<foreignObject><iframe xmlns="http://www.w3.org/1999/xhtml" src="/console/"/></foreignObject><use href="//127.0.0.1:9/x#y"/>
<image href="//127.0.0.1:9/beacon"/><animate attributeName="href" values="javascript:alert(1)"/></svg>"""
ACTIVE = (
    "script, iframe, object, embed, form, input, link, meta, base, title, foreignObject, [onerror], [onload], [href]"
)
MARKUP = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


@pytest.fixture
def hostile(browser_driver: Driver, console_server: Server) -> Iterator[Notebook]:
    """A session whose very name is markup, in a tab whose refusals are what is wanted: whatever it throws or gets from elsewhere is not."""
    faults: list[str] = []
    page = browser_driver.run(lambda: _signed_in(browser_driver.browser, console_server, faults))
    found = Notebook(page, console_server, f"<b onclick=x>{fresh_identifier()}</b>")
    browser_driver.run(found.open)
    yield found
    browser_driver.run(page.context.close)
    assert faults == []
    with console_server.client(found.identifier) as client, contextlib.suppress(SessionNotFound):
        client.end()


def _signed_in(browser: Browser, server: Server, faults: list[str]) -> Page:
    page = browser.new_context(reduced_motion="reduce").new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.on("pageerror", lambda error: faults.append(f"thrown: {error}"))
    page.on("dialog", lambda dialog: faults.append(f"asked a person: {dialog.message}"))
    page.on("requestfinished", lambda request: _note(request, server, faults))
    sign_in(page, server)
    return page


def _note(request: Request, server: Server, faults: list[str]) -> None:
    if not request.url.startswith((server.connection["http"], "blob:", "data:")):
        faults.append(f"fetched: {request.url}")


def untouched(notebook: Notebook) -> None:
    page = notebook.page
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")
    assert page.title() == f"{notebook.identifier} · Carrel"
    assert "#/session/" in page.url
    assert len(page.context.pages) == 1
    expect(page.get_by_role("button", name="Run all")).to_be_enabled()


def test_markup_stays_in_its_frame(hostile: Notebook) -> None:
    shown = hostile.run(1, f"from IPython.display import HTML, SVG, display\ndisplay(HTML({HTML!r}))")
    frame = shown.frame_locator("iframe")
    expect(frame.locator("#end")).to_be_attached()
    expect(frame.locator("#output").locator(ACTIVE)).to_have_count(0)
    expect(shown.get_by_text("Scripts in it are not run here.")).to_be_visible()
    box = shown.locator("iframe").bounding_box()
    assert box is not None and box["height"] <= 640
    frame.locator("#link").dispatch_event("click")
    untouched(hostile)
    shown = hostile.run(1, f"display(SVG({SVG!r}))")
    expect(shown.frame_locator("iframe").locator("#end")).to_be_attached()
    expect(shown.frame_locator("iframe").locator("#output").locator(ACTIVE)).to_have_count(0)
    untouched(hostile)


def test_text_stays_text_wherever_it_is_shown(hostile: Notebook) -> None:
    """In streams, values, types, names of files and variables, errors, and what calls itself an image."""
    code = f"""
import sys
from IPython.display import display
markup = {MARKUP!r}
print(markup, file=sys.stderr)
open('a' + markup.replace('/', '_'), 'w').close()
display({{'text/markdown': markup}}, raw=True)
display({{'application/json': {{markup: [markup] * 99}}}}, raw=True)
display({{'image/png': markup}}, raw=True)
display({{'image/png': 'iVBORw0KGgoAAAA='}}, raw=True)
display({{'application/x-' + 'a' * 50: markup}}, raw=True)
schema = {{'fields': [{{'name': markup}}, {{'name': '__proto__'}}]}}
display({{'application/vnd.dataresource+json': {{'schema': schema, 'data': [{{markup: markup}}, None, 3]}}}}, raw=True)
display({{'application/vnd.dataresource+json': {{'schema': {{'fields': 'x'}}}}, 'text/plain': 'no table'}}, raw=True)
globals()['x'] = type(markup, (), {{}})()
markup
"""
    shown = hostile.run(1, code)
    expect(shown.get_by_text("no table").first).to_be_visible()
    expect(shown.get_by_text(MARKUP).first).to_be_visible()
    expect(shown.get_by_text("An image that is none.")).to_have_count(1)
    expect(shown.locator("script, img, iframe")).to_have_count(0)
    expect(hostile.pane("Files").get_by_text("a<img src=x")).to_be_visible()
    expect(hostile.pane("Variables").get_by_text("<img src=x").first).to_be_visible()
    hostile.run(1, f"raise Exception({MARKUP!r} + '\\x1b]8;;javascript:alert(1)\\x07link\\x1b]8;;\\x07')", how="bad")
    untouched(hostile)


@pytest.mark.thorough
def test_floods_are_bounded(hostile: Notebook) -> None:
    """50 MB of text, a line without an end, 100,000 pieces and thousands of displays: the page keeps the end and goes on answering."""
    page = hostile.page
    shown = hostile.run(1, "for n in range(700_000): print('x' * 70, n)")
    expect(shown.get_by_text("are not shown here")).to_be_visible()
    shown = hostile.run(1, "print('y' * 5_000_000)")
    expect(shown.get_by_text("… (cut)")).to_be_visible()
    hostile.run(
        1, "import sys\nfor n in range(100_000): sys.stdout.write('%d\\r' % n); sys.stdout.flush()\nprint('last')"
    )
    hostile.run(1, "from IPython.display import HTML, display\nfor n in range(3000): display(HTML(f'<b>{n}</b>'))")
    shown = hostile.run(1, "display(HTML('<i>' * 500_000))")
    hostile.run(1, "display(HTML('<table>' + '<tr><td>x' * 900_000))")
    hostile.run(1, "{'a': [list(range(1000))] * 1000}")
    assert page.evaluate("document.querySelectorAll('*').length") < 50_000
    untouched(hostile)
