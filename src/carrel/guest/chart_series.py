"""The series of a matplotlib chart, read from what was drawn: lines, points, bars, boxes, wedges, areas, images.

An artist says how something looks and not what it means, so some of this is inference: bars that touch are a histogram, five lines of
two points each, in the order in which boxplot draws them, a box; a series without a label has that of the legend's entry of its colour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy  # type: ignore[import-not-found]
from matplotlib import collections, colors, contour, image, lines, patches  # type: ignore[import-not-found]
from matplotlib.container import BarContainer, ErrorbarContainer, StemContainer  # type: ignore[import-not-found]

from carrel.guest.chart_axis import Axis, plain, text_of

MAX_SERIES = 100
MAX_CELLS = 10_000  # of a heatmap or an image of numbers

_NEAR = 1e-6
_PARTS_OF_A_BOX = 5  # two whiskers, two caps, the median

Series = dict[str, Any]


def of(axes: Any, x: Axis, y: Axis, most: int) -> list[Series]:
    """What is drawn in `axes`, each with at most `most` points."""
    return list(islice(_Reader(axes, x, y, most).read(), MAX_SERIES))


class _Reader:
    def __init__(self, axes: Any, x: Axis, y: Axis, most: int) -> None:
        self._axes, self._x, self._y, self._most = axes, x, y, most
        self._seen: set[int] = set()  # artists that a series has been made of
        self._legend = dict(_legend(axes))
        self._bars: list[Series] = []

    def read(self) -> Iterator[Series]:
        for container in self._axes.containers:
            yield from self._container(container)
        yield from self._boxes()
        for line in self._unseen(self._axes.lines):
            yield from self._line(line)
        for collection in self._unseen(self._axes.collections):
            yield from self._collection(collection)
        yield from self._patches()
        for picture in self._unseen(self._axes.images):
            yield self._image(picture)

    def _unseen(self, artists: Any) -> list[Any]:
        return [artist for artist in artists if id(artist) not in self._seen and artist.get_visible()]

    def _label(self, artist: Any, color: Any = None) -> str | None:
        label = str(artist.get_label() or "")
        if label and not label.startswith("_"):
            return text_of(label)
        return self._legend.get(_hex(color)) if color is not None else None

    def _points(self, xs: Any, ys: Any) -> dict[str, Any]:
        """Every so many of them where they are too many; `total` says of how many."""
        count = min(len(xs), len(ys))
        step = -(-count // self._most) or 1
        kept = zip(self._x.values(xs[:count:step]), self._y.values(ys[:count:step]), strict=True)
        return {"points": [list(pair) for pair in kept], **({"total": count} if step > 1 else {})}

    # Containers: what one call has drawn

    def _container(self, container: Any) -> Iterator[Series]:
        if isinstance(container, BarContainer):
            bars = self._bar_series(container)
            self._bars.append(bars)
            if container.errorbar is not None:
                column = 0 if bars["orientation"] == "horizontal" else 1
                for drawn in self._take_errors(container.errorbar):
                    for bar, part in zip(bars.get("bars", ()), drawn.get_segments(), strict=False):
                        bar["error"] = [plain(part[0][column]), plain(part[-1][column])]
            yield bars
        elif isinstance(container, ErrorbarContainer):
            yield from self._error_bars(container)
        elif isinstance(container, StemContainer):
            self._seen |= {id(container.markerline), id(container.stemlines), id(container.baseline)}
            xs, ys = container.markerline.get_data(orig=False)
            yield {"type": "stem", "label": text_of(container.get_label().lstrip("_")), **self._points(xs, ys)}

    def _bar_series(self, container: Any) -> Series:
        shapes = list(container.patches)
        self._seen |= set(map(id, shapes))
        is_flat = container.orientation == "horizontal"
        spans = [
            (shape.get_y(), shape.get_height(), shape.get_x(), shape.get_width())
            if is_flat
            else (shape.get_x(), shape.get_width(), shape.get_y(), shape.get_height())
            for shape in shapes
        ]
        axis, other = (self._y, self._x) if is_flat else (self._x, self._y)
        label = self._label(container, shapes[0].get_facecolor() if shapes else None)
        about = {"label": label, "orientation": container.orientation or "vertical"}
        spans = spans[: self._most]
        if not axis.has_labels and _touch([(start, width) for start, width, _base, _length in spans]):
            bins = [
                {"from": axis.value(start), "to": axis.value(start + width), "value": other.value(length)}
                for start, width, _base, length in spans
            ]
            return {"type": "histogram", **about, "bins": bins}
        bars = [
            {
                "category": axis.label_at(plain(start + width / 2)),
                "position": axis.value(start + width / 2),
                "width": plain(width),
                "base": plain(base),
                "value": plain(length),
            }
            for start, width, base, length in spans
        ]
        return {"type": "bar", **about, "bars": bars}

    def _take_errors(self, container: Any) -> list[Any]:
        line, caps, bars = container.lines
        self._seen |= {id(artist) for artist in (line, *caps, *bars)} | {id(container)}
        return list(bars)

    def _error_bars(self, container: Any) -> Iterator[Series]:
        if id(container) in self._seen:
            return
        line, bars = container.lines[0], self._take_errors(container)
        if line is None:
            return
        series = next(self._line(line, text_of(container.get_label())), None)
        if series is not None:
            names = [name for name, there in (("x", container.has_xerr), ("y", container.has_yerr)) if there]
            for name, drawn in zip(names, bars, strict=False):
                column = 0 if name == "x" else 1
                step = -(-len(drawn.get_segments()) // self._most) or 1
                series[f"{name}Errors"] = [
                    [plain(part[0][column]), plain(part[-1][column])] if len(part) else None
                    for part in drawn.get_segments()[::step]
                ]
            yield series

    # Lines

    def _boxes(self) -> Iterator[Series]:
        drawn, at = self._unseen(self._axes.lines), 0
        found: dict[str, list[Series]] = defaultdict(list)
        while at + _PARTS_OF_A_BOX <= len(drawn):
            data = [line.get_data(orig=False) for line in drawn[at : at + _PARTS_OF_A_BOX]]
            orientation = _box(data)
            if orientation is None:
                at += 1
                continue
            parts = drawn[at : at + _PARTS_OF_A_BOX]
            at += _PARTS_OF_A_BOX
            outliers: list[Any] = []
            if at < len(drawn) and drawn[at].get_linestyle() == "None":
                parts.append(drawn[at])
                outliers = list(drawn[at].get_data(orig=False)[1 if orientation == "vertical" else 0])
                at += 1
            self._seen |= set(map(id, parts))
            found[orientation].append(self._one_box(data, orientation, outliers))
        for orientation, boxes in found.items():
            self._seen |= {id(line) for line in self._unseen(self._axes.lines) if _is_outline(line)}
            self._seen |= {id(patch) for patch in self._axes.patches if type(patch) is patches.PathPatch}
            yield {"type": "box", "label": None, "orientation": orientation, "boxes": boxes[: self._most]}

    def _one_box(self, data: list[Any], orientation: str, outliers: list[Any]) -> Series:
        along, across = (1, 0) if orientation == "vertical" else (0, 1)
        axis = self._x if orientation == "vertical" else self._y
        low, high, _cap, _other_cap, median = (part[along] for part in data)
        place = plain(data[0][across][0])
        return {
            "category": axis.label_at(place),
            "position": place,
            "low": plain(low[1]),
            "q1": plain(low[0]),
            "median": plain(median[0]),
            "q3": plain(high[0]),
            "high": plain(high[1]),
            "outliers": [plain(value) for value in outliers[: self._most]],
        }

    def _line(self, line: lines.Line2D, label: str | None = None) -> Iterator[Series]:
        transform = line.get_transform()
        xs, ys = line.get_data(orig=False)
        if transform == self._axes.get_yaxis_transform(which="grid") and len(ys):
            yield {"type": "reference", "label": self._label(line), "axis": "y", "value": self._y.value(ys[0])}
        elif transform == self._axes.get_xaxis_transform(which="grid") and len(xs):
            yield {"type": "reference", "label": self._label(line), "axis": "x", "value": self._x.value(xs[0])}
        elif len(xs) and not self._is_error_of_a_bar(xs, ys):
            is_scatter = line.get_linestyle() in ("None", "", " ")
            label = label or self._label(line, line.get_markerfacecolor() if is_scatter else line.get_color())
            yield {"type": "scatter" if is_scatter else "line", "label": label, **self._points(xs, ys)}

    def _is_error_of_a_bar(self, xs: Any, ys: Any) -> bool:
        """seaborn draws them as lines, one to a bar; the bar is told of its own."""
        for series in self._bars:
            is_flat = series["orientation"] == "horizontal"
            places, ends = (ys, xs) if is_flat else (xs, ys)
            for bar in series.get("bars", ()):
                if len(places) == 2 and places[0] == places[1] and self._stands_at(bar, places[0], is_flat=is_flat):
                    bar["error"] = [plain(ends[0]), plain(ends[1])]
                    return True
        return False

    def _stands_at(self, bar: Series, place: Any, *, is_flat: bool) -> bool:
        position = bar["position"]
        if not isinstance(position, float):
            return bool(position == (self._y if is_flat else self._x).value(place))
        return abs(position - float(place)) < _NEAR

    # Collections

    def _collection(self, collection: Any) -> Iterator[Series]:
        color = collection.get_facecolor()[0] if len(collection.get_facecolor()) else None
        about = {"label": self._label(collection, color)}
        if isinstance(collection, contour.ContourSet):
            yield {"type": "contour", **about, "levels": [plain(level) for level in collection.levels[: self._most]]}
        elif isinstance(collection, collections.PathCollection):
            yield from self._scatter(collection)
        elif isinstance(collection, collections.QuadMesh):
            yield {"type": "heatmap", **about, **_cells(collection.get_array(), collection.get_coordinates().shape)}
        elif isinstance(collection, collections.LineCollection):
            parts = [part for part in collection.get_segments() if len(part)]
            kept = [self._points(part[:, 0], part[:, 1])["points"] for part in parts[: self._most]]
            if kept:
                yield {"type": "segments", **about, "segments": kept}
        elif isinstance(collection, collections.PolyCollection):
            yield from self._polygons(collection, about)
        else:
            yield {"type": "other", **about}

    def _scatter(self, collection: Any) -> Iterator[Series]:
        """One series; or one for each colour that the legend names."""
        offsets = numpy.ma.asarray(collection.get_offsets())
        if not len(offsets):
            return
        faces, shades = collection.get_facecolors(), collection.get_array()
        if len(faces) == len(offsets) > 1 and shades is None:
            names = numpy.array([self._legend.get(_hex(face)) or "" for face in faces])
            if all(names) and len(set(names)) > 1:
                for name in dict.fromkeys(names):
                    part = offsets[names == name]
                    yield {"type": "scatter", "label": str(name), **self._points(part[:, 0], part[:, 1])}
                return
        label = self._label(collection, faces[0] if len(faces) else None)
        series = {"type": "scatter", "label": label, **self._points(offsets[:, 0], offsets[:, 1])}
        if shades is not None:
            step = -(-len(offsets) // self._most) or 1
            series["values"] = [plain(shade) for shade in shades[::step]]
        yield series

    def _polygons(self, collection: Any, about: dict[str, Any]) -> Iterator[Series]:
        offsets, shades = collection.get_offsets(), collection.get_array()
        if shades is not None and len(offsets) == len(shades):
            points = self._points(offsets[:, 0], offsets[:, 1])
            step = -(-len(offsets) // self._most) or 1
            yield {"type": "hexbin", **about, **points, "values": [plain(shade) for shade in shades[::step]]}
            return
        for path in collection.get_paths()[: self._most]:
            yield {"type": "area", **about, **self._points(path.vertices[:, 0], path.vertices[:, 1])}

    # Patches and images

    def _patches(self) -> Iterator[Series]:
        left = self._unseen(self._axes.patches)
        wedges = [patch for patch in left if isinstance(patch, patches.Wedge)]
        if wedges:
            yield {
                "type": "pie",
                "label": None,
                "slices": [
                    {"label": self._label(wedge), "fraction": plain(abs(wedge.theta2 - wedge.theta1) / 360)}
                    for wedge in wedges[: self._most]
                ],
            }
        for patch in left:
            if isinstance(patch, patches.StepPatch):
                yield self._steps(patch)
            elif isinstance(patch, patches.Polygon):
                corners = patch.get_xy()
                label = self._label(patch, patch.get_facecolor())
                yield {"type": "area", "label": label, **self._points(corners[:, 0], corners[:, 1])}

    def _steps(self, patch: Any) -> Series:
        counts, edges, _baseline = patch.get_data()
        bins = [
            {"from": self._x.value(low), "to": self._x.value(high), "value": plain(count)}
            for (low, high), count in zip(pairwise(edges[: self._most + 1]), counts, strict=False)
        ]
        orientation = getattr(patch, "orientation", "vertical")
        label = self._label(patch, patch.get_edgecolor())
        return {"type": "histogram", "label": label, "orientation": orientation, "bins": bins}

    def _image(self, picture: image.AxesImage) -> Series:
        array = picture.get_array()
        extent = [plain(edge) for edge in picture.get_extent()] if hasattr(picture, "get_extent") else None
        return {"type": "image", "label": self._label(picture), "extent": extent, **_cells(array, None)}


def _cells(array: Any, corners: Any) -> dict[str, Any]:
    """Numbers in rows, where they are not too many; else only of which shape they are."""
    array = numpy.ma.asarray(array)
    if array.ndim == 1 and corners is not None:
        array = array.reshape(corners[0] - 1, corners[1] - 1)
    shape = list(map(int, array.shape))
    if array.ndim != 2 or array.size > MAX_CELLS:
        return {"shape": shape}
    return {"shape": shape, "values": [[plain(cell) for cell in row] for row in array]}


def _touch(spans: list[tuple[float, float]]) -> bool:
    """Whether each bar begins where the one before it ends."""
    if len(spans) < 2 or not all(numpy.isscalar(part) for span in spans for part in span):
        return False
    scale = abs(spans[0][1]) or 1.0
    return all(abs(start + width - following) < _NEAR * scale for (start, width), (following, _) in pairwise(spans))


def _box(data: list[Any]) -> str | None:
    """Whether five lines are a box's whiskers, caps and median, and which way it stands."""
    if any(len(part[0]) != 2 for part in data):
        return None
    for orientation, across, along in (("vertical", 0, 1), ("horizontal", 1, 0)):
        low, high, low_cap, high_cap, median = data
        stands = low[across][0] == low[across][1] == high[across][0] == high[across][1]
        lies = all(part[along][0] == part[along][1] for part in (low_cap, high_cap, median))
        meets = low[along][1] == low_cap[along][0] and high[along][1] == high_cap[along][0]
        if stands and lies and meets and low[along][0] <= median[along][0] <= high[along][0]:
            return orientation
    return None


def _is_outline(line: Any) -> bool:
    """The box itself, where it is drawn as a line."""
    xs, ys = line.get_data(orig=False)
    return len(xs) in (5, 11) and xs[0] == xs[-1] and ys[0] == ys[-1]


def _legend(axes: Any) -> Iterator[tuple[str, str]]:
    legend = axes.get_legend()
    if legend is None:
        return
    handles = getattr(legend, "legend_handles", ())
    for handle, text in zip(handles, legend.get_texts(), strict=False):
        for color in _colors(handle):
            yield color, str(text.get_text())


def _colors(handle: Any) -> Iterator[str]:
    if isinstance(handle, lines.Line2D):
        yield _hex(handle.get_markerfacecolor())
        yield _hex(handle.get_color())
    elif hasattr(handle, "get_facecolor"):
        found = handle.get_facecolor()
        yield _hex(found[0] if getattr(found, "ndim", 1) == 2 and len(found) else found)


def _hex(color: Any) -> str:
    try:
        return str(colors.to_hex(color))
    except ValueError:
        return "none"
