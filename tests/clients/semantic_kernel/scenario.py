"""Semantic Kernel's SessionsPythonTool, as its documentation uses it, against a running Carrel.

Https only (the package refuses http), with the server's own CA by SSL_CERT_FILE; each call must be answered within the package's own
5 seconds.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
from checks import HTTPS_ENDPOINT, TOKEN, contains, equal, lacks, new_identifier, raises, run
from semantic_kernel import Kernel
from semantic_kernel.core_plugins import SessionsPythonTool
from semantic_kernel.core_plugins.sessions_python_tool import SessionsPythonSettings
from semantic_kernel.exceptions.function_exceptions import FunctionExecutionException

UPLOADS = tempfile.TemporaryDirectory()
SESSION = new_identifier("semantic-kernel")
KERNEL = Kernel()


def new_tool(**options: Any) -> SessionsPythonTool:
    options.setdefault("settings", SessionsPythonSettings(session_id=SESSION))
    options.setdefault("pool_management_endpoint", HTTPS_ENDPOINT)
    return SessionsPythonTool(enable_dangerous_file_uploads=True, allowed_upload_directories=[UPLOADS.name], **options)


async def auth_callback() -> str:
    return TOKEN


TOOL = new_tool(auth_callback=auth_callback)
PLUGIN = KERNEL.add_plugin(TOOL, "PythonCodeInterpreter")


def reply(status: str, result: object, stdout: str = "", stderr: str = "") -> str:
    """The text the package makes of a reply, which is what the model reads."""
    return f"Status:\n{status}\nResult:\n{result}\nStdout:\n{stdout}\nStderr:\n{stderr}"


def local_file(name: str, content: bytes) -> str:
    path = Path(UPLOADS.name) / name
    path.write_bytes(content)
    return str(path)


async def check_upload_before_any_code() -> None:
    """The first call of a session may be an upload: it allocates one, and the file is there for the code."""
    file = await TOOL.upload_file(local_file_path=local_file("first.txt", b"first"))
    equal((file.filename, file.size_in_bytes, file.full_path), ("first.txt", 5, "/mnt/data/first.txt"))
    equal(await TOOL.execute_code("open('first.txt').read()"), reply("Success", "first"))


async def check_kernel_invokes_the_plugin() -> None:
    """The documented way: the kernel invokes the plugin's function."""
    code = "def add_numbers(a, b):\n    return a + b\n\nprint(add_numbers(1, 1))\n6 * 7"
    result = await KERNEL.invoke(PLUGIN["execute_code"], code=code)
    equal(str(result), reply("Success", 42, "2\n"))


async def check_statement_has_no_value() -> None:
    equal(await TOOL.execute_code("quiet = 1"), reply("Success", ""))


async def check_state_lives_across_calls() -> None:
    await TOOL.execute_code("import numpy as np\nmatrix = np.eye(3)")
    equal(await TOOL.execute_code("float(matrix.sum())"), reply("Success", 3.0))


async def check_error_is_a_result() -> None:
    text = await TOOL.execute_code("print('before')\nint('x')")
    contains(text, "Status:\nFailure\n", "Stdout:\nbefore\n", "Traceback", "ValueError: invalid literal for int()")
    lacks(text, "\x1b")


async def check_chart_is_an_image() -> None:
    """The package shows the result as it is: an image with its base64."""
    text = await TOOL.execute_code("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    contains(text, "Status:\nSuccess\n", "'type': 'image'", "'format': 'png'", "'base64_data': 'iVBORw0KGgo")


async def check_upload_after_code() -> None:
    """execute_code leaves `Content-Type: application/json` on the package's client: each later upload is multipart under that type."""
    await TOOL.execute_code("1")
    equal(TOOL.http_client.headers["Content-Type"], "application/json")
    for name in ["table.csv", "my data.csv", "résumé 数据.txt", "a=b, (c) & @d.txt"]:
        content = f"content of {name}".encode()
        file = await TOOL.upload_file(local_file_path=local_file(name, content))
        equal((file.filename, file.size_in_bytes), (name, len(content)))
        equal(await TOOL.execute_code(f"open('/mnt/data/{name}', 'rb').read() == {content!r}"), reply("Success", True))


async def check_upload_of_binary_and_empty_files_after_code() -> None:
    """A body whose boundary has to be found in its first line keeps every byte, also line ends and what looks like a boundary."""
    contents = {
        "empty.bin": b"",
        "lines.bin": b"\r\n--\r\n\r\n--boundary--\r\n\r\n",
        "all.bin": bytes(range(256)) * 4096,
    }
    await TOOL.execute_code("1")
    for name, content in contents.items():
        file = await TOOL.upload_file(local_file_path=local_file(name, content))
        equal(file.size_in_bytes, len(content))
        data = await TOOL.download_file(remote_file_name=name)
        equal(data.read() == content, True)


async def check_upload_under_another_name() -> None:
    file = await TOOL.upload_file(
        local_file_path=local_file("local.txt", b"renamed"), remote_file_path="remote name.txt"
    )
    equal(file.full_path, "/mnt/data/remote name.txt")


async def check_kernel_uploads_and_lists() -> None:
    """A model can call both by the kernel."""
    result = await KERNEL.invoke(PLUGIN["upload_file"], local_file_path=local_file("by kernel.txt", b"kernel"))
    equal(result.value.filename, "by kernel.txt")
    files = (await KERNEL.invoke(PLUGIN["list_files"])).value
    equal({file.filename: file.size_in_bytes for file in files}["by kernel.txt"], 6)


async def check_download() -> None:
    """By name as bytes, with spaces and Unicode, from a folder, and to a file."""
    await TOOL.execute_code("import os\nos.makedirs('out put')\nopen('out put/é 1.txt', 'w').write('inner')")
    equal((await TOOL.download_file(remote_file_name="out put/é 1.txt")).read(), b"inner")
    equal((await TOOL.download_file(remote_file_name="résumé 数据.txt")).read(), "content of résumé 数据.txt".encode())
    target = Path(UPLOADS.name) / "downloaded.csv"
    equal(await TOOL.download_file(remote_file_name="table.csv", local_file_path=str(target)), None)
    equal(target.read_bytes(), b"content of table.csv")


async def check_list_with_a_folder() -> None:
    """The package reads filename and size of every entry, so a folder among them must not break the list."""
    await TOOL.execute_code("import os\nos.makedirs('a folder', exist_ok=True)")
    contains(str([file.filename for file in await TOOL.list_files()]), "first.txt")


async def check_missing_file_is_an_error() -> None:
    with raises(FunctionExecutionException) as caught:
        await TOOL.download_file(remote_file_name="never there.txt")
    contains(str(caught.error), "status code 404", "FileNotFound")


async def check_error_body_reaches_the_model() -> None:
    """The package shows an error's body, so it must say what is wrong: here, an identifier that is too short."""
    tool = new_tool(auth_callback=auth_callback, settings=SessionsPythonSettings(session_id="abc"))
    with raises(FunctionExecutionException) as caught:
        await tool.execute_code("1")
    contains(str(caught.error), "status code 400", "InvalidLengthOfSessionIdentifier")
    lacks(str(caught.error), "Traceback")


async def check_credential_of_azure_identity() -> None:
    """`credential=` asks for https://acasessions.io/.default; both kinds get it from the managed-identity endpoint."""
    contains(os.environ["IDENTITY_ENDPOINT"], "http://")
    for credential in (ManagedIdentityCredential(), DefaultAzureCredential()):
        tool = new_tool(credential=credential)
        equal(await tool.execute_code("1 + 1"), reply("Success", 2))


async def check_plain_auth_callback() -> None:
    """The callback may be an ordinary function too; a token that is not ours is refused with 401."""
    equal(await new_tool(auth_callback=lambda: TOKEN).execute_code("1 + 2"), reply("Success", 3))
    with raises(FunctionExecutionException) as caught:
        await new_tool(auth_callback=lambda: "no-token-of-ours").execute_code("1")
    contains(str(caught.error), "status code 401")


async def check_endpoint_with_python_execute() -> None:
    """The README's endpoint ends in /python/execute; the package cuts that off."""
    tool = new_tool(auth_callback=auth_callback, pool_management_endpoint=f"{HTTPS_ENDPOINT}/python/execute")
    equal(await tool.execute_code("1 + 3"), reply("Success", 4))


async def check_new_session_within_the_clients_timeout() -> None:
    """The default settings name a new session by UUID; its first call is answered within 5 seconds (or the package raises)."""
    text = await new_tool(auth_callback=auth_callback, settings=SessionsPythonSettings()).execute_code("matrix")
    contains(text, "Status:\nFailure\n", "NameError")


if __name__ == "__main__":
    run(globals())
