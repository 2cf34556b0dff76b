"""LangChain's SessionsPythonREPLTool, as its documentation uses it, against a running Carrel."""

import base64
import json
import os
import tempfile
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from checks import ENDPOINT, PNG_SIGNATURE, TOKEN, contains, equal, lacks, new_identifier, raises, run
from langchain_azure_dynamic_sessions import SessionsPythonREPLTool
from langchain_core.messages import ToolMessage

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()"


def new_tool(**options: Any) -> SessionsPythonREPLTool:
    options.setdefault("session_id", new_identifier("langchain"))
    return SessionsPythonREPLTool(pool_management_endpoint=ENDPOINT, access_token_provider=lambda: TOKEN, **options)


def invoke(code: str, on: SessionsPythonREPLTool | None = None) -> dict[str, Any]:
    """What a model would read: the JSON text that the tool answers with."""
    return json.loads((on or TOOL).invoke(code))


def call(code: str) -> ToolMessage:
    """As an agent calls it: by a tool call, answered with a message that has an artifact."""
    return TOOL.invoke({"args": {"python_code": code}, "id": "1", "name": TOOL.name, "type": "tool_call"})


def sizes(tool: SessionsPythonREPLTool) -> dict[str, int]:
    return {file.filename: file.size_in_bytes for file in tool.list_files()}


TOOL = new_tool()


def check_value_is_a_json_number() -> None:
    """The documented example, letter for letter."""
    equal(TOOL.invoke("6 * 7"), '{\n  "result": 42,\n  "stdout": "",\n  "stderr": ""\n}')


def check_scalars_keep_their_types() -> None:
    """Floats, booleans, strings and None arrive as what they are; not-a-number as a string, which JSON can carry."""
    for code, value in [("1 / 4", 0.25), ("1 == 1", True), ("'a' * 3", "aaa"), ("None", None)]:
        equal(invoke(code)["result"], value)
    equal(type(invoke("float('nan')")["result"]), str)


def check_statement_has_no_value() -> None:
    equal(invoke("quiet = 1"), {"result": "", "stdout": "", "stderr": ""})


def check_prints_and_warnings_go_to_their_streams() -> None:
    reply = invoke("import sys\nprint('to stdout é☕')\nprint('to stderr', file=sys.stderr)\n'value'")
    equal(reply, {"result": "value", "stdout": "to stdout é☕\n", "stderr": "to stderr\n"})


def check_list_is_ipython_text() -> None:
    """Anything but a scalar is shown as IPython shows it."""
    equal(invoke("[1, 'two', None]")["result"], "[1, 'two', None]")


def check_error_is_a_result() -> None:
    """A failing program answers with its traceback, without terminal colours, and what it printed before."""
    message = call("print('before')\n1 / 0")
    reply = json.loads(message.content)
    equal(reply["stdout"], "before\n")
    contains(reply["stderr"], "Traceback", "ZeroDivisionError: division by zero")
    lacks(reply["stderr"], "\x1b")
    equal(message.artifact["status"], "Failure")


def check_syntax_error_is_a_result() -> None:
    contains(invoke("def broken(:\n    pass")["stderr"], "SyntaxError")


def check_state_lives_across_calls() -> None:
    invoke("import math\ndef area(r):\n    return math.pi * r ** 2\nradius = 2")
    equal(invoke("round(area(radius), 3)")["result"], 12.566)


def check_fenced_code_runs() -> None:
    """A model's Markdown fence is stripped by the client; what is left must run."""
    equal(invoke("```python\nprint('fenced')\n```")["stdout"], "fenced\n")


def check_top_level_await() -> None:
    equal(invoke("import asyncio\nawait asyncio.sleep(0.01, 'awaited')")["result"], "awaited")


def check_execute_returns_all_properties() -> None:
    properties = TOOL.execute("print('x'); 7")
    for name, value in [("status", "Success"), ("result", 7), ("stdout", "x\n"), ("stderr", "")]:
        equal(properties[name], value)
    equal(type(properties["executionTimeInMilliseconds"]), int)


def check_chart_is_in_the_artifact_only() -> None:
    """A figure arrives as a PNG in the artifact; the text for the model says it is an image and holds no base64."""
    message = call(PLOT)
    equal(json.loads(message.content)["result"], {"type": "image", "format": "png"})
    picture = base64.b64decode(message.artifact["result"]["base64_data"], validate=True)
    equal(picture[:8], PNG_SIGNATURE)


def check_preinstalled_packages() -> None:
    code = "import numpy, pandas, sklearn\nint(pandas.DataFrame({'a': numpy.arange(4)})['a'].sum())"
    equal(invoke(code), {"result": 6, "stdout": "", "stderr": ""})


def check_upload_from_path() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text("a,b\n1,2\n")
        file = TOOL.upload_file(local_file_path=str(path))
    equal((file.filename, file.size_in_bytes, file.full_path), ("table.csv", 8, "/mnt/data/table.csv"))
    equal(invoke("open('/mnt/data/table.csv').read()")["result"], "a,b\n1,2\n")


def check_upload_from_data_with_awkward_names() -> None:
    """Spaces, Unicode and signs in names survive upload, list, code and download."""
    for name in ["my data.csv", "résumé.txt", "数据 2.json", "a=b & c, (d)#1 @$^;.txt", "100%.txt", 'say "hi" now.txt']:
        content = f"content of {name}".encode()
        file = TOOL.upload_file(data=BytesIO(content), remote_file_path=name)
        equal((file.filename, file.size_in_bytes), (name, len(content)))
        equal(sizes(TOOL).get(name), len(content))
        equal(invoke(f"open('/mnt/data/{name}', 'rb').read() == {content!r}")["result"], True)
        equal(TOOL.download_file(remote_file_path=name).read(), content)


def check_upload_replaces() -> None:
    for content in [b"a longer first version", b"second"]:
        TOOL.upload_file(data=BytesIO(content), remote_file_path="same.txt")
    equal(sizes(TOOL)["same.txt"], 6)
    equal(TOOL.download_file(remote_file_path="same.txt").read(), b"second")


def check_empty_and_large_binary_files() -> None:
    """Nothing and eight megabytes of every byte value come back as they went."""
    for name, content in [("empty.bin", b""), ("large.bin", bytes(range(256)) * 32768)]:
        file = TOOL.upload_file(data=BytesIO(content), remote_file_path=name)
        equal(file.size_in_bytes, len(content))
        equal(TOOL.download_file(remote_file_path=name).read() == content, True)


def check_files_in_folders() -> None:
    """A name with a slash is a file in a folder, for upload, code and download."""
    TOOL.upload_file(data=BytesIO(b"deep"), remote_file_path="folder one/inner file.txt")
    equal(invoke("open('/mnt/data/folder one/inner file.txt').read()")["result"], "deep")
    equal(TOOL.download_file(remote_file_path="folder one/inner file.txt").read(), b"deep")


def check_download_of_what_code_wrote() -> None:
    """Code writes into its working directory; the file is listed, downloaded and saved."""
    invoke("with open('made here.bin', 'wb') as f:\n    f.write(bytes(range(256)))")
    equal(sizes(TOOL).get("made here.bin"), 256)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "saved.bin"
        TOOL.download_file(remote_file_path="made here.bin", local_file_path=str(target))
        equal(target.read_bytes(), bytes(range(256)))


def check_missing_file_is_404() -> None:
    with raises(requests.HTTPError) as caught:
        TOOL.download_file(remote_file_path="never-there.txt")
    equal(caught.error.response.status_code, 404)


async def check_async_invocation() -> None:
    equal(json.loads(await TOOL.ainvoke("20 + 22"))["result"], 42)


def check_sessions_are_apart() -> None:
    """Another identifier sees neither the variables nor the files; this one has characters that must be quoted."""
    with new_tool(session_id=new_identifier("user@example.com/chat 1 + 2 & 3")) as other:
        contains(invoke("radius", on=other)["stderr"], "NameError")
        equal(other.list_files(), [])


def check_token_provider_is_asked() -> None:
    """Each call asks the provider anew; a token that is not ours is refused with 401."""
    asked = []

    def provider() -> str:
        asked.append(True)
        return TOKEN

    tool = SessionsPythonREPLTool(
        pool_management_endpoint=ENDPOINT, access_token_provider=provider, session_id=TOOL.session_id
    )
    equal(invoke("1 + 1", on=tool)["result"], 2)
    tool.list_files()
    equal(len(asked), 2)
    tool.access_token_provider = lambda: "no-token-of-ours"
    with raises(requests.HTTPError) as caught:
        tool.execute("1 + 1")
    equal(caught.error.response.status_code, 401)


def check_default_credential() -> None:
    """Without a token provider the tool's own DefaultAzureCredential gets its token from the managed-identity endpoint."""
    contains(os.environ["IDENTITY_ENDPOINT"], "http://")
    tool = SessionsPythonREPLTool(pool_management_endpoint=ENDPOINT, session_id=TOOL.session_id)
    equal(invoke("1 + 2", on=tool)["result"], 3)


def check_close_deletes_the_session() -> None:
    """Leaving the `with` block deletes the session: its variables and files are gone for whoever names it next."""
    identifier = new_identifier("langchain-closed")
    others = set(threading.enumerate())
    with new_tool(session_id=identifier) as tool:
        invoke("kept = 1\nopen('kept.txt', 'w').close()", on=tool)
    for deleting in set(threading.enumerate()) - others:  # the package deletes in a thread of its own
        deleting.join(timeout=10)
    equal(tool.session_id == identifier, False)
    again = new_tool(session_id=identifier)
    contains(invoke("kept", on=again)["stderr"], "NameError")
    equal(again.list_files(), [])
    again.close()


def check_delete_after_each_invocation() -> None:
    """With delete_session_after_invocation no call sees what an earlier one left."""
    tool = new_tool(delete_session_after_invocation=True)
    first = tool.session_id
    equal(invoke("left = 1\nleft", on=tool)["result"], 1)
    equal(tool.session_id == first, False)
    contains(invoke("left", on=tool)["stderr"], "NameError")


if __name__ == "__main__":
    run(globals())
