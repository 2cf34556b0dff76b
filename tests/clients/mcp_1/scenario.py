"""The official MCP client of the first generation (handshake, MCP sessions), against a running Carrel."""

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from checks import PNG_SIGNATURE, TOKEN, contains, equal, raises, run
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult

URL, KEY = os.environ["CARREL_MCP"], os.environ["CARREL_MCP_KEY"]
STDIO = StdioServerParameters(
    command=os.environ["CARREL_PROGRAM"], args=["mcp", "--endpoint", URL], env={"CARREL_MCP_KEY": KEY}
)
PYTHON = "runPythonCodeInRemoteEnvironment"
# A small image, made without any library.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

LAUNCHED: list[str] = []


@asynccontextmanager
async def connected(headers: dict[str, str] | None = None, *, ends: bool = True) -> AsyncIterator[ClientSession]:
    async with (
        streamablehttp_client(URL, headers=headers or {"x-ms-apikey": KEY}) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        yield session
        while ends and LAUNCHED:
            await session.call_tool("stopEnvironment", {"environmentId": LAUNCHED.pop()})


def structured(result: CallToolResult) -> dict[str, Any]:
    equal(result.isError, False)
    return result.structuredContent or {}


async def launched(session: ClientSession) -> str:
    LAUNCHED.append(structured(await session.call_tool("launchPythonEnvironment", {}))["environmentId"])
    return LAUNCHED[-1]


async def python(session: ClientSession, environment: str, code: str) -> CallToolResult:
    return await session.call_tool(PYTHON, {"environmentId": environment, "pythonCode": code})


async def check_the_handshake_begins_a_session() -> None:
    """`initialize` tells who serves, and the client gets an MCP session of its own, which it ends."""
    async with (
        streamablehttp_client(URL, headers={"x-ms-apikey": KEY}) as (read, write, session_id),
        ClientSession(read, write) as session,
    ):
        hello = await session.initialize()
        equal(hello.protocolVersion, "2025-11-25")
        contains(hello.instructions or "", "launchShell")
        equal(bool(session_id()), True)
        await session.send_ping()


async def check_tools_are_listed_with_schemas() -> None:
    """Azure's names are there, and every tool says what it takes and gives."""
    async with connected() as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    for name in ("launchShell", "launchPythonEnvironment", PYTHON):
        contains(list(tools), name)
    for tool in tools.values():
        equal((tool.inputSchema["type"], (tool.outputSchema or {})["type"]), ("object", "object"))
        equal(len(tool.description or "") > 20, True)


async def check_state_lasts_between_calls() -> None:
    """Variables of one call are there in the next; the client checks each result against the tool's output schema."""
    async with connected() as session:
        environment = await launched(session)
        await python(session, environment, "x = 41")
        result = structured(await python(session, environment, "print('so far')\nx + 1"))
    equal((result["stdout"], result["executionResult"], result["environmentId"]), ("so far\n", 42, environment))


async def check_an_environment_outlives_a_connection() -> None:
    """The environment belongs to its id, not to the MCP session."""
    async with connected(ends=False) as session:
        environment = await launched(session)
        await python(session, environment, "kept = 'yes'")
    async with connected() as session:
        equal(structured(await python(session, environment, "kept"))["executionResult"], "yes")


async def check_an_image_is_an_image() -> None:
    """A picture comes back as MCP image content."""
    async with connected() as session:
        code = f"import base64\nfrom IPython.display import Image\nImage(base64.b64decode('{PIXEL}'))"
        result = await python(session, await launched(session), code)
    images = [each for each in result.content if each.type == "image"]
    equal([each.mimeType for each in images], ["image/png"])
    equal(base64.b64decode(images[0].data)[:8], PNG_SIGNATURE)


async def check_a_chart_is_an_image_and_data() -> None:
    """A figure is shown once, also where it is the value; a table comes as data."""
    async with connected() as session:
        environment = await launched(session)
        code = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 4], label='growth')\nplt.title('Chart')\nplt.show()"
        charted = await python(session, environment, code)
        figure = await python(session, environment, "fig, ax = plt.subplots()\nax.plot([3, 1])\nfig")
        table = await python(session, environment, "import pandas\npandas.DataFrame({'a': [1, 2]})")
    equal([len([each for each in ran.content if each.type == "image"]) for ran in (charted, figure, table)], [1, 1, 0])
    chart = structured(charted)["outputs"][0]["application/vnd.carrel.chart+json"]
    equal((chart["type"], chart["title"]), ("line", "Chart"))
    contains(list(structured(table)["outputs"][-1]), "application/vnd.dataresource+json")


async def check_a_shell_command_is_run() -> None:
    """Its exit code is told; files are shared with code."""
    async with connected() as session:
        environment = await launched(session)
        arguments = {"environmentId": environment, "shellCommand": "echo 6 > six; exit 7"}
        ran = structured(await session.call_tool("runShellCommandInRemoteEnvironment", arguments))
        equal((ran["exitCode"], ran["status"]), (7, "Failed"))
        equal(structured(await python(session, environment, "open('six').read()"))["executionResult"], "6\n")


async def check_failing_code_is_a_result_to_read() -> None:
    """The traceback reaches the model; nothing raises."""
    async with connected() as session:
        result = structured(await python(session, await launched(session), "1 / 0"))
    equal((result["status"], result["outcome"]), ("Failed", "error"))
    contains(result["stderr"], "ZeroDivisionError")


async def check_an_error_of_ours_can_be_acted_on() -> None:
    async with connected() as session:
        result = await session.call_tool(PYTHON, {"environmentId": "1", "pythonCode": "1"})
    equal(result.isError, True)
    contains(result.content[0].text, "4 to 128 characters")


async def check_files_go_in_and_out() -> None:
    """Text as text, anything else as an embedded resource; a stopped environment has none of it any more."""
    async with connected() as session:
        environment = {"environmentId": await launched(session)}
        content = base64.b64encode(b"\x00\x01binary").decode()
        await session.call_tool("uploadFile", {**environment, "path": "in/a.bin", "contentBase64": content})
        await session.call_tool("uploadFile", {**environment, "path": "b.txt", "content": "Grüße\n"})
        listing = structured(await session.call_tool("listFiles", {**environment, "recursive": True}))
        equal(sorted(each["path"] for each in listing["files"]), ["b.txt", "in", "in/a.bin"])
        text = await session.call_tool("downloadFile", {**environment, "path": "b.txt"})
        equal(text.content[0].text, "Grüße\n")
        blob = await session.call_tool("downloadFile", {**environment, "path": "in/a.bin"})
        resource = next(each.resource for each in blob.content if each.type == "resource")
        equal(base64.b64decode(resource.blob), b"\x00\x01binary")
        structured(await session.call_tool("stopEnvironment", environment))
        equal(structured(await session.call_tool("listFiles", environment))["files"], [])


async def check_progress_is_told_while_code_runs() -> None:
    """Each notification is further than the one before."""
    told: list[float] = []
    words: list[str | None] = []

    async def note(progress: float, _total: float | None, message: str | None) -> None:
        told.append(progress)
        words.append(message)

    async with connected() as session:
        arguments = {
            "environmentId": await launched(session),
            "pythonCode": "import time; print('at work'); time.sleep(2.5)",
        }
        await session.call_tool(PYTHON, arguments, progress_callback=note)
    equal(len(told) >= 2 and told == sorted(told), True)
    equal(words[-1], "at work")


async def check_stdio_is_the_same() -> None:
    """The client starts `carrel mcp` and speaks to it over pipes."""
    async with stdio_client(STDIO) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        environment = await launched(session)
        equal(structured(await python(session, environment, "6 * 7"))["executionResult"], 42)
        await session.call_tool("stopEnvironment", {"environmentId": LAUNCHED.pop()})


async def check_a_bearer_token_will_do() -> None:
    async with connected({"Authorization": f"Bearer {TOKEN}"}) as session:
        equal(structured(await python(session, await launched(session), "6 * 7"))["executionResult"], 42)


async def check_a_wrong_key_is_refused() -> None:
    async with httpx.AsyncClient(headers={"x-ms-apikey": "wrong"}) as http:
        reply = await http.post(URL, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    equal(reply.status_code, 401)
    with raises(BaseException):
        async with connected({"x-ms-apikey": "wrong"}):
            pass


if __name__ == "__main__":
    run(globals())
