"""A matplotlib figure as data, beside its picture: what is plotted, for a program or a model that cannot look.

One chart for each of the axes: its type, title, axes and series. Made from the artists, after they have been drawn, whoever made them:
pandas and seaborn draw with matplotlib. Bounded, and never the cell's failure: what cannot be read is left out.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

from carrel.guest import values
from carrel.guest.chart_axis import Axis, text_of

MIME = "application/vnd.carrel.chart+json"
TYPES = [("matplotlib.figure", "Figure")]

MAX_CHARTS = 36
MAX_BYTES = 1024 * 1024
_POINTS = (2000, 200, 20)  # of one series: fewer until the whole fits

_COLORBAR = "<colorbar>"
_WITHOUT_AXES = {"pie"}


def chart(figure: Any) -> dict[str, Any] | None:
    """None for a figure without anything that can be told of."""
    for most in _POINTS:
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what reading it warns of is nothing that the user has done
            document = _figure(figure, most)
            if document is None or len(values.encode(document)) <= MAX_BYTES:
                return document
    return None


def _figure(figure: Any, most: int) -> dict[str, Any] | None:
    shown = [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != _COLORBAR]
    charts = [_chart(axes, most) for axes in shown[:MAX_CHARTS]]
    title = text_of(figure.get_suptitle())
    if len(charts) > 1:
        return {"type": "subplots", "title": title, "charts": charts}
    return {**charts[0], "title": charts[0]["title"] or title} if charts else None


def _chart(axes: Any, most: int) -> dict[str, Any]:
    document: dict[str, Any] = {"type": "other", "title": _title(axes)}
    if axes.name != "rectilinear":
        document["projection"] = str(axes.name)
    series: list[dict[str, Any]] = []
    with contextlib.suppress(Exception):
        x, y = Axis(axes.xaxis), Axis(axes.yaxis)
        document |= {"x": x.document(), "y": y.document()}
        if axes.name != "3d":  # its artists hold what is projected
            from carrel.guest import chart_series

            series = chart_series.of(axes, x, y, most)
    types = {each["type"] for each in series} - {"reference"}
    if types:
        document["type"] = types.pop() if len(types) == 1 else "mixed"
    if document["type"] in _WITHOUT_AXES:
        document.pop("x", None)
        document.pop("y", None)
    legend = axes.get_legend()
    if legend is not None and (title := text_of(legend.get_title().get_text())):
        document["legend"] = title
    return {**document, "series": series}


def _title(axes: Any) -> str | None:
    return next((text for place in ("center", "left", "right") if (text := text_of(axes.get_title(loc=place)))), None)
