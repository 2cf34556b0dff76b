"""An axis of a matplotlib chart as data, and what its numbers stand for: categories, dates, or themselves."""

from __future__ import annotations

import math
import sys
from typing import Any

MAX_TEXT = 500  # characters of a label
MAX_TICKS = 100

_FIXED = "_format_with_dict"  # what matplotlib's Axis.set_ticklabels makes of them
_CATEGORIES = "StrCategoryConverter"
_DATES = {"DateConverter", "ConciseDateConverter", "_SwitchableDateConverter", "DatetimeConverter", "PeriodConverter"}
_NEAR = 1e-6


class Axis:
    def __init__(self, axis: Any) -> None:
        self._axis = axis
        self._freq = getattr(axis, "freq", None)  # pandas counts periods, in a series of a fixed frequency
        converter = type(axis.get_converter() if hasattr(axis, "get_converter") else axis.converter).__name__
        self._is_date = self._freq is not None or converter in _DATES
        self._categories: dict[str, int] = {}
        if converter == _CATEGORIES:
            self._categories = {str(name): number for name, number in axis.units._mapping.items()}
        self._names = {float(number): name[:MAX_TEXT] for name, number in self._categories.items()}
        self._fixed = self._fixed_labels()

    def _fixed_labels(self) -> dict[float, str]:
        """Ticks that were given their labels: what bars and boxes stand on, as pandas and boxplot do it."""
        formatter = self._axis.get_major_formatter()
        function = getattr(
            getattr(formatter, "func", None), "func", None
        )  # a partial, where the ticks are fixed as well
        if type(formatter).__name__ != "FixedFormatter" and getattr(function, "__name__", "") != _FIXED:
            return {}
        return {place: text for place, text in self._ticks() if text}

    def value(self, number: Any) -> Any:
        """A coordinate, in JSON; null where there is none."""
        place = plain(number)
        if place is None:
            return None
        if place in self._names:
            return self._names[place]
        return self._date(place) if self._is_date else place

    def values(self, numbers: Any) -> list[Any]:
        return [self.value(number) for number in numbers]

    def label_at(self, place: float | None) -> str | None:
        """The category that stands there, or nearest to it, as bars of several series stand around one."""
        labels = self._names or self._fixed
        if place is None or not labels:
            return None
        nearest = min(labels, key=lambda known: abs(known - place))
        return labels[nearest] if abs(nearest - place) < 0.5 else None

    @property
    def has_labels(self) -> bool:
        return bool(self._names or self._fixed)

    def document(self) -> dict[str, Any]:
        scale = "category" if self._names else "date" if self._is_date else str(self._axis.get_scale())
        ticks = self._ticks()
        document: dict[str, Any] = {
            "label": text_of(self._axis.get_label_text()),
            "scale": scale,
            "limits": [self._edge(edge) for edge in self._axis.get_view_interval()],
            "ticks": [{"value": self.value(place), "label": label} for place, label in ticks],
        }
        if self._names:
            document["categories"] = list(self._names.values())[:MAX_TICKS]
        elif self._fixed:
            document["categories"] = list(self._fixed.values())
        return document

    def _edge(self, number: Any) -> Any:
        place = plain(number)
        return self._date(place) if self._is_date and place is not None else place

    def _ticks(self) -> list[tuple[float, str]]:
        """Those within view, with their labels. Past MAX_TICKS only every so many."""
        low, high = sorted(map(float, self._axis.get_view_interval()))
        margin = (high - low) * _NEAR
        places = list(self._axis.get_majorticklocs())
        labels = self._axis.get_major_formatter().format_ticks(places)
        ticks = [
            (float(place), text_of(label) or "")
            for place, label in zip(places, labels, strict=True)
            if low - margin <= place <= high + margin
        ]
        return ticks[:: math.ceil(len(ticks) / MAX_TICKS) or 1]

    def _date(self, place: float) -> str | None:
        try:
            if self._freq is not None:
                period = sys.modules["pandas"].Period(ordinal=round(place), freq=self._freq)
                return str(period.to_timestamp().isoformat())
            moment = sys.modules["matplotlib.dates"].num2date(place)
            return str((moment.replace(tzinfo=None) if moment.utcoffset().total_seconds() == 0 else moment).isoformat())
        except (ValueError, OverflowError):
            return None


def plain(number: Any) -> float | None:
    """A finite float, or nothing: masked, NaN, infinite."""
    if type(number).__name__ == "MaskedConstant":
        return None  # numpy would make a NaN of it, with a warning
    try:
        converted = float(number)
    except (TypeError, ValueError):
        return None
    return converted if math.isfinite(converted) else None


def text_of(text: Any) -> str | None:
    """What is written somewhere; null where it is nothing."""
    return str(text)[:MAX_TEXT] or None
