"""Microsoft Agent Framework with examples/agent_framework and a scripted chat client, against a running Carrel."""

import base64
import sys
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_framework import Agent, BaseChatClient, ChatResponse, Content, FunctionInvocationLayer, Message
from checks import ENDPOINT, PNG_SIGNATURE, TOKEN, contains, equal, new_identifier, run

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "examples/agent_framework")]

from carrel_tools import python_tool  # noqa: E402

from carrel.client import AsyncClient  # noqa: E402


class Scripted(FunctionInvocationLayer[Any], BaseChatClient[Any]):
    """Runs one code after the other, then says that it is done; what it was told last is in `told`."""

    def __init__(self, *codes: str) -> None:
        super().__init__()
        self.codes = list(codes)
        self.told: list[Message] = []

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **_: Any
    ) -> Awaitable[ChatResponse[Any]]:
        self.told = list(messages)

        async def answer() -> ChatResponse[Any]:
            if not self.codes:
                return ChatResponse(messages=[Message("assistant", ["done"])])
            call = Content.from_function_call(
                new_identifier("call"), "run_python", arguments={"code": self.codes.pop(0)}
            )
            return ChatResponse(messages=[Message("assistant", [call])])

        return answer()

    @property
    def results(self) -> list[list[Content]]:
        contents = [each for message in self.told for each in message.contents]
        return [list(each.items or []) for each in contents if each.type == "function_result"]


async def converse(*codes: str) -> tuple[str, Scripted]:
    scripted = Scripted(*codes)
    async with AsyncClient(ENDPOINT, TOKEN) as client, client.session(new_identifier("agent-framework")) as session:
        answer = await Agent(scripted, tools=[python_tool(session)]).run("go")
    return answer.text, scripted


async def check_the_tool_says_what_it_takes() -> None:
    """Name, purpose and its one parameter, from the function itself."""
    async with AsyncClient(ENDPOINT, TOKEN) as client:
        tool = python_tool(client.session("unused"))
    equal((tool.name, list(tool.parameters()["properties"])), ("run_python", ["code"]))
    contains(tool.description, "Python", "session")


async def check_variables_stay_from_call_to_call() -> None:
    """The model is told what each call printed and its value."""
    answer, scripted = await converse("x = 41\nprint('set')", "x + 1")
    equal((answer, [each[0].text for each in scripted.results]), ("done", ["set", "42"]))


async def check_a_mistake_is_told() -> None:
    """With its traceback, so that the model can mend it; the run goes on."""
    _, scripted = await converse("1 / 0", "'mended'")
    contains(scripted.results[0][0].text or "", "ZeroDivisionError: division by zero")
    equal(scripted.results[1][0].text, "mended")


async def check_a_chart_reaches_the_model_as_an_image() -> None:
    """Beside the text."""
    _, scripted = await converse("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()")
    _, image = scripted.results[0]
    head, _, data = (image.uri or "").partition(",")
    equal((image.media_type, head), ("image/png", "data:image/png;base64"))
    equal(base64.b64decode(data)[:8], PNG_SIGNATURE)


run(globals())
