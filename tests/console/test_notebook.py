"""One session in the console: cells, what they give, files, variables and history, in a real browser against a real server."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import uuid
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from browser import Driver, sign_in, tab
from carrel.client import SessionNotFound
from conftest import Server, SlimServer, fresh_identifier
from notebooks import Notebook
from processes import eventually

VERSION = {"api-version": "2026-07-01"}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
def notebook(browser_driver: Driver, page: Page, console_server: Server) -> Iterator[Notebook]:
    found = Notebook(page, console_server, fresh_identifier())
    browser_driver.run(found.open)
    yield found
    with console_server.client(found.identifier) as client, contextlib.suppress(SessionNotFound):
        client.end()


def test_cells_run_and_tell_while_they_do(notebook: Notebook) -> None:
    """Output is there while the code goes on, a file that is uploaded meanwhile reaches it, and a tab that comes back has it all again."""
    page = notebook.page
    expect(page.get_by_text("Not begun")).to_be_visible()
    waiting = "import os, time\nprint('first', flush=True)\nwhile not os.path.exists('go'):\n    time.sleep(0.02)\nprint('then')\n[1, 2]"
    given = notebook.start(1, waiting, "Shift+Enter")
    expect(given.get_by_text("first")).to_be_visible()
    expect(notebook.cell(1)).to_have_attribute("data-state", "running")
    expect(notebook.code(2)).to_be_focused()  # Shift+Enter goes on
    notebook.start(2, "value = 6 * 7\nvalue")
    expect(notebook.cell(2).get_by_text("Waiting for its turn")).to_be_visible()
    page.get_by_label("Files to upload").set_input_files({"name": "go", "mimeType": "text/plain", "buffer": b""})
    expect(given.get_by_text("then")).to_be_visible()
    expect(given.get_by_text("[1, 2]")).to_be_visible()
    expect(notebook.given(2).get_by_text("42")).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()

    page.reload()

    expect(notebook.code(1)).to_have_value(waiting)
    expect(notebook.given(1).get_by_text("then")).to_be_visible()
    expect(notebook.given(2).get_by_text("42")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in", level=1)).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    assert page.evaluate("Object.keys(localStorage).filter((each) => each !== 'carrel.theme').length") == 0


def test_what_a_cell_gives_is_shown_as_what_it_is(notebook: Notebook) -> None:
    shown = notebook.run(
        1,
        f"from IPython.display import Image, HTML, SVG, display; import base64\ndisplay(Image(base64.b64decode('{PNG}')))",
    )
    expect(shown.get_by_role("img")).to_have_js_property("naturalWidth", 1)
    assert str(shown.get_by_role("img").get_attribute("src")).startswith("blob:")
    shown = notebook.run(1, "display(HTML('<table><tr><td>a cell</td></tr></table>'))")
    expect(shown.frame_locator("iframe").get_by_text("a cell")).to_be_visible()
    expect(shown.get_by_text("HTML object")).to_have_count(0)  # what is printed for those who know no displays
    shown = notebook.run(
        1,
        'display(SVG(\'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>\'))',
    )
    expect(shown.frame_locator("iframe").locator("rect")).to_be_visible()
    shown = notebook.run(1, "{'users': [{'name': 'Ann' * 9, 'n': n} for n in range(30)]}")
    shown.get_by_text("30 items").click()
    shown.get_by_text("2 members").first.click()
    expect(shown.get_by_text("AnnAnn")).to_be_visible()
    shown = notebook.run(
        1, "print('\\x1b[31mred\\x1b[0m plain \\x1b]0;title\\x07\\x1b[2J', end='\\n'); print('50%\\r100%')"
    )
    expect(shown.locator(".a-c-1")).to_have_text("red")
    expect(shown.locator(".lines")).to_have_text("red plain 100%")
    shown = notebook.run(1, "def f(): return 1 / 0\nf()", how="bad")
    expect(shown.get_by_text("ZeroDivisionError: division by zero")).to_be_visible()
    expect(notebook.cell(1).get_by_text("Failed · ")).to_be_visible()
    shown = notebook.run(1, "import os; os.kill(os.getpid(), 9)", how="bad")
    expect(notebook.cell(1).get_by_text("Killed, and its interpreter with it")).to_be_visible()


def test_running_is_interrupted_begun_anew_and_ended(notebook: Notebook) -> None:
    page = notebook.page
    given = notebook.start(1, "kept = 1\nprint('on', flush=True)\nwhile True: pass")
    expect(given.get_by_text("on")).to_be_visible()
    page.get_by_role("button", name="Interrupt", exact=True).click()
    expect(notebook.cell(1).get_by_text("Interrupted · ")).to_be_visible()
    notebook.run(1, "kept")
    page.get_by_role("button", name="Restart").click()
    page.get_by_role("dialog").get_by_role("button", name="Restart").click()
    expect(page.get_by_text("The interpreter is a fresh one.")).to_be_visible()
    expect(notebook.run(1, "kept", how="bad").get_by_text("NameError: name 'kept'").first).to_be_visible()
    page.get_by_role("button", name="Keep alive").click()

    page.get_by_role("button", name="End", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="End it").click()
    expect(page.get_by_text("This session has ended")).to_be_visible()
    expect(page.get_by_role("button", name="Restart")).to_be_disabled()
    notebook.run(1, "'anew'")
    expect(page.get_by_text("A new session has begun under this name")).to_be_visible()


def test_files_of_the_session(notebook: Notebook) -> None:
    """Listed, uploaded, opened, renamed, downloaded and deleted; one that has changed meanwhile is not overwritten."""
    page = notebook.page
    notebook.run(
        1, "import os; os.makedirs('folder/in'); open('<b>a&amp;.txt', 'w').write('text'); open('folder/b', 'w')"
    )
    files = notebook.pane("Files")
    expect(files.get_by_role("button", name="<b>a&amp;.txt", exact=True)).to_be_visible()
    expect(files.get_by_text(re.compile(r"^4 B · \d"))).to_be_visible()
    with page.expect_download() as downloading:
        files.get_by_role("button", name="Download <b>a&amp;.txt").first.click()
    assert downloading.value.path().read_text() == "text"

    def give(content: bytes) -> None:
        page.get_by_label("Files to upload").set_input_files(
            {"name": "given.txt", "mimeType": "text/plain", "buffer": content}
        )

    give(b"one")
    expect(files.get_by_role("button", name="given.txt", exact=True)).to_be_visible()
    give(b"two")
    expect(page.get_by_role("dialog").get_by_text("There is a file “given.txt” of 3 B")).to_be_visible()
    with notebook.server.client(notebook.identifier) as client:
        client.upload("given.txt", b"somebody else's")
        page.get_by_role("dialog").get_by_role("button", name="Replace").click()
        expect(files.get_by_text("It has changed meanwhile and was not replaced.")).to_be_visible()
        assert client.download("given.txt") == b"somebody else's"
        files.get_by_role("button", name="Take this away").click()
        give(b"three")
        page.get_by_role("dialog").get_by_role("button", name="Replace").click()
        expect(files.get_by_text("5 B")).to_be_visible()
        assert client.download("given.txt") == b"three"
    files.get_by_role("button", name="Rename given.txt").click()
    page.get_by_role("dialog").get_by_label("New name").fill("folder/in/renamed.txt")
    page.keyboard.press("Enter")
    expect(files.get_by_role("button", name="given.txt", exact=True)).to_have_count(0)
    files.get_by_role("button", name="folder", exact=True).click()
    files.get_by_role("button", name="in", exact=True).click()
    files.get_by_role("button", name="Delete renamed.txt").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(files.get_by_text("This folder is empty.")).to_be_visible()
    files.get_by_role("button", name="New folder").click()
    page.get_by_role("dialog").get_by_label("Name").fill("ünter")
    page.keyboard.press("Enter")
    expect(files.get_by_role("button", name="ünter", exact=True)).to_be_visible()
    files.get_by_role("button", name="/mnt/data").click()
    expect(files.get_by_role("button", name="folder", exact=True)).to_be_visible()


def test_variables_and_history(notebook: Notebook) -> None:
    page = notebook.page
    notebook.run(1, "numbers = list(range(300)); name = '<img src=x onerror=alert(1)>'; print('said')")
    variables = notebook.pane("Variables")
    expect(variables.get_by_text("numbers")).to_be_visible()
    expect(variables.get_by_text("300 items")).to_be_visible()
    expect(variables.get_by_text("'<img src=x onerror=alert(1)>'")).to_be_visible()
    notebook.run(1, "del numbers")
    expect(variables.get_by_text("numbers")).to_have_count(0)

    with notebook.server.client(notebook.identifier) as client:
        client.execute("print('by another client'); 'and its value'")
    history = notebook.pane("History")
    expect(history.get_by_role("listitem")).to_have_count(3)
    history.get_by_role("button", name="Output of execution 3").click()
    expect(page.get_by_role("dialog").get_by_text("by another client")).to_be_visible()
    expect(page.get_by_role("dialog").get_by_text("and its value")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_editor_is_one_for_the_keyboard(notebook: Notebook) -> None:
    page, code = notebook.page, notebook.code(1)
    code.focus()
    page.keyboard.type("if True:\nx = '</textarea><script>'  # 1")
    expect(code).to_have_value("if True:\n    x = '</textarea><script>'  # 1")  # Enter goes as deep as the line before
    expect(notebook.cell(1).locator(".layer")).to_have_text("if True:\n    x = '</textarea><script>'  # 1")
    expect(notebook.cell(1).locator(".layer .t-keyword")).to_have_text("if")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+z")
    expect(code).to_have_value("if True:\n    x = '</textarea><script>'  # 1")
    page.keyboard.press("Control+a")
    page.keyboard.press("Shift+Tab")
    expect(code).to_have_value("if True:\nx = '</textarea><script>'  # 1")
    page.keyboard.press("Control+z")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")  # leaves
    expect(code).not_to_be_focused()
    page.get_by_role("button", name="Add a cell", exact=True).click()
    expect(notebook.code(2)).to_be_focused()
    page.keyboard.press("Alt+ArrowUp")
    expect(code).to_be_focused()
    notebook.cell(1).get_by_role("button", name="Move down").click()
    expect(notebook.code(2)).to_have_value("if True:\n    x = '</textarea><script>'  # 1")
    notebook.cell(2).get_by_role("button", name="Delete this cell").click()
    expect(notebook.cell(2)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(notebook.code(2)).to_have_value("if True:\n    x = '</textarea><script>'  # 1")


def test_a_new_session_is_of_the_pool_that_is_looked_at(page: Page, arm_pools: httpx.Client) -> None:
    """Not of the one that is listed first; and on a phone the button is in reach."""
    name = f"z{uuid.uuid4().hex[:8]}"
    scale = {"maxConcurrentSessions": 2, "readySessionInstances": 0}
    properties = {"scaleConfiguration": scale, "carrel": {"image": "python-slim"}}
    assert arm_pools.put(name, params=VERSION, json={"location": "local", "properties": properties}).status_code == 201
    page.set_viewport_size({"width": 360, "height": 780})
    page.goto(f"{page.url.split('#')[0]}#/sessions/default/{name}")
    button = page.get_by_role("button", name="New session")
    expect(page.locator("#pool option:checked")).to_have_text(name)
    place = button.bounding_box()
    assert place is not None and place["x"] + place["width"] <= 360

    button.click()

    chosen = page.get_by_role("dialog").get_by_label("Pool").locator("option:checked")
    expect(chosen).to_have_text(name)
    arm_pools.delete(name, params=VERSION)


def test_a_new_session_is_opened_by_its_name(page: Page) -> None:
    page.get_by_role("link", name="Sessions", exact=True).click()
    page.get_by_role("button", name="New session").click()
    name = fresh_identifier()
    page.get_by_role("dialog").get_by_label("Name").fill(name)
    page.get_by_role("dialog").get_by_label("Pool").select_option("python")
    page.get_by_role("dialog").get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    expect(page.get_by_text("Not begun")).to_be_visible()


@pytest.mark.thorough
def test_a_lost_connection_is_taken_up_where_it_broke(browser_driver: Driver, slim_server: SlimServer) -> None:
    """The gateway is killed while a cell prints: every line is there once, and in order."""
    with slim_server() as server, tab(browser_driver.browser, server.connection["http"]) as page:
        sign_in(page, server)
        notebook = Notebook(page, server, fresh_identifier()).open()
        code = "import time, os\nfor n in range(40):\n    print('line', n, flush=True)\n    time.sleep(0.05)\n"
        given = notebook.start(1, code + "while not os.path.exists('go'): time.sleep(0.05)\nprint('end')")
        expect(given.get_by_text("line 5", exact=True)).to_be_visible()
        gateway = server.pids["gateway"]
        os.kill(gateway, signal.SIGKILL)
        assert eventually(lambda: server.pids["gateway"] != gateway, 30)
        expect(given.get_by_text("line 39")).to_be_visible()
        with server.client(notebook.identifier) as client:
            client.upload("go", b"")
        expect(given.get_by_text("end")).to_be_visible()
        assert given.locator(".line").all_text_contents() == [f"line {n}\n" for n in range(40)] + ["end\n"]


PIECES = """async ([language, texts]) => {
  const { tokens } = await import("/console/notebook/tokens.js");
  return texts.map((text) => tokens(language, text));
}"""
HARD = [
    "",
    "'",
    '"""',
    "'''a\\",
    "\\",
    "#",
    "/",
    "/[",
    "`${",
    "$((",
    "é☕\U0001f989",
    "\r\n\t\0",
    "((((" * 500,
    "a." * 500,
    "'\\'" * 300,
    "\u2028",
    "match x:\n  case _: pass",
]


def test_colours_change_nothing_of_the_code(page: Page) -> None:
    for language in ("python", "javascript", "bash", "none"):
        found = page.evaluate(PIECES, [language, HARD])
        assert ["".join(text for _, text in each) for each in found] == HARD
    kinds = {
        "python": ("async def f(x: int) -> str:  # c\n    return f'{x}' if x else None\n%time len(x)", "f", "name"),
        "javascript": (
            "const f = (x) => x / 2 / 3; // c\nfunction g() { return /a[/]b/.test(`x`) && null }",
            "g",
            "name",
        ),
        "bash": ('for x in $LIST; do echo "$x" | grep -c 1; done # c\nNAME=1 ls -l a#b', "NAME", "name"),
    }
    for language, (text, word, kind) in kinds.items():
        (found,) = page.evaluate(PIECES, [language, [text]])
        assert [kind, word] in found and ["comment", "# c" if language != "javascript" else "// c"] in found
    (found,) = page.evaluate(PIECES, ["javascript", [kinds["javascript"][0]]])
    assert ["string", "/a[/]b/"] in found and not any(kind == "string" and "2" in text for kind, text in found)
