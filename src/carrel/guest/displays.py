"""Where a cell's value and what it displays end up: kept on the shell for the caller, told as outputs, or printed as text.

An output is a MIME bundle: one thing in several types, of which a reader takes the richest that it can show. Beside what IPython finds
in an object (its `_repr_html_` and its kind) a DataFrame has its rows as data (tables.py), and a matplotlib figure its axes (charts.py).
"""

from __future__ import annotations

import base64
import json
import re
import sys
from itertools import islice
from typing import Any

from IPython.core import formatters  # type: ignore[import-not-found]
from IPython.core.displayhook import DisplayHook  # type: ignore[import-not-found]
from IPython.core.displaypub import DisplayPublisher  # type: ignore[import-not-found]

from carrel.guest import charts, tables, values

FORMATS = {"image/png": "png", "image/jpeg": "jpeg"}
MAX_BUNDLE = 8 * 1024 * 1024  # bytes of JSON; past it the largest representation is left out, then the next
MAX_METADATA = 64 * 1024
MAX_TYPES = 32

_MIME = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}", re.IGNORECASE)
_TEXT = "text/plain"
PLOTLY = "application/vnd.plotly.v1+json"
_PLOTLYS_OWN_CHOICE = ("plotly_mimetype+notebook", "plotly_mimetype", "browser")


class Hook(DisplayHook):  # type: ignore[misc]
    """sys.displayhook while a cell runs: keeps the last expression's value, prints nothing."""

    def __call__(self, result: object = None) -> None:
        shell = self.shell
        if result is None and shell.last_is_call:
            return  # print(…), plt.show(): a statement in all but syntax, so it has no value; `None` itself has one
        if self._is_silenced():
            return
        shell.set_value(result)
        if result is not None:
            self.fill_exec_result(result)
            shell.remember(result)

    def _is_silenced(self) -> bool:
        """Whether the cell ends in `;`."""
        cell = self.exec_result.info.transformed_cell if self.exec_result is not None else ""
        return ";" in cell and self.semicolon_at_end_of_expression(cell)


class Publisher(DisplayPublisher):  # type: ignore[misc]
    """Where display() ends: an image is kept (the last one is the cell's value), anything else is printed as text."""

    def publish(self, data: dict[str, Any], metadata: object = None, **_options: object) -> None:
        if (shown := image(data)) is not None:
            self.shell.image = shown
        elif _TEXT in data:
            print(data[_TEXT])
        self.shell.show(data, metadata)

    def clear_output(self, wait: bool = False) -> None:
        """What is written cannot be taken back."""


class _Extra:
    """A representation beside the text and the image. One that fails is shown, and the cell has not failed: the others are there."""

    parent: Any

    def __call__(self, thing: object) -> Any:
        shell = self.parent.parent
        before = shell.failure
        try:
            return super().__call__(thing)  # type: ignore[misc]
        finally:
            shell.failure = before


_EXTRAS = [
    type(f"Extra{base.__name__}", (_Extra, base), {})
    for base in (
        formatters.HTMLFormatter,
        formatters.MarkdownFormatter,
        formatters.SVGFormatter,
        formatters.LatexFormatter,
        formatters.JSONFormatter,
    )
]


class _Data(_Extra, formatters.BaseFormatter):  # type: ignore[misc]
    """A representation of our own of some types, which are known by name: they need not be imported."""

    _return_type = dict
    METHOD = "_repr_carrel_data_"  # IPython asks for one; no object has it

    def pop(self, typ: object, default: object = None) -> object:
        """IPython takes a figure's printers away from every formatter when it is told the formats of its picture. This is none."""
        return default


class Formatter(formatters.DisplayFormatter):  # type: ignore[misc]
    """IPython's, with the extras in its place."""

    def use_extras(self) -> None:
        extras = [extra(parent=self) for extra in _EXTRAS]
        for mime, types, read in ((tables.MIME, tables.TYPES, tables.table), (charts.MIME, charts.TYPES, charts.chart)):
            printers = dict.fromkeys(types, read)
            extras.append(_Data(parent=self, format_type=mime, print_method=_Data.METHOD, deferred_printers=printers))
        for extra in extras:
            self.formatters[extra.format_type] = extra
        self.ipython_display_formatter.for_type_by_name("plotly.basedatatypes", "BaseFigure", self._show_plotly)
        self.active_types = [_TEXT, *FORMATS, *(extra.format_type for extra in extras)]

    def _show_plotly(self, figure: Any) -> None:
        """A figure of Plotly's as its specification, unless the code has chosen a renderer: Plotly's own choice here would be its
        whole library in HTML, and wants nbformat."""
        plotly_io = sys.modules.get("plotly.io")
        if plotly_io is None or plotly_io.renderers.default not in _PLOTLYS_OWN_CHOICE:
            figure._ipython_display_()
        else:
            self.parent.display_pub.publish({PLOTLY: json.loads(figure.to_json())})


def image(data: dict[str, Any]) -> values.Document | None:
    for mime, image_format in FORMATS.items():
        content = data.get(mime)
        if content and isinstance(content, (bytes, str)):
            return values.image(image_format, content)
    return None


def bundle(data: dict[str, Any], metadata: object) -> bytes | None:
    """The JSON of an output: {"data": {type: content}, "metadata": {…}}. None where nothing is left that can be shown.

    What is too large or is not what its type says is left out, and named in the metadata.
    """
    parts: dict[str, bytes] = {}
    dropped = []
    for mime, content in islice(dict.items(data), MAX_TYPES):
        if issubclass(type(mime), str) and _MIME.fullmatch(mime) and content is not None:
            try:
                parts[mime] = values.encode(_content(mime, content))
            except (values.NotJson, ValueError):
                dropped.append(mime)
    if "image/png" in parts:
        parts.pop("image/jpeg", None)  # the same picture once more, as PIL gives it
    while parts and sum(map(len, parts.values())) > MAX_BUNDLE:
        largest = max(parts, key=lambda mime: len(parts[mime]))
        del parts[largest]
        dropped.append(largest)
    if not parts:
        return None
    about = _metadata(metadata)
    if dropped:
        about["carrel"] = {"leftOut": dropped}
    inside = b",".join(b"%s:%s" % (values.encode(mime), content) for mime, content in parts.items())
    return b'{"data":{%s},"metadata":%s}' % (inside, values.encode(about))


def _content(mime: str, content: Any) -> Any:
    """As the type has it in JSON: text as text, bytes in base64, JSON as it is. Raises NotJson."""
    kind = type(content)
    if issubclass(kind, (bytes, bytearray, memoryview)):
        return base64.b64encode(content).decode("ascii")
    if issubclass(kind, str):
        text = str.__str__(content)
        if mime == _TEXT:
            return values.cut(text)
        return text.replace("\n", "") if mime in FORMATS else text
    if mime.endswith("json"):  # also "application/vnd.vegalite.v6.json", as altair has it
        return values.JsonCopy(MAX_BUNDLE, has_null_for_nan=True).convert(content)
    raise values.NotJson


def _metadata(metadata: object) -> dict[str, Any]:
    if issubclass(type(metadata), dict):
        try:
            converted: dict[str, Any] = values.JsonCopy(MAX_METADATA).convert(metadata)
        except (values.NotJson, ValueError):
            return {}
        return converted
    return {}


def will_be_shown(value: object) -> bool:
    """Whether this is a figure that pyplot shows at the cell's end anyway: the expression itself is not one more output then."""
    helpers, backend = sys.modules.get("matplotlib._pylab_helpers"), sys.modules.get("matplotlib_inline.backend_inline")
    if helpers is None or backend is None or not getattr(backend.show, "_draw_called", False):
        return False
    return any(manager.canvas.figure is value for manager in helpers.Gcf.get_all_fig_managers())


def is_plot_handle(value: object, depth: int = 0) -> bool:
    """Whether this is what matplotlib's functions return (lines, axes, bins and patches) rather than something to read."""
    kind = type(value)
    if issubclass(kind, (list, tuple)):
        first = islice(iter(value), 4)  # type: ignore[call-overload]
        return depth < 2 and any(is_plot_handle(item, depth + 1) for item in first)
    if kind.__name__ == "ndarray":
        return is_plot_handle(next(iter(value.flat), None))  # type: ignore[attr-defined]
    return str(kind.__module__).startswith(("matplotlib.", "seaborn."))
