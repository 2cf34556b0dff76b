"""MCP on the wire: what is tolerated of callers, what sessions of MCP are for, and how everything that is wrong is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from carrel.storage import SESSION_EXECUTOR, State
from conftest import Server, fresh_identifier

pytestmark = [pytest.mark.anyio, pytest.mark.one_level]

BOTH = "application/json, text/event-stream"
PYTHON = "runPythonCodeInRemoteEnvironment"
SHELL = "runShellCommandInRemoteEnvironment"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


@pytest.fixture
async def mcp(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """With the pool's key, as curl would call it."""
    pool = server.connection["pools"]["python"]
    headers = {"x-ms-apikey": pool["mcp_key"], "accept": "*/*"}
    async with httpx.AsyncClient(base_url=pool["mcp"], headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def environment(server: Server) -> Iterator[str]:
    identifier = fresh_identifier()
    yield identifier
    with server.client(identifier) as client:
        for session in client.sessions():
            if session.identifier == identifier:
                client.end()


def message(method: str, params: Any = None, id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method} | ({} if params is None else {"params": params})


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return message("tools/call", {"name": name, "arguments": arguments})


async def result(mcp: httpx.AsyncClient, request: dict[str, Any], **headers: str) -> Any:
    reply = await mcp.post("", json=request, headers=headers)
    assert reply.status_code == 200, reply.text
    return decoded(reply)["result"]


def decoded(reply: httpx.Response) -> Any:
    """The answer, which the last event holds where it came as a stream."""
    if reply.headers["content-type"].startswith("text/event-stream"):
        return json.loads([line for line in reply.text.splitlines() if line.startswith("data: {")][-1][6:])
    return reply.json()


async def begun(mcp: httpx.AsyncClient) -> dict[str, str]:
    """The headers of a new MCP session."""
    reply = await mcp.post("", json=message("initialize", HELLO), headers={"accept": BOTH})
    assert reply.status_code == 200
    return {"mcp-session-id": reply.headers["mcp-session-id"], "accept": BOTH, "mcp-protocol-version": "2025-06-18"}


# ---- plain calls -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [None, {}, {"protocolVersion": "2024-11-05"}, {"clientInfo": None}])
async def test_initialize_needs_no_params_and_gives_no_session(mcp: httpx.AsyncClient, params: Any) -> None:
    """Public tutorials leave them out."""
    reply = await mcp.post("", json=message("initialize", params, id="1"))

    assert reply.headers["content-type"] == "application/json"
    assert "mcp-session-id" not in reply.headers
    assert reply.json()["id"] == "1"
    assert reply.json()["result"]["protocolVersion"] == (params or {}).get("protocolVersion", "2025-03-26")
    assert "tools" in reply.json()["result"]["capabilities"]


async def test_a_notification_is_accepted(mcp: httpx.AsyncClient) -> None:
    reply = await mcp.post("", json={"jsonrpc": "2.0", "method": "notifications/initialized"})

    assert (reply.status_code, reply.content) == (202, b"")


@pytest.mark.parametrize("accept", ["*/*", "application/json", BOTH, None])
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", None])
async def test_any_accept_and_content_type_will_do(
    mcp: httpx.AsyncClient, accept: str | None, kind: str | None
) -> None:
    """curl sends what it likes; JSON is answered unless event streams are asked for by name."""
    request = mcp.build_request("POST", "", content=json.dumps(message("tools/list")))
    for name, value in (("accept", accept), ("content-type", kind)):
        request.headers.pop(name, None)
        if value is not None:
            request.headers[name] = value
    reply = await mcp.send(request)

    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream" if accept == BOTH else "application/json")
    assert PYTHON in [tool["name"] for tool in decoded(reply)["result"]["tools"]]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, -32700),
        (b"", 400, -32700),
        (b"\xff", 400, -32700),
        (b"[]", 400, -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1}', 400, None),
        (b'{"id":1,"method":"ping"}', 400, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"nope"}', 200, -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"server/discover"}', 200, -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}', 200, -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"nope"}}', 200, -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":[]}', 400, None),
        (b"[" * 100_000, 400, -32600),
        (b'{"a":' * 50_000, 400, -32700),
    ],
)
async def test_nonsense_is_answered_as_json_rpc_has_it(
    mcp: httpx.AsyncClient, body: bytes, status: int, code: int | None
) -> None:
    reply = await mcp.post("", content=body)

    assert reply.status_code == status
    assert code is None or reply.json()["error"]["code"] == code
    assert "Traceback" not in reply.text


def test_a_body_has_a_limit(server: Server) -> None:
    """It is refused by its length, before any of it is read."""
    pool = server.connection["pools"]["python"]
    url = httpx.URL(pool["mcp"])
    connection = HTTPConnection(url.host, url.port or 80, timeout=10)
    connection.putrequest("POST", url.path)
    connection.putheader("Content-Length", str(16 * 1024 * 1024 + 1))
    connection.putheader("x-ms-apikey", pool["mcp_key"])
    connection.endheaders()

    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS"])
async def test_without_a_session_of_mcp_there_is_only_post(mcp: httpx.AsyncClient, method: str) -> None:
    reply = await mcp.request(method, "", headers={"accept": "text/event-stream"})

    assert (reply.status_code, "POST" in reply.headers["allow"]) == (405, True)


# ---- who may ---------------------------------------------------------------------------------------------------------------------


def test_a_key_gives_this_pools_mcp_and_nothing_else(server: Server) -> None:
    pool = server.connection["pools"]["python"]
    with httpx.Client(headers={"x-ms-apikey": pool["mcp_key"]}, params={"api-version": "2025-10-02-preview"}) as http:
        refused = [http.get(f"{pool['endpoint']}/{route}") for route in ("files", "listSessions", "metadata")]
        refused.append(http.post(pool["mcp"].replace("/python/", "/nothere/"), json=message("ping")))
        wrong = [{b"x-ms-apikey": key} for key in (b"", b"x", "é".encode())]
        refused += [http.post(pool["mcp"], json=message("ping"), headers=headers) for headers in wrong]

    assert [reply.status_code for reply in refused] == [401] * 7


def test_a_token_needs_the_role_for_the_pool(server: Server) -> None:
    """The role that stands for a key is none that a token could bring: it opens this route only."""
    state, pool = State(server.state), server.connection["pools"]["python"]
    tokens = {
        200: state.issue_token(roles=[SESSION_EXECUTOR], pools=["python"]),
        403: state.issue_token(roles=[SESSION_EXECUTOR], pools=["other"]),
        401: "nonsense",
    }
    for status, token in tokens.items():
        reply = httpx.post(pool["mcp"], json=message("ping"), headers={"authorization": f"Bearer {token}"})
        assert reply.status_code == status
    assert httpx.post(pool["mcp"], json=message("ping")).status_code == 401
    headers = {"authorization": f"Bearer {state.issue_token(roles=['carrel.mcp', 'Key'])}"}
    assert httpx.get(f"{pool['endpoint']}/metadata?api-version=2025-10-02-preview", headers=headers).status_code == 403


# ---- tools -----------------------------------------------------------------------------------------------------------------------


async def test_an_environment_is_made_when_it_is_used(server: Server, mcp: httpx.AsyncClient, environment: str) -> None:
    """Launching gives a name and takes nothing from the pool."""
    launched = (await result(mcp, call("launchShell")))["structuredContent"]["environmentId"]
    with server.client() as client:
        assert launched not in [session.identifier for session in client.sessions()]
        await result(mcp, call(PYTHON, environmentId=environment, pythonCode="1"))
        assert environment in [session.identifier for session in client.sessions()]


async def test_mcp_and_the_api_share_sessions(server: Server, mcp: httpx.AsyncClient, environment: str) -> None:
    with server.client(environment) as client:
        client.execute("shared = 'by the API'")
        ran = await result(mcp, call(PYTHON, environmentId=environment, pythonCode="shared"))

    assert ran["structuredContent"]["executionResult"] == "by the API"


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        (PYTHON, {}, "'environmentId' is required"),
        (PYTHON, {"environmentId": "abcde"}, "'pythonCode' is required"),
        (PYTHON, {"environmentId": "abcde", "pythonCode": 5}, "must be a string"),
        (PYTHON, {"environmentId": "abcde", "pythonCode": "1", "timeoutInSeconds": 0}, "timeoutInSeconds"),
        (PYTHON, {"environmentId": "abcde", "pythonCode": "1", "timeoutInSeconds": 221}, "from 1 to 220"),
        (SHELL, {"environmentId": "abcde"}, "Exactly one"),
        (SHELL, {"environmentId": "abcde", "shellCommand": "a", "execCommandAndArgs": ["a"]}, "Exactly one"),
        (SHELL, {"environmentId": "abcde", "execCommandAndArgs": "ls"}, "list of strings"),
        (SHELL, {"environmentId": "abcde", "shellCommand": "a\0b"}, "NUL"),
        (SHELL, {"environmentId": "abcde", "shellCommand": "cat", "stdin": "x" * 2_100_000}, "ContentTooLarge"),
        ("runJavaScriptCodeInRemoteEnvironment", {"environmentId": "abcde", "javaScriptCode": "1"}, f"use {PYTHON}"),
        ("uploadFile", {"environmentId": "abcde", "path": "a"}, "Exactly one"),
        ("uploadFile", {"environmentId": "abcde", "path": "../a", "content": ""}, "FilePathInvalid"),
        ("downloadFile", {"environmentId": "abcde", "path": ""}, "FilePathInvalid"),
        ("listFiles", {"environmentId": "abcde", "recursive": "yes"}, "true or false"),
    ],
)
async def test_wrong_arguments_are_told_to_the_model(
    mcp: httpx.AsyncClient, name: str, arguments: dict[str, Any], words: str
) -> None:
    """As a result that it can read and act on, and without a session being made."""
    answer = await result(mcp, call(name, **arguments))

    assert answer["isError"]
    assert words in answer["content"][0]["text"]


async def test_a_missing_file_is_told_of(mcp: httpx.AsyncClient, environment: str) -> None:
    answer = await result(mcp, call("downloadFile", environmentId=environment, path="nope.txt"))

    assert answer["isError"]
    assert "FileNotFound" in answer["content"][0]["text"]
    assert "listFiles" in answer["content"][0]["text"]


async def test_part_of_a_file_can_be_read(mcp: httpx.AsyncClient, environment: str) -> None:
    await result(mcp, call("uploadFile", environmentId=environment, path="a.txt", content="0123456789"))
    answer = await result(mcp, call("downloadFile", environmentId=environment, path="a.txt", offset=3, length=4))

    assert answer["content"][0]["text"] == "3456"
    assert (answer["structuredContent"]["sizeInBytes"], answer["structuredContent"]["length"]) == (10, 4)


async def test_a_file_too_large_to_show_is_refused(server: Server, mcp: httpx.AsyncClient, environment: str) -> None:
    with server.client(environment) as client:
        client.upload("big.bin", bytes(9 * 1024 * 1024))
    answer = await result(mcp, call("downloadFile", environmentId=environment, path="big.bin"))
    part = await result(mcp, call("downloadFile", environmentId=environment, path="big.bin", length=1024))

    assert "'offset' and 'length'" in answer["content"][0]["text"]
    assert part["structuredContent"]["length"] == 1024


async def test_stopping_can_be_repeated(mcp: httpx.AsyncClient, environment: str) -> None:
    await result(mcp, call(PYTHON, environmentId=environment, pythonCode="x = 1"))
    stops = [await result(mcp, call("stopEnvironment", environmentId=environment)) for _ in range(2)]
    after = await result(mcp, call(PYTHON, environmentId=environment, pythonCode="'x' in globals()"))

    assert [stop["isError"] for stop in stops] == [False, False]
    assert after["structuredContent"]["executionResult"] is False


@pytest.mark.parametrize(
    ("arguments", "stdout", "code"),
    [
        ({"shellCommand": "pwd; echo $0"}, "/mnt/data\nbash\n", 0),
        ({"shellCommand": "cat; exit 3", "stdin": "é"}, "é", 3),
        ({"execCommandAndArgs": ["printf", "%s|", "a b", "$HOME"]}, "a b|$HOME|", 0),
        ({"shellCommand": "kill -9 $$"}, "", 137),
    ],
)
async def test_a_command_is_run_in_any_pool(
    mcp: httpx.AsyncClient, environment: str, arguments: dict[str, Any], stdout: str, code: int
) -> None:
    ran = (await result(mcp, call(SHELL, environmentId=environment, **arguments)))["structuredContent"]

    assert (ran["stdout"], ran["exitCode"]) == (stdout, code)
    assert ran["status"] == ("Succeeded" if code == 0 else "Failed")


async def test_commands_and_code_share_files(mcp: httpx.AsyncClient, environment: str) -> None:
    await result(mcp, call(SHELL, environmentId=environment, shellCommand="echo 42 > answer"))
    ran = await result(mcp, call(PYTHON, environmentId=environment, pythonCode="int(open('answer').read())"))

    assert ran["structuredContent"]["executionResult"] == 42


async def test_a_time_limit_is_a_result(mcp: httpx.AsyncClient, environment: str) -> None:
    slow = call(PYTHON, environmentId=environment, pythonCode="while True: pass", timeoutInSeconds=1)
    ran = (await result(mcp, slow))["structuredContent"]

    assert (ran["status"], ran["outcome"]) == ("Failed", "timeout")


async def test_displays_come_as_images_and_data(mcp: httpx.AsyncClient, environment: str) -> None:
    code = f"""
import base64
from IPython.display import HTML, Image, display
display(HTML("<b>bold</b>"), Image(base64.b64decode("{PIXEL}")))
"""
    ran = await result(mcp, call(PYTHON, environmentId=environment, pythonCode=code))

    assert [each["data"] for each in ran["content"] if each["type"] == "image"] == [PIXEL]
    assert [each["text/html"] for each in ran["structuredContent"]["outputs"]] == ["<b>bold</b>"]


async def test_progress_is_told_where_it_was_asked_for(mcp: httpx.AsyncClient, environment: str) -> None:
    """Without a session as well: the answer is then an event stream. It says what the code said last."""
    code = "import time; print('first line'); print('half way'); time.sleep(2.2)"
    request = call(PYTHON, environmentId=environment, pythonCode=code)
    quiet = await mcp.post("", json=call(PYTHON, environmentId=environment, pythonCode="1"), headers={"accept": BOTH})
    request["params"]["_meta"] = {"progressToken": "p-1"}
    told = await mcp.post("", json=request, headers={"accept": BOTH})

    assert "notifications/progress" not in quiet.text
    assert told.text.count('"message":"half way"') >= 2
    assert '"progressToken":"p-1"' in told.text
    assert decoded(told)["result"]["structuredContent"]["status"] == "Succeeded"


# ---- ends -------------------------------------------------------------------------------------------------------------------------


LONG = "import time\nprint('begun', flush=True)\nopen('begun', 'w').close()\ntime.sleep(30)"


async def has_begun(mcp: httpx.AsyncClient, environment: str) -> None:
    async with asyncio.timeout(10):
        while True:
            files = (await result(mcp, call("listFiles", environmentId=environment)))["structuredContent"]["files"]
            if files:
                return
            await asyncio.sleep(0.05)


async def is_free(mcp: httpx.AsyncClient, environment: str) -> None:
    """The environment runs the next call at once."""
    async with asyncio.timeout(15):
        after = await result(mcp, call(PYTHON, environmentId=environment, pythonCode="6 * 7"))
        assert after["structuredContent"]["executionResult"] == 42


async def test_interrupting_ends_what_runs(mcp: httpx.AsyncClient, environment: str) -> None:
    running = asyncio.ensure_future(result(mcp, call(PYTHON, environmentId=environment, pythonCode=LONG)))
    await has_begun(mcp, environment)
    interrupted = await result(mcp, call("interruptEnvironment", environmentId=environment))
    again = await result(mcp, call("interruptEnvironment", environmentId=environment))

    assert (await running)["structuredContent"]["status"] == "Canceled"
    assert (interrupted["structuredContent"]["canceled"], again["structuredContent"]["canceled"]) == (1, 0)
    await is_free(mcp, environment)


async def test_interrupting_where_there_is_nothing_is_no_error(mcp: httpx.AsyncClient, environment: str) -> None:
    answer = await result(mcp, call("interruptEnvironment", environmentId=environment))

    assert (answer["isError"], answer["structuredContent"]["canceled"]) == (False, 0)


async def test_a_cancelled_request_cancels_its_execution(mcp: httpx.AsyncClient, environment: str) -> None:
    """`notifications/cancelled` in a session of MCP."""
    headers = await begun(mcp)
    request = call(PYTHON, environmentId=environment, pythonCode=LONG) | {"id": 77}
    running = asyncio.ensure_future(mcp.post("", json=request, headers=headers))
    await has_begun(mcp, environment)
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}}
    assert (await mcp.post("", json=cancelled, headers=headers)).status_code == 202
    answer = decoded(await running)
    await is_free(mcp, environment)
    await mcp.delete("", headers=headers)

    assert "error" in answer


async def test_leaving_cancels_with_the_newest_protocol(mcp: httpx.AsyncClient, environment: str) -> None:
    """2026-07-28: whoever closes the stream of a request wants it to end."""
    request = call(PYTHON, environmentId=environment, pythonCode=LONG)
    request["params"]["_meta"] = MODERN | {"progressToken": 1}
    name = request["params"]["name"]
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": name, "accept": BOTH}
    async with mcp.stream("POST", "", json=request, headers=headers) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            if "begun" in line:
                break
    await is_free(mcp, environment)


async def test_leaving_without_a_word_cancels_nothing(mcp: httpx.AsyncClient, environment: str) -> None:
    """A plain caller's connection may break: its code goes on, as with any call of the API."""
    code = "import time; open('begun', 'w').close(); time.sleep(1); open('finished', 'w').close()"
    with pytest.raises(httpx.ReadTimeout):
        await mcp.post("", json=call(PYTHON, environmentId=environment, pythonCode=code), timeout=0.5)
    ran = await result(mcp, call(SHELL, environmentId=environment, shellCommand="sleep 1; ls"))

    assert "finished" in ran["structuredContent"]["stdout"]


# ---- sessions of MCP ---------------------------------------------------------------------------------------------------------------


async def test_a_session_of_mcp_lasts_until_it_is_deleted(mcp: httpx.AsyncClient) -> None:
    headers = await begun(mcp)
    assert decoded(await mcp.post("", json=message("ping"), headers=headers))["result"] == {}
    deleted = await mcp.delete("", headers=headers)
    after = await mcp.post("", json=message("ping"), headers=headers)

    assert (deleted.status_code, after.status_code) == (200, 404)


async def test_a_session_of_mcp_has_a_stream(mcp: httpx.AsyncClient) -> None:
    """One of them; it ends with the session."""
    headers = await begun(mcp)
    async with mcp.stream("GET", "", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert (await mcp.get("", headers=headers)).status_code == 409
        await mcp.delete("", headers=headers)
        assert [line async for line in stream.aiter_lines() if line.startswith("data")] == []


@pytest.mark.parametrize("session", ["unknown", "", "x" * 5000])
async def test_an_unknown_session_of_mcp_is_404(mcp: httpx.AsyncClient, session: str) -> None:
    """Which tells clients to begin anew: so it is after a gateway was replaced."""
    reply = await mcp.post("", json=message("ping"), headers={"mcp-session-id": session, "accept": BOTH})

    assert reply.status_code == 404


async def test_a_session_of_mcp_is_for_the_caller_that_began_it(server: Server, mcp: httpx.AsyncClient) -> None:
    headers = await begun(mcp)
    token = State(server.state).issue_token(subject="somebody-else")
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {token}"}) as somebody_else:
        other = await somebody_else.post(mcp.base_url, json=message("ping"), headers=headers)
    await mcp.delete("", headers=headers)

    assert other.status_code == 404


async def test_the_newest_protocol_needs_no_session(mcp: httpx.AsyncClient) -> None:
    """2026-07-28: each request stands for itself, `server/discover` is answered."""
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "server/discover", "accept": BOTH}
    answer = await result(mcp, message("server/discover", {"_meta": MODERN}), **headers)

    assert "2026-07-28" in answer["supportedVersions"]


async def test_a_value_that_is_no_unicode_is_answered(mcp: httpx.AsyncClient, environment: str) -> None:
    """In every transport: half of a surrogate pair ended the stream without an answer."""
    request = call(PYTHON, environmentId=environment, pythonCode="'\\ud800 x'")
    for headers in ({}, {"accept": BOTH}, await begun(mcp)):
        answer = await result(mcp, request, **headers)
        assert answer["structuredContent"]["executionResult"] == "? x"
