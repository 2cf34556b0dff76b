"""PydanticAI with examples/pydantic_ai and its own FunctionModel, against a running Carrel."""

import sys
from pathlib import Path
from typing import Any

from checks import ENDPOINT, PNG_SIGNATURE, TOKEN, contains, equal, new_identifier, run
from pydantic_ai import Agent, BinaryContent, ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "examples/pydantic_ai")]

from carrel_toolset import python_toolset  # noqa: E402

from carrel.client import AsyncClient  # noqa: E402


async def converse(*calls: tuple[str, dict[str, Any]]) -> tuple[str, list[Any], list[str]]:
    """An agent whose model makes these calls, then says that it is done: the answer, what the tools gave, the tools' names."""
    left = list(calls)
    seen: list[list[ModelMessage]] = []
    tools: list[str] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(messages)
        tools[:] = [each.name for each in info.function_tools]
        return ModelResponse(parts=[ToolCallPart(*left.pop(0))] if left else [TextPart("done")])

    async with AsyncClient(ENDPOINT, TOKEN) as client, client.session(new_identifier("pydantic-ai")) as session:
        agent = Agent(FunctionModel(model), toolsets=[python_toolset(session)])
        answer = (await agent.run("go")).output
    parts = [part for message in seen[-1] for part in message.parts]
    return answer, [part.content for part in parts if part.part_kind == "tool-return"], tools


def python(code: str) -> tuple[str, dict[str, Any]]:
    return "run_python", {"code": code}


async def check_variables_stay_from_call_to_call() -> None:
    """The model is told what each call printed and its value."""
    answer, told, tools = await converse(python("x = 41\nprint('set')"), python("x + 1"))
    equal((answer, told, tools), ("done", ["set", "42"], ["run_python", "read_file"]))


async def check_a_mistake_is_told() -> None:
    """With its traceback, so that the model can mend it; the run goes on."""
    _, told, _ = await converse(python("1 / 0"), python("'mended'"))
    contains(told[0], "ZeroDivisionError: division by zero")
    equal(told[1], "mended")


async def check_a_file_is_read() -> None:
    """What code has written, by its name."""
    _, told, _ = await converse(
        python("print(open('notes.txt', 'w').write('grüß'))"), ("read_file", {"path": "notes.txt"})
    )
    equal(told, ["4", "grüß"])


async def check_a_file_that_is_not_there_is_told() -> None:
    """As a mistake in code is; the run goes on."""
    answer, told, _ = await converse(("read_file", {"path": "missing.txt"}), ("read_file", {"path": ".."}))
    contains(told[0], "missing.txt")
    equal((answer, len(told)), ("done", 2))


async def check_a_chart_reaches_the_model_as_an_image() -> None:
    """Beside the text."""
    _, told, _ = await converse(python("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()"))
    images = [each for each in told[0] if isinstance(each, BinaryContent)]
    equal([(each.media_type, each.data[:8]) for each in images], [("image/png", PNG_SIGNATURE)])


run(globals())
