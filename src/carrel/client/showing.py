"""How results and lists show themselves in a notebook.

What a session displays is its code's word and may be hostile, while a notebook believes what it draws: HTML goes into a frame of no origin
that runs no script, SVG into an image, and types that a notebook would hand to scripts of its own are left out.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")

IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_AS_THEY_ARE = ("text/plain", "application/json")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MOST_TEXT = 20_000  # characters of one stream in a notebook's cell

_FRAME = (
    '<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'\"><style>body{font:14px sans-serif;background:#fff;color:#111}</style>"
)

Bundle = dict[str, Any]


def bundle(data: Mapping[str, Any]) -> Bundle:
    """What a notebook may draw of something displayed."""
    shown: Bundle = {mime: data[mime] for mime in _AS_THEY_ARE if mime in data}
    for mime in IMAGES:
        if is_base64(data.get(mime)):
            shown[mime] = data[mime]
    if drawn := _drawn(data):
        shown["text/html"] = drawn
    return shown


def _drawn(data: Mapping[str, Any]) -> str:
    """As HTML that does nothing; "" where there is none in it."""
    if isinstance(text := data.get("text/html"), str):
        # Without allow-scripts and allow-same-origin: it can run nothing and reach nothing, the notebook least of all.
        frame = f"{_FRAME}{text}"
        return (
            f'<iframe sandbox="" referrerpolicy="no-referrer" srcdoc="{html.escape(frame)}" '
            'style="border:0;width:100%;height:20em"></iframe>'
        )
    if isinstance(text := data.get("image/svg+xml"), str):
        encoded = base64.b64encode(text.encode("utf-8", "replace")).decode()
        return f'<img alt="SVG" style="max-width:100%" src="data:image/svg+xml;base64,{encoded}">'
    return ""


def page(streams: Iterable[tuple[str, str]], value: str, displays: Iterable[Mapping[str, Any]]) -> str:
    """A whole result as HTML: what was printed, what was displayed, the value."""
    parts = [_pre(text, style) for style, text in streams if text]
    parts += [_picture(data) or _drawn(data) or _pre(str(data.get("text/plain", ""))) for data in displays]
    return "\n".join(parts + ([_pre(value)] if value else [])) or "<pre></pre>"


def _picture(data: Mapping[str, Any]) -> str:
    for mime in IMAGES:
        if is_base64(data.get(mime)):
            return f'<img alt="{mime}" style="max-width:100%" src="data:{mime};base64,{data[mime]}">'
    return ""


def is_base64(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9+/=\s]+", text) is not None


def _pre(text: str, style: str = "") -> str:
    plain = _ANSI.sub("", text)
    shown = plain if len(plain) <= _MOST_TEXT else f"{plain[:_MOST_TEXT]}\n… {len(plain) - _MOST_TEXT} more characters"
    return f'<pre style="white-space:pre-wrap;{style}">{html.escape(shown)}</pre>' if shown else ""


class Table(list[T], Generic[T]):
    """A list that a notebook shows as a table."""

    def __init__(self, items: Iterable[T], columns: Sequence[tuple[str, Callable[[T], object]]]) -> None:
        super().__init__(items)
        self._columns = columns

    def __reduce__(self) -> tuple[type[list[T]], tuple[list[T]]]:
        """Pickled, as caches and other processes get it, it is the list alone: how columns are read is code."""
        return list, (list(self),)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name, _ in self._columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(read(item)))}</td>" for _, read in self._columns) + "</tr>"
            for item in self
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
