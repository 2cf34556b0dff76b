"""smolagents with examples/smolagents, its agent's model scripted, against a running Carrel."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from checks import ENDPOINT, TOKEN, contains, equal, lacks, new_identifier, raises, run
from smolagents import ChatMessage, CodeAgent, MessageRole, Model, tool

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "examples/smolagents")]

from carrel_executor import CarrelExecutor  # noqa: E402

from carrel.client import Client, SessionNotFound  # noqa: E402


class Scripted(Model):
    """Says one line of its script after the other; what it was told is in `told`."""

    def __init__(self, *lines: str) -> None:
        super().__init__()
        self.lines = list(lines)
        self.told: list[str] = []

    def generate(self, messages: list[ChatMessage], **_: Any) -> ChatMessage:
        self.told.append(str(messages[-1].content))
        return ChatMessage(role=MessageRole.ASSISTANT, content=f"<code>\n{self.lines.pop(0)}\n</code>")


@tool
def double(number: int) -> int:
    """Doubles a number.

    Args:
        number: which
    """
    return number * 2


@contextmanager
def agent(*lines: str) -> Iterator[tuple[CodeAgent, Scripted, CarrelExecutor]]:
    model = Scripted(*lines)
    with Client(ENDPOINT, TOKEN) as client, client.session(new_identifier("smolagents")) as session:
        executor = CarrelExecutor(session)
        yield CodeAgent([double], model, executor=executor, verbosity_level=0, max_steps=6), model, executor


def check_an_agent_uses_its_tools_in_the_session() -> None:
    """Variables stay from step to step, the agent's tools are there, and the answer is a value, not its text."""
    with agent("x = double(21)\nprint('x is', x)", "final_answer({'x': x, 'who': 'ü'})") as (each, model, _):
        equal(each.run("go"), {"x": 42, "who": "ü"})
    contains(model.told[1], "x is 42")


def check_an_agent_reads_its_mistake() -> None:
    """Code that fails is told with its traceback; the next step goes on in the same session."""
    with agent("x = 6\nx / 0", "final_answer(x * 7)") as (each, model, _):
        equal(each.run("go"), 42)
    contains(model.told[1], "ZeroDivisionError")


def check_what_the_caller_gives_is_there() -> None:
    """Variables of `additional_args`, which cross as JSON."""
    with agent("final_answer(sum(given))") as (each, *_):
        equal(each.run("go", additional_args={"given": [1, 2, 39]}), 42)


def check_a_chart_is_a_picture() -> None:
    """What the code draws is what the step gives."""
    with agent() as (_, _, executor):
        drawn = executor("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()").output
        equal((drawn.format, drawn.width > 100), ("PNG", True))


def check_a_forged_answer_is_not_unpickled() -> None:
    """Code of the session can raise what looks like an answer; one that is a pickle is an error of the step."""
    forged = (
        "import base64, pickle\nclass Evil:\n    def __reduce__(self): return (print, ('unpickled here',))\n"
        "class FinalAnswerException(BaseException): pass\n"
        "raise FinalAnswerException('pickle:' + base64.b64encode(pickle.dumps(Evil())).decode())"
    )
    with agent() as (_, _, executor), raises(Exception) as caught:
        executor(forged)
    contains(str(caught.error), "FinalAnswerException")
    lacks(str(caught.error), "unpickled here\n")


def check_cleaning_up_ends_the_session() -> None:
    """Once, and again."""
    with agent("final_answer(1)") as (each, _, executor):
        each.run("go")
        each.cleanup()
        with raises(SessionNotFound):
            executor._session.info()
        each.cleanup()


run(globals())
