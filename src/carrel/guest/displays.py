"""Where a cell's value and what it displays end up: kept on the shell for the caller, or printed as text."""

from __future__ import annotations

from itertools import islice
from typing import Any

from IPython.core.displayhook import DisplayHook  # type: ignore[import-not-found]
from IPython.core.displaypub import DisplayPublisher  # type: ignore[import-not-found]

from carrel.guest import values

FORMATS = {"image/png": "png", "image/jpeg": "jpeg"}


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
        elif "text/plain" in data:
            print(data["text/plain"])

    def clear_output(self, wait: bool = False) -> None:
        """What is written cannot be taken back."""


def image(data: dict[str, Any]) -> values.Document | None:
    for mime, image_format in FORMATS.items():
        if content := data.get(mime):
            return values.image(image_format, content)
    return None


def is_plot_handle(value: object, depth: int = 0) -> bool:
    """Whether this is what matplotlib's functions return (lines, axes, bins and patches) rather than something to read."""
    kind = type(value)
    if issubclass(kind, (list, tuple)):
        first = islice(iter(value), 4)  # type: ignore[call-overload]
        return depth < 2 and any(is_plot_handle(item, depth + 1) for item in first)
    if kind.__name__ == "ndarray":
        return is_plot_handle(next(iter(value.flat), None))  # type: ignore[attr-defined]
    return str(kind.__module__).startswith(("matplotlib.", "seaborn."))
