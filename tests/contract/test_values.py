"""What the last expression gives, in each envelope."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from endpoint import V24_10, V25_02, V25_10, Endpoint

# code, in the old envelope, in executions, in executions at 2024-10-02-preview
VALUES: list[tuple[str, Any, Any, Any]] = [
    ("6 * 7", 42, 42, "42"),
    ("2.5", 2.5, 2.5, "2.5"),
    ("True", True, True, "True"),
    ("None", None, None, None),
    ("'text'", "text", "text", "text"),
    ("''", "", "", ""),
    ("float('nan')", "nan", "nan", "nan"),
    ("float('-inf')", "-inf", "-inf", "-inf"),
    ("x = 5", "", "", ""),
    ("print('x')", "", "", ""),
    ("1;", "", "", ""),
    ("[1, 'a', None, True]", "[1, 'a', None, True]", [1, "a", None, True], [1, "a", None, True]),
    ("{'k': [1, {'n': 2.5}]}", "{'k': [1, {'n': 2.5}]}", {"k": [1, {"n": 2.5}]}, {"k": [1, {"n": 2.5}]}),
    ("(1, 2)", "(1, 2)", [1, 2], [1, 2]),
    ("[float('nan')]", "[nan]", ["nan"], ["nan"]),
    ("{1: 2}", "{1: 2}", "{1: 2}", "{1: 2}"),
    ("{1, 1}", "{1}", "{1}", "{1}"),
    ("b'bytes'", "b'bytes'", "b'bytes'", "b'bytes'"),
    ("complex(1, 2)", "(1+2j)", "(1+2j)", "(1+2j)"),
    ("[object]", "[object]", "[object]", "[object]"),
    ("10 ** 40", 10**40, 10**40, str(10**40)),
    ("'grüße \\U0001f600'", "grüße \U0001f600", "grüße \U0001f600", "grüße \U0001f600"),
    ("'\\ud800'", "\ud800", "\ud800", "\ud800"),
]


@pytest.mark.parametrize(("code", "old", "new", "text"), VALUES, ids=[row[0] for row in VALUES])
def test_a_value_in_each_envelope(shared: Endpoint, code: str, old: Any, new: Any, text: Any) -> None:
    """Scalars are JSON in both; containers are IPython's text in the old envelope and JSON in executions; the rest is text."""
    properties = shared.old(code)

    assert (properties["status"], properties["result"], properties["executionResult"]) == ("Success", old, old)
    for version in (V25_02, V25_10):
        assert shared.run(code, version=version)["result"]["executionResult"] == new
    assert shared.run(code, version=V24_10)["result"]["executionResult"] == text


def test_a_long_list_is_pretty_in_the_old_envelope(shared: Endpoint) -> None:
    """One element per line, as AutoGen's package probe splits it."""
    text = shared.old("[('name%04d' % n, '1.0') for n in range(50)]")["result"]

    assert text.count(",\n") == 49


def test_output_and_value_come_together(shared: Endpoint) -> None:
    body = shared.run("print('said'); import sys; print('also', file=sys.stderr); 4")

    result = body["result"]
    assert (result["stdout"], result["stderr"], result["executionResult"]) == ("said\n", "also\n", 4)


def test_top_level_await_magics_and_commands(shared: Endpoint) -> None:
    """A cell is IPython's: await, %magic, !command."""
    assert shared.result("import asyncio\nawait asyncio.sleep(0, 'awaited')") == "awaited"
    assert "Wall time" in shared.run("%%time\npass")["result"]["stdout"]
    assert shared.run("!echo from the shell")["result"]["stdout"] == "from the shell\n"


def test_input_fails_at_once_and_says_why(shared: Endpoint) -> None:
    body = shared.run("input('name? ')", timeoutInSeconds=5)

    assert body["status"] == "Failed"
    assert "input is not available" in body["result"]["stderr"]


@pytest.mark.packages
def test_a_figure_is_an_image_in_both_envelopes(endpoint: Endpoint) -> None:
    """{"type": "image", "format": "png", "base64_data": …}, inline without being asked for."""
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()"
    for value in (endpoint.result(code), endpoint.old(code)["result"]):
        assert (value["type"], value["format"]) == ("image", "png")
        assert base64.b64decode(value["base64_data"]).startswith(b"\x89PNG")


@pytest.mark.packages
def test_a_table_is_its_text(endpoint: Endpoint) -> None:
    """A DataFrame is neither JSON nor HTML here."""
    value = endpoint.result("import pandas as pd\npd.DataFrame({'a': [1, 2]})", timeoutInSeconds=60)

    assert value.splitlines()[0].split() == ["a"]


@pytest.mark.packages
def test_numpy_scalars_are_numbers(endpoint: Endpoint) -> None:
    code = "import numpy as np\n[np.int64(3), np.float64(2.5), np.bool_(True)]"

    assert endpoint.result(code, timeoutInSeconds=60) == [3, 2.5, True]


def test_a_repr_that_raises_is_the_cells_error(shared: Endpoint) -> None:
    """The interpreter goes on."""
    body = shared.run("class Bad:\n    def __repr__(self): raise ValueError('no repr')\nBad()")

    assert body["status"] == "Failed"
    assert "no repr" in body["result"]["stderr"]
    assert shared.result("1 + 1") == 2


def test_the_last_value_is_remembered(endpoint: Endpoint) -> None:
    endpoint.run("6 * 7")

    assert endpoint.result("_ + 1") == 43


@pytest.mark.parametrize("version", [V24_10, V25_10])
def test_a_huge_value_is_bounded(shared: Endpoint, version: str) -> None:
    """A string of 3 MiB comes back cut, whole JSON around it."""
    body = shared.run("'x' * (3 * 1024 * 1024)", version=version)

    assert body["status"] == "Succeeded"
    assert 1000 < len(body["result"]["executionResult"]) <= 1024 * 1024
