"""Beside code: commands, displays and variables of a Python session, through the front door at every level."""

from __future__ import annotations

import pytest

from carrel.client import Client

TABLE = "application/vnd.dataresource+json"
CHART = "application/vnd.carrel.chart+json"


def test_a_command_runs_beside_the_code(client: Client) -> None:
    """In the data folder, with its exit code and its input; files are shared, variables untouched."""
    client.execute("kept = 1; open('from_python.txt', 'w').write('text')")
    ran = client.shell("cat from_python.txt - > from_shell.txt; echo err >&2; exit 7", stdin=" and more")

    assert (ran.exit_code, ran.stdout, ran.stderr) == (7, "", "err\n")
    assert client.execute("open('from_shell.txt').read(), kept").result == ["text and more", 1]


def test_a_command_goes_home_wherever_the_code_is(client: Client) -> None:
    """Also for a program without a shell, and with more input than a pipe holds."""
    home = client.execute("import os, tempfile; home = os.getcwd(); os.chdir(tempfile.mkdtemp()); home").result

    assert client.shell("pwd").stdout == f"{home}\n"
    assert client.shell(["wc", "-c"], stdin="x" * 500_000).stdout == "500000\n"


def test_a_long_line_and_what_it_starts(client: Client) -> None:
    """Longer than an argument may be; what it leaves in the background is there in the next command."""
    ran = client.shell(f"cat >long.txt <<'E'\n{'x' * 300_000}\nE\nsleep 300 & echo $! >pid; wc -c <long.txt")

    assert (ran.exit_code, ran.stdout) == (0, "300001\n")
    assert client.shell("kill -0 $(cat pid) && kill $(cat pid)").exit_code == 0


def test_a_command_past_its_time_is_ended_and_variables_stay(client: Client) -> None:
    """What ignores SIGINT is killed by the guest, so that the interpreter need not be."""
    client.execute("kept = 2")
    ran = client.shell("trap '' INT; while :; do sleep 1; done", timeout=1)

    assert ran.exit_code == -1
    assert client.execute("kept").result == 2


def test_displays_are_outputs_in_order(client: Client) -> None:
    """Beside the text on stdout, which stays."""
    ran = client.execute(
        "from IPython.display import *\ndisplay(HTML('<b>é</b>'))\ndisplay(JSON({'a': [1]}), 3)\nMarkdown('# x')"
    )

    assert all("text/plain" in output.data for output in ran.outputs)
    assert [output.data.get("text/html") for output in ran.outputs] == ["<b>é</b>", None, None, None]
    assert ran.outputs[1].data["application/json"] == {"a": [1]}
    assert ran.outputs[3].data["text/markdown"] == "# x"
    assert ran.stdout.splitlines()[-1] == "3"


def test_variables_go_in_and_come_out(client: Client) -> None:
    """Never as code."""
    ran = client.execute(
        "answer = given['a'] + [len(text)]",
        variables={"given": {"a": [1, None]}, "text": "'); exit() #\n"},
        return_variables=["answer", "missing"],
    )

    assert ran.variables == {"answer": [1, None, 13]}


@pytest.mark.packages
def test_frames_and_figures_are_data(client: Client) -> None:
    """A frame as HTML and rows, a figure as a picture and as its series; the value is what it was before."""
    ran = client.execute("import pandas as pd, matplotlib.pyplot as plt\nframe = pd.DataFrame({'a': [1, 2]})\nframe")
    (output,) = ran.outputs
    assert "<table" in output.data["text/html"]
    assert output.data[TABLE]["data"] == [{"index": 0, "a": 1}, {"index": 1, "a": 2}]
    assert ran.result == "   a\n0  1\n1  2"

    ran = client.execute("frame.plot(title='T')\nplt.show()\nfig, ax = plt.subplots(); ax.bar(['x'], [5]);")
    assert [(output.data[CHART]["type"], output.data[CHART]["title"]) for output in ran.outputs] == [
        ("line", "T"),
        ("bar", None),
    ]
    assert all((output.image() or b"").startswith(b"\x89PNG") for output in ran.outputs)
    assert ran.outputs[0].data[CHART]["series"][0] == {"type": "line", "label": "a", "points": [[0, 1], [1, 2]]}
    assert ran.result["type"] == "image"


def test_odd_text_and_deep_json_go_through(client: Client) -> None:
    """Half a surrogate pair is no UTF-8, and nothing for a reader to stumble over; more than the caps is counted."""
    code = (
        "from IPython.display import *\ndeep = 1\nfor _ in range(60): deep = [deep]\n"
        "display(HTML('a\\ud800b\\0c')); display(JSON({'deep': deep, '\\udc00': float('nan'), 'big': 2 ** 200}))\n"
        "for _ in range(200): display(1)\nodd = 'x\\ud800'"
    )
    ran = client.execute(code, return_variables=["odd"])

    assert ran.status == "Succeeded"
    assert ran.outputs[0].data["text/html"][0] == "a"
    assert ran.outputs[1].data["application/json"]["big"] == 2**200
    assert (len(ran.outputs), ran.dropped_outputs) == (100, 102)
    assert ran.variables["odd"][0] == "x"
