"""The OpenAI Agents SDK with examples/openai_agents and its own scripted model, against a running Carrel."""

import base64
import sys
from pathlib import Path
from typing import Any

from agents import Agent, Runner, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
from checks import ENDPOINT, PNG_SIGNATURE, TOKEN, contains, equal, new_identifier, run

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "examples/openai_agents")]

from carrel_agents import python_tool  # noqa: E402

from carrel.client import AsyncClient  # noqa: E402

set_tracing_disabled(True)


def running(code: str) -> list[Any]:
    return [function_call("run_python", {"code": code}, call_id=new_identifier("call"))]


async def converse(*codes: str) -> tuple[str, ScriptedModel]:
    """An agent whose model runs these, then says that it is done; what it was told is in the model's calls."""
    model = ScriptedModel([*map(running, codes), [assistant_message("done")]])
    async with AsyncClient(ENDPOINT, TOKEN) as client, client.session(new_identifier("openai-agents")) as session:
        result = await Runner.run(Agent("analyst", model=model, tools=[python_tool(session)]), "go")
    model.assert_complete()
    return str(result.final_output), model


def told(model: ScriptedModel) -> list[Any]:
    """The outputs of the tool, as the model has them in the end."""
    items = model.calls[-1].input
    return [each["output"] for each in items if isinstance(each, dict) and each.get("type") == "function_call_output"]


async def check_the_tool_says_what_it_takes() -> None:
    """Name, purpose and its one parameter, from the function itself."""
    async with AsyncClient(ENDPOINT, TOKEN) as client:
        tool = python_tool(client.session("unused"))
    equal((tool.name, list(tool.params_json_schema["properties"])), ("run_python", ["code"]))
    contains(tool.description, "Python", "session")


async def check_variables_stay_from_call_to_call() -> None:
    """The model is told what each call printed and its value."""
    answer, model = await converse("x = 41\nprint('set')", "x + 1")
    equal((answer, [each[0]["text"] for each in told(model)]), ("done", ["set", "42"]))


async def check_a_mistake_is_told() -> None:
    """With its traceback, so that the model can mend it; the run goes on."""
    _, model = await converse("1 / 0", "'mended'")
    contains(told(model)[0][0]["text"], "ZeroDivisionError: division by zero")
    equal(told(model)[1][0]["text"], "mended")


async def check_a_chart_reaches_the_model_as_an_image() -> None:
    """Beside the text, as a data URL."""
    _, model = await converse("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()")
    _, image = told(model)[0]
    head, _, data = image["image_url"].partition(",")
    equal((image["type"], head), ("input_image", "data:image/png;base64"))
    equal(base64.b64decode(data)[:8], PNG_SIGNATURE)


run(globals())
