"""What a Python session displays, as its interpreter alone tells of it: MIME bundles, tables, and charts as data."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.backends import images
from interpreter_fixture import IMAGES, Interpreter, Ran

TABLE = "application/vnd.dataresource+json"
CHART = "application/vnd.carrel.chart+json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def slim(folder: Path) -> Iterator[Interpreter]:
    with Interpreter(images.ensure("python-slim", IMAGES, print), folder) as interpreter:
        yield interpreter


@pytest.fixture(scope="module")
def heavy(folder: Path) -> Iterator[Interpreter]:
    with Interpreter(images.ensure("python", IMAGES, print), folder) as interpreter:
        interpreter.run("import numpy as np, pandas as pd, matplotlib.pyplot as plt")
        yield interpreter


def shown(ran: Ran) -> list[dict[str, Any]]:
    assert (ran.outcome, ran.stderr) == ("ok", "")
    return [display["data"] for display in ran.displays]


# Bundles


@pytest.mark.parametrize(
    ("code", "mime", "content"),
    [
        ("display(HTML('<b>x</b>'))", "text/html", "<b>x</b>"),
        ("display(Markdown('# x'))", "text/markdown", "# x"),
        ("display(Latex('$x$'))", "text/latex", "$x$"),
        ("display(Math('x^2'))", "text/latex", "$\\displaystyle x^2$"),
        ("display(SVG('<svg><rect/></svg>'))", "image/svg+xml", "<svg><rect/></svg>"),
        ("display(JSON({'a': [1, None]}))", "application/json", {"a": [1, None]}),
        ("display(Image(b'\\x89PNG\\r\\n\\x1a\\nx', format='png'))", "image/png", "iVBORw0KGgp4"),
        ("display({'image/jpeg': b'\\xff\\xd8\\xff'}, raw=True)", "image/jpeg", "/9j/"),
        ("display({'application/pdf': b'%PDF'}, raw=True)", "application/pdf", "JVBERg=="),
        (
            "display({'application/vnd.vegalite.v5+json': {'mark': 'bar', 'w': float('nan')}}, raw=True)",
            "application/vnd.vegalite.v5+json",
            {"mark": "bar", "w": None},
        ),
        (
            "display({'application/vnd.vegalite.v6.json': {'mark': 'bar'}}, raw=True)",
            "application/vnd.vegalite.v6.json",
            {"mark": "bar"},
        ),
        (
            "class Figure:\n  def _repr_mimebundle_(self, **_):\n"
            "    return {'application/vnd.plotly.v1+json': {'data': [{'x': (1, 2)}], 'layout': {}}}\nFigure()",
            "application/vnd.plotly.v1+json",
            {"data": [{"x": [1, 2]}], "layout": {}},
        ),
        ("class H:\n  def _repr_html_(self): return '<i>'\nH()", "text/html", "<i>"),
        ("display('x' * 10)", "text/plain", "'xxxxxxxxxx'"),
        ("display(HTML('é\\ud800🦉'))", "text/html", "é\ud800🦉"),
    ],
)
def test_a_display_is_an_output(slim: Interpreter, code: str, mime: str, content: object) -> None:
    """Text as text, bytes in base64, JSON as it is; also of the last expression, where it is more than text."""
    slim.run("from IPython.display import *")

    (data,) = shown(slim.run(code))
    assert data[mime] == content


def test_a_figure_of_plotlys_is_its_specification(slim: Interpreter) -> None:
    """As the package makes them, without the nbformat that it wants for it; a renderer that the code has chosen is the code's affair."""
    slim.run(
        "import sys, types\n"
        "class BaseFigure:\n"
        '  def to_json(self): return \'{"data": [], "layout": {}}\'\n'
        "  def _ipython_display_(self): print('rendered')\n"
        "BaseFigure.__module__ = 'plotly.basedatatypes'\n"
        "class Figure(BaseFigure): pass\n"
        "sys.modules['plotly.io'] = io = types.SimpleNamespace(renderers=types.SimpleNamespace(default='plotly_mimetype+notebook'))"
    )
    for code in ("Figure()", "display(Figure())"):
        ran = slim.run(code)
        assert shown(ran) == [{"application/vnd.plotly.v1+json": {"data": [], "layout": {}}}]
        assert (ran.stdout, ran.value) == ("", {"kind": "absent"})
    ran = slim.run("io.renderers.default = 'svg'\nFigure()")
    assert (shown(ran), ran.stdout) == ([], "rendered\n")


def test_displays_come_in_order_and_text_stays_on_stdout(slim: Interpreter) -> None:
    """What was printed for readers of stdout is printed as before."""
    ran = slim.run(
        "from IPython.display import HTML\nfor i in range(3):\n  print('p', i)\n  display(i, HTML('<b>'))\n[4]"
    )

    assert [data["text/plain"] for data in shown(ran)[::2]] == ["0", "1", "2"]
    assert ran.stdout == "".join(f"p {i}\n{i}\n<IPython.core.display.HTML object>\n" for i in range(3))
    assert ran.value["json"] == [4]


@pytest.mark.parametrize(
    "code", ["1 + 1", "'text'", "[1, 2]", "object()", "print('x')", "x = 1", "None", "HTML('<b>');"]
)
def test_what_is_text_only_is_the_value_and_no_output(slim: Interpreter, code: str) -> None:
    slim.run("from IPython.display import HTML")
    assert shown(slim.run(code)) == []


def test_metadata_goes_along(slim: Interpreter) -> None:
    ran = slim.run("display({'text/html': 'x'}, raw=True, metadata={'isolated': True, 'bad': object()})")
    assert ran.displays[0]["metadata"] == {}
    ran = slim.run("display({'text/html': 'x'}, raw=True, metadata={'isolated': True})")
    assert ran.displays[0]["metadata"] == {"isolated": True}


@pytest.mark.parametrize(
    "representation",
    [
        "'application/json': object()",
        "'application/json': {1: 2}",
        "'application/json': cyclic",
        "'application/x+json': {'a': [b'']}",
        "'text/html': 5",
        "'image/png': object()",
        "'text/html': 'x' * 9_000_000",
        "'application/json': ['x' * 1000] * 9000",
    ],
)
def test_a_representation_that_cannot_go_is_left_out_and_named(slim: Interpreter, representation: str) -> None:
    """The others of the same thing are told of, and the cell has not failed."""
    ran = slim.run(f"cyclic = []; cyclic.append(cyclic)\ndisplay({{'text/plain': 'here', {representation}}}, raw=True)")

    assert shown(ran) == [{"text/plain": "here"}]
    assert ran.displays[0]["metadata"] == {"carrel": {"leftOut": [representation.split("'")[1]]}}


@pytest.mark.parametrize(
    "data", ["{}", "{'': 'x'}", "{'html': 'x'}", "{5: 'x'}", "{'text/html': None}", "{'a b/c': 'x'}"]
)
def test_what_has_no_type_is_no_output(slim: Interpreter, data: str) -> None:
    assert shown(slim.run(f"display({data}, raw=True)")) == []


def test_a_long_text_is_cut_and_many_displays_go_through(slim: Interpreter) -> None:
    (data,) = shown(slim.run("class T:\n  def __repr__(self): return 'x' * 3_000_000\ndisplay(T())"))
    assert len(data["text/plain"]) == 1024 * 1024
    assert len(shown(slim.run("for i in range(500): display({'text/html': 'y' * 10_000}, raw=True)"))) == 500


def test_a_representation_that_raises_is_shown_and_is_no_failure(slim: Interpreter) -> None:
    """The text is there. A text that raises is one."""
    ran = slim.run(
        "class H:\n  def _repr_html_(self): raise ValueError('bad html')\n  def __repr__(self): return 'H'\ndisplay(H())\nH()"
    )
    assert (ran.outcome, ran.value) == ("ok", {"kind": "text", "text": "H"})
    assert ran.stderr.count("ValueError: bad html") == 2
    assert "carrel" not in ran.stderr

    ran = slim.run("class R:\n  def __repr__(self): raise ValueError('bad repr')\ndisplay(R())")
    assert ran.outcome == "error"


def test_an_interrupt_never_cuts_a_display_in_two(slim: Interpreter) -> None:
    """Each one that comes is whole, and the next run is answered."""
    for _ in range(5):
        ran = slim.run("while True: display({'text/html': 'z' * 3_000_000}, raw=True)", interrupt_after=0.1)
        assert ran.outcome == "interrupted"
        assert all(len(display["data"]["text/html"]) == 3_000_000 for display in ran.displays)
    assert slim.value("6 * 7") == 42


def test_threads_display_whole_and_children_not_at_all(slim: Interpreter) -> None:
    """Frames of several threads do not mix; what a forked child displays is its own text."""
    code = (
        "import threading, os\n"
        "def work(n):\n  for _ in range(20): display({'text/html': str(n) * 500_000}, raw=True)\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "if os.fork() == 0:\n  display({'text/html': 'child'}, raw=True); os._exit(0)\nos.wait()[1]"
    )
    outputs = shown(slim.run(code))

    assert len(outputs) == 80
    assert all(set(data["text/html"]) in ({"0"}, {"1"}, {"2"}, {"3"}) for data in outputs)


def test_what_is_displayed_between_runs_is_nobodys(slim: Interpreter) -> None:
    slim.run("import threading\ntimer = threading.Timer(0.2, display, ['late']); timer.start()")
    assert shown(slim.run("import time; time.sleep(0)")) == []
    assert shown(slim.run("timer.join(); time.sleep(0.01); 1")) in ([], [{"text/plain": "'late'"}])


def test_images_of_pil_and_formulas_of_sympy(heavy: Interpreter) -> None:
    (data,) = shown(heavy.run("from PIL import Image\nImage.new('RGB', (2, 2))"))
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert "image/jpeg" not in data
    (data,) = shown(heavy.run("import sympy; sympy.sqrt(sympy.Symbol('x'))"))
    assert data["text/latex"] == "$\\displaystyle \\sqrt{x}$"


# Tables


def table(ran: Ran) -> dict[str, Any]:
    found: dict[str, Any] = shown(ran)[-1][TABLE]
    return found


def test_a_frame_is_html_and_rows(heavy: Interpreter) -> None:
    """The value stays the text that it was; beside it what a page or a program takes."""
    ran = heavy.run(
        "pd.DataFrame({'i': [1, 2], 'f': [0.5, float('nan')], 'inf': [float('inf'), float('-inf')], 'b': [True, False],"
        " 't': pd.to_datetime(['2024-02-29', None]), 'd': pd.to_timedelta([1, 2], 'h'), 's': ['é', None],"
        " 'o': [[1, {'a': 2}], object], 'c': pd.Categorical(['p', 'q']), 'I': pd.array([1, None], 'Int64')})"
    )
    (data,) = shown(ran)

    assert ran.value["kind"] == "text"
    assert "<table" in data["text/html"]
    found = data[TABLE]
    assert (found["rows"], found["columns"], found["truncated"]) == (2, 10, False)
    types = {field["name"]: field["type"] for field in found["schema"]["fields"]}
    assert types == {
        "index": "integer", "i": "integer", "f": "number", "inf": "number", "b": "boolean", "t": "datetime",
        "d": "duration", "s": "string", "o": "any", "c": "any", "I": "integer",
    }  # fmt: skip
    assert found["schema"]["primaryKey"] == ["index"]
    first, second = found["data"]
    assert first == {
        "index": 0, "i": 1, "f": 0.5, "inf": "INF", "b": True, "t": "2024-02-29T00:00:00", "d": "P0DT1H0M0S", "s": "é",
        "o": [1, {"a": 2}], "c": "p", "I": 1,
    }  # fmt: skip
    assert second["f"] is second["t"] is second["s"] is second["I"] is None
    assert second["inf"] == "-INF"


@pytest.mark.parametrize(
    ("code", "names", "rows"),
    [
        ("pd.Series([1, 2], name='s')", ["index", "s"], [[0, 1], [1, 2]]),
        ("display(pd.Series(['x']))", ["index", "values"], [[0, "x"]]),
        ("pd.DataFrame([[1, 2]], columns=['a', 'a'])", ["index", "a", "a.1"], [[0, 1, 2]]),
        ("pd.DataFrame({'x': [1]}, index=pd.Index(['r'], name='x'))", ["x", "x.1"], [["r", 1]]),
        (
            "pd.DataFrame({('a', 'b'): [1]}, index=pd.MultiIndex.from_tuples([(1, 'p')], names=['n', None]))",
            ["n", "level_1", "a.b"],
            [[1, "p", 1]],
        ),
        ("pd.DataFrame()", ["index"], []),
        ("pd.DataFrame({0: [1j]})", ["index", "0"], [[0, "1j"]]),
        ("pd.DataFrame({'p': pd.period_range('2024', periods=1, freq='M')})", ["index", "p"], [[0, "2024-01"]]),
        ("class Mine(pd.DataFrame): pass\nMine({'a': [10 ** 30]})", ["index", "a"], [[0, 10**30]]),
    ],
)
def test_tables_of_other_shapes(heavy: Interpreter, code: str, names: list[str], rows: list[list[Any]]) -> None:
    """A series, indexes with names and levels, names that are there twice."""
    found = table(heavy.run(code))

    assert [field["name"] for field in found["schema"]["fields"]] == names
    assert [list(row.values()) for row in found["data"]] == rows


@pytest.mark.parametrize(
    ("code", "rows"),
    [
        ("pd.DataFrame({'a': range(100_000)})", 1000),
        ("pd.DataFrame(np.zeros((3, 5000)))", 3),
        ("pd.DataFrame({'a': ['x' * 100_000] * 900})", 900),
        ("pd.DataFrame({str(i): ['x' * 2000] * 900 for i in range(10)})", None),
        ("pd.DataFrame({'x' * 100_000 + str(i): [1] for i in range(100)})", 1),
        ("pd.DataFrame({'a': [['y' * 50] * 1000] * 400})", 400),
    ],
)
def test_tables_are_bounded(heavy: Interpreter, code: str, rows: int | None) -> None:
    """A thousand rows, two hundred columns, a megabyte; and it says so."""
    found = table(heavy.run(code))

    assert len(json.dumps(found)) < 1_300_000
    assert len(found["schema"]["fields"]) <= 201
    assert found["truncated"] == (len(found["data"]) < found["rows"] or found["columns"] > 200)
    assert rows is None or len(found["data"]) == rows


def test_a_frame_that_cannot_be_read_has_its_html_all_the_same(heavy: Interpreter) -> None:
    """Nothing of ours fails in the user's cell."""
    code = "class Odd(pd.DataFrame):\n  @property\n  def iloc(self): raise RuntimeError('odd')\n  def _repr_html_(self): return '<p>'\n"
    (data,) = shown(heavy.run(code + "Odd({'a': [1]})"))

    assert data["text/html"] == "<p>"
    assert TABLE not in data


# Charts


def chart(ran: Ran) -> dict[str, Any]:
    data = shown(ran)[-1]
    assert data["image/png"]
    found: dict[str, Any] = data[CHART]
    return found


def points(document: dict[str, Any]) -> list[Any]:
    return [series["points"] for series in document["series"]]


def test_a_line_chart_as_data(heavy: Interpreter) -> None:
    """Title, axes, and the points of each series by its label; NaN is null; one output, whether shown or left to the end."""
    code = (
        "fig, ax = plt.subplots()\nax.plot([1, 2, 3], [1, 4, float('nan')], label='squares')\nax.plot([1, 2], [2, 3], 'o')\n"
        "ax.set(title='T', xlabel='X', ylabel='Y', yscale='symlog', xlim=(0, 4)); ax.axhline(2); ax.axvline(1); ax.legend()\n"
    )
    for ending in ("", "plt.show()", "fig"):
        found = chart(heavy.run(code + ending))
        assert found["type"] == "mixed"
        assert (found["title"], found["x"]["label"], found["y"]["label"]) == ("T", "X", "Y")
        assert (found["x"]["scale"], found["x"]["limits"], found["y"]["scale"]) == ("linear", [0, 4], "symlog")
        assert [series["type"] for series in found["series"]] == ["line", "scatter", "reference", "reference"]
        assert found["series"][0] == {"type": "line", "label": "squares", "points": [[1, 1], [2, 4], [3, None]]}
        assert found["series"][2] == {"type": "reference", "label": None, "axis": "y", "value": 2}
        assert {"value": 2, "label": "2.0"} in found["x"]["ticks"]


def test_bars_as_data(heavy: Interpreter) -> None:
    """By category, whether matplotlib's own or fixed ticks, lying or standing, stacked, with errors."""
    found = chart(heavy.run("plt.bar(['a', 'b'], [1, 2], label='l', yerr=[.5, 1]);"))
    assert (found["type"], found["x"]["scale"], found["x"]["categories"]) == ("bar", "category", ["a", "b"])
    assert found["series"][0]["bars"] == [
        {"category": "a", "position": "a", "width": 0.8, "base": 0, "value": 1, "error": [0.5, 1.5]},
        {"category": "b", "position": "b", "width": 0.8, "base": 0, "value": 2, "error": [1, 3]},
    ]
    frame = "pd.DataFrame({'x': [1, 2], 'y': [3, 4]}, index=['r', 's'])"
    found = chart(heavy.run(f"{frame}.plot.barh();"))
    assert [(series["label"], series["orientation"]) for series in found["series"]] == [
        ("x", "horizontal"),
        ("y", "horizontal"),
    ]
    assert [(bar["category"], bar["value"]) for bar in found["series"][1]["bars"]] == [("r", 3), ("s", 4)]
    found = chart(heavy.run(f"{frame}.plot.bar(stacked=True);"))
    assert [(bar["base"], bar["value"]) for bar in found["series"][1]["bars"]] == [(1, 3), (2, 4)]
    assert found["x"]["categories"] == ["r", "s"]


@pytest.mark.parametrize(
    "code",
    [
        "plt.hist([1, 1, 2, 4], bins=3)",
        "pd.Series([1, 1, 2, 4]).plot.hist(bins=3)",
        "plt.stairs([2, 1, 1], [1, 2, 3, 4])",
    ],
)
def test_histograms_as_data(heavy: Interpreter, code: str) -> None:
    """Bars that touch are bins."""
    found = chart(heavy.run(code + ";"))

    assert found["type"] == "histogram"
    assert [(bin_["from"], bin_["to"], bin_["value"]) for bin_ in found["series"][0]["bins"]] == [
        (1, 2, 2),
        (2, 3, 1),
        (3, 4, 1),
    ]


@pytest.mark.parametrize("extra", ["", ", patch_artist=True", ", notch=True", ", orientation='horizontal'"])
def test_boxes_as_data(heavy: Interpreter, extra: str) -> None:
    found = chart(heavy.run(f"plt.boxplot([[1, 2, 3, 4, 10], [2, 3, 4]], tick_labels=['p', 'q']{extra});"))

    assert found["type"] == "box"
    (series,) = found["series"]
    assert series["orientation"] == ("horizontal" if "horizontal" in extra else "vertical")
    assert series["boxes"] == [
        {"category": "p", "position": 1, "low": 1, "q1": 2, "median": 3, "q3": 4, "high": 4, "outliers": [10]},
        {"category": "q", "position": 2, "low": 2, "q1": 2.5, "median": 3, "q3": 3.5, "high": 4, "outliers": []},
    ]


def test_pies_points_and_cells_as_data(heavy: Interpreter) -> None:
    found = chart(heavy.run("plt.pie([1, 3], labels=['x', 'y']);"))
    assert found["series"][0]["slices"] == [{"label": "x", "fraction": 0.25}, {"label": "y", "fraction": 0.75}]
    assert (found["type"], "x" in found) == ("pie", False)
    found = chart(heavy.run("plt.scatter([1, 10], [3, 2], c=[5, 6]); plt.xscale('log'); plt.colorbar();"))
    assert (found["type"], found["x"]["scale"]) == ("scatter", "log")  # and no chart of the colour bar
    assert (points(found), found["series"][0]["values"]) == ([[[1, 3], [10, 2]]], [5, 6])
    found = chart(heavy.run("plt.imshow([[1, 2], [3, float('nan')]]);"))
    assert (found["type"], found["series"][0]["values"]) == ("image", [[1, 2], [3, None]])
    found = chart(heavy.run("plt.imshow(np.zeros((500, 500, 3)));"))
    assert found["series"][0] == {
        "type": "image",
        "label": None,
        "extent": [-0.5, 499.5, 499.5, -0.5],
        "shape": [500, 500, 3],
    }
    found = chart(heavy.run("plt.contour(np.arange(9).reshape(3, 3), levels=[2, 4]);"))
    assert (found["type"], found["series"][0]["levels"]) == ("contour", [2, 4])
    found = chart(heavy.run("plt.errorbar([1, 2], [3, 4], yerr=.5, xerr=[.25, .5], label='e');"))
    (series,) = found["series"]
    assert (series["label"], series["yErrors"], series["xErrors"]) == (
        "e",
        [[2.5, 3.5], [3.5, 4.5]],
        [[0.75, 1.25], [1.5, 2.5]],
    )
    found = chart(heavy.run("plt.stem([1, 2], [3, 4]);"))
    assert (found["type"], points(found)) == ("stem", [[[1, 3], [2, 4]]])
    assert chart(heavy.run("plt.fill_between([1, 2], [0, 0], [1, 1]);"))["type"] == "area"
    assert chart(heavy.run("plt.hexbin([1, 2, 3], [1, 2, 3], gridsize=5);"))["type"] == "hexbin"


@pytest.mark.parametrize(
    "code",
    [
        "plt.plot(pd.to_datetime(['2024-01-01T00:00', '2024-02-01T12:00']), [1, 2])",
        "plt.plot(np.array(['2024-01-01', '2024-02-01T12:00'], 'datetime64[s]'), [1, 2])",
        "pd.Series([1, 2], index=pd.to_datetime(['2024-01-01T00:00', '2024-02-01T12:00'])).plot()",
    ],
)
def test_dates_as_data(heavy: Interpreter, code: str) -> None:
    found = chart(heavy.run(code + ";"))

    assert found["x"]["scale"] == "date"
    assert points(found) == [[["2024-01-01T00:00:00", 1], ["2024-02-01T12:00:00", 2]]]


def test_periods_of_pandas_as_data(heavy: Interpreter) -> None:
    found = chart(heavy.run("pd.Series([1, 2], index=pd.date_range('2024', periods=2, freq='MS')).plot();"))

    assert found["x"]["limits"] == ["2024-01-01T00:00:00", "2024-02-01T00:00:00"]
    assert points(found) == [[["2024-01-01T00:00:00", 1], ["2024-02-01T00:00:00", 2]]]


@pytest.mark.thorough
def test_seaborns_charts_as_data(heavy: Interpreter) -> None:
    """Its hues by the legend's colours, its boxes and bars by category, its histograms with the curve beside."""
    heavy.run(
        "import seaborn as sns\ndf = pd.DataFrame({'x': [1, 2, 3, 4], 'y': [1, 4, 2, 3], 'g': ['a', 'b', 'a', 'b']})"
    )
    found = chart(heavy.run("sns.scatterplot(df, x='x', y='y', hue='g');"))
    assert (found["type"], found["legend"], found["x"]["label"]) == ("scatter", "g", "x")
    assert {series["label"]: series["points"] for series in found["series"]} == {
        "a": [[1, 1], [3, 2]],
        "b": [[2, 4], [4, 3]],
    }
    found = chart(heavy.run("sns.lineplot(df, x='x', y='y', hue='g');"))
    assert {series["label"]: series["points"] for series in found["series"]} == {
        "a": [[1, 1], [3, 2]],
        "b": [[2, 4], [4, 3]],
    }
    found = chart(heavy.run("sns.boxplot(df, x='g', y='x');"))
    assert [(box["category"], box["median"]) for box in found["series"][0]["boxes"]] == [("a", 2), ("b", 3)]
    found = chart(heavy.run("sns.barplot(df, x='g', y='x', errorbar=('pi', 100));"))
    assert [(bar["category"], bar["value"], bar["error"]) for bar in found["series"][0]["bars"]] == [
        ("a", 2, [1, 3]),
        ("b", 3, [2, 4]),
    ]
    found = chart(heavy.run("sns.histplot(df, x='x', bins=3, kde=True);"))
    assert [series["type"] for series in found["series"]] == ["histogram", "line"]
    found = chart(heavy.run("sns.heatmap(np.arange(4).reshape(2, 2), xticklabels=['u', 'v']);"))
    assert (found["type"], found["series"][0]["values"], found["x"]["categories"]) == (
        "heatmap",
        [[0, 1], [2, 3]],
        ["u", "v"],
    )
    found = chart(heavy.run("sns.relplot(df, x='x', y='y', col='g');"))
    assert [each["title"] for each in found["charts"]] == ["g = a", "g = b"]


def test_subplots_are_a_list(heavy: Interpreter) -> None:
    found = chart(
        heavy.run("fig, axes = plt.subplots(1, 2); axes[0].plot([1]); axes[1].bar([1], [2]); fig.suptitle('both');")
    )

    assert (found["type"], found["title"]) == ("subplots", "both")
    assert [each["type"] for each in found["charts"]] == ["line", "bar"]
    assert len(chart(heavy.run("plt.subplots(7, 7);"))["charts"]) == 36


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("code", "total"),
    [
        ("plt.plot(np.arange(1_000_000));", 1_000_000),
        ("plt.scatter(np.arange(50_000), np.arange(50_000));", 50_000),
        ("[plt.plot(np.arange(3000)) for _ in range(120)];", 3000),
    ],
)
def test_charts_are_bounded(heavy: Interpreter, code: str, total: int) -> None:
    """Fewer points, evenly, and how many there were; fewer series."""
    found = chart(heavy.run(code))

    assert len(json.dumps(found)) < 1_300_000
    assert len(found["series"]) <= 100
    for series in found["series"]:
        assert len(series["points"]) <= 2000
        assert series["total"] == total


@pytest.mark.thorough
@pytest.mark.parametrize(
    "code",
    [
        "fig = plt.figure(); fig.add_subplot(projection='3d').plot([1], [1], [1]);",
        "plt.subplot(projection='polar').plot([1, 2], [1, 2]);",
        "plt.quiver([1], [1], [1], [1]);",
        "plt.text(0, 0, 'x' * 1000); plt.title('y' * 1000);",
        "plt.axis('off'); plt.arrow(0, 0, 1, 1);",
        "plt.violinplot([[1, 2, 3]]); plt.eventplot([1, 2]); plt.broken_barh([(1, 2)], (0, 1));",
        "plt.bar([], []); plt.plot([], []); plt.scatter([], []);",
        "plt.plot([float('inf'), 1], [1, float('-inf')]);",
        "plt.gca().xaxis.set_major_formatter(lambda v, p: f'<{v}>'); plt.plot([1]);",
        "plt.streamplot(np.arange(3), np.arange(3), np.ones((3, 3)), np.ones((3, 3)));",
        "plt.hist2d([1, 2], [1, 2]); plt.spy(np.eye(3)); plt.table([['a']]);",
        "import matplotlib.patches as p; plt.gca().add_patch(p.Circle((0, 0), 1)); plt.axvspan(0, 1); plt.fill([0, 1, 1], [0, 0, 1]);",
    ],
)
def test_charts_of_every_other_kind_are_told_of(heavy: Interpreter, code: str) -> None:
    """What is not known is named as such; strict JSON in any case, and nothing on stderr."""
    found = chart(heavy.run(code))

    assert isinstance(found["series"], list)
    assert len(json.dumps(found, allow_nan=False)) < 200_000


def test_an_empty_figure_and_one_that_lies_have_their_picture(heavy: Interpreter) -> None:
    """Nothing of ours fails in the user's cell, whatever an artist says of itself."""
    (data,) = shown(heavy.run("plt.figure();"))
    assert CHART not in data
    code = (
        "from matplotlib.lines import Line2D\n"
        "class Odd(Line2D):\n  def get_linestyle(self): raise SystemError\n  def draw(self, r): pass\n"
    )
    found = chart(heavy.run(code + "plt.gca().add_artist(Odd([1], [1])); plt.title('here');"))
    assert (found["title"], found["type"], found["series"]) == ("here", "other", [])
