"""What the client hands to a notebook: hostile displays do nothing there."""

from __future__ import annotations

import html.parser
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.client import showing
from carrel.client.results import Output, parse_result

ATTACK = "</iframe></pre><script>alert(1)</script><img src=x onerror=alert(1)>'\"&"
ALLOWED = {"text/plain", "text/html", "application/json", *showing.IMAGES}


class Tags(html.parser.HTMLParser):
    """Every element of a text with its attributes, as a browser would make them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def is_harmless(text: str) -> bool:
    """Frames without any right, pictures of their own bytes, and text."""
    for tag, attributes in Tags(text).found:
        fits = {
            "iframe": attributes.get("sandbox") == ""
            and set(attributes) == {"sandbox", "referrerpolicy", "srcdoc", "style"},
            "img": str(attributes.get("src")).startswith("data:image/") and set(attributes) == {"alt", "style", "src"},
            "pre": set(attributes) == {"style"},
        }
        if not fits.get(tag, False):
            return False
    return True


displayed = st.dictionaries(
    st.sampled_from(["text/html", "image/svg+xml", "image/png", "text/plain", "application/javascript", "text/latex"]),
    st.one_of(st.text(), st.just(ATTACK), st.text().map(lambda text: text + ATTACK), st.integers(), st.none()),
)


@settings(deadline=None, max_examples=40)
@given(displayed)
def test_whatever_is_displayed_does_nothing_in_a_notebook(data: dict[str, Any]) -> None:
    shown = Output(data)._repr_mimebundle_()

    assert set(shown) <= ALLOWED
    assert is_harmless(shown.get("text/html", ""))
    assert all(showing.is_base64(shown[mime]) for mime in showing.IMAGES if mime in shown)


@settings(deadline=None, max_examples=40)
@given(displayed, st.text(), st.text())
def test_a_whole_result_does_nothing_either(data: dict[str, Any], stdout: str, value: str) -> None:
    body = {
        "id": "i",
        "identifier": "a",
        "status": "Failed",
        "result": {
            "stdout": stdout + ATTACK,
            "stderr": ATTACK,
            "executionResult": value + ATTACK,
            "outputs": [{"data": data}],
        },
    }

    assert is_harmless(parse_result(body)._repr_mimebundle_()["text/html"])


def test_a_frame_may_load_nothing() -> None:
    """Not by its own HTML either: its policy comes first and is not to be loosened."""
    shown = Output({"text/html": "<img src=https://example.com/beacon>"})._repr_mimebundle_()["text/html"]
    (_, attributes), *_ = Tags(shown).found

    assert str(attributes["srcdoc"]).index("default-src 'none'") < str(attributes["srcdoc"]).index("beacon")


def test_a_list_of_hostile_names_is_a_table_of_texts() -> None:
    table = showing.Table([ATTACK], [(ATTACK, lambda name: name)])

    assert {tag for tag, _ in Tags(table._repr_html_()).found} == {"table", "thead", "tr", "th", "tbody", "td"}


def test_long_output_is_cut_with_word_of_it() -> None:
    body = {"id": "i", "identifier": "a", "status": "Succeeded", "result": {"stdout": "x" * 1_000_000}}
    drawn = parse_result(body)._repr_mimebundle_()["text/html"]

    assert len(drawn) < 30_000
    assert "980000 more characters" in drawn
