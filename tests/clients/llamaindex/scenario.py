"""LlamaIndex's AzureCodeInterpreterToolSpec, as its documentation uses it, against a running Carrel.

The constructor takes no token: every call goes through the package's own DefaultAzureCredential, which finds the managed-identity
endpoint by IDENTITY_ENDPOINT and IDENTITY_HEADER.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import requests
from checks import ENDPOINT, PNG_SIGNATURE, contains, equal, lacks, new_identifier, raises, run
from llama_index.tools.azure_code_interpreter import AzureCodeInterpreterToolSpec

PLOT = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2])\nplt.show()"
SPEC = AzureCodeInterpreterToolSpec(pool_management_endpoint=ENDPOINT, session_id=new_identifier("llamaindex"))


def properties(code: str, spec: AzureCodeInterpreterToolSpec = SPEC) -> dict[str, Any]:
    return spec.code_interpreter(code)["properties"]


def sizes() -> dict[str, int]:
    return {file.filename: file.size_in_bytes for file in SPEC.list_files()}


def check_tool_list_runs_code() -> None:
    """The tools an agent is given run code and answer with the whole reply."""
    tools = {tool.metadata.name: tool for tool in SPEC.to_tool_list()}
    output = tools["code_interpreter"].call(python_code="print('Hello')\n6 * 7")
    reply = output.raw_output["properties"]
    equal((reply["status"], reply["result"], reply["stdout"], reply["stderr"]), ("Success", 42, "Hello\n", ""))
    equal(tools["list_files"].call().raw_output, [])


def check_reply_is_numbered() -> None:
    """The documented reply has "$id" 1 and 2."""
    reply = SPEC.code_interpreter("1")
    equal((reply["$id"], reply["properties"]["$id"]), ("1", "2"))


def check_token_came_from_the_managed_identity() -> None:
    """The credential in use is the real one, with a token that is still good for more than five minutes (the client renews before)."""
    contains(os.environ["IDENTITY_ENDPOINT"], "http://")
    token = SPEC.access_token
    equal(type(token).__name__, "AccessToken")
    SPEC.access_token_provider()
    equal(SPEC.access_token is token, True)


def check_statement_has_no_value() -> None:
    equal(properties("quiet = 1")["result"], "")


def check_state_lives_across_calls() -> None:
    properties("import pandas as pd\nframe = pd.DataFrame({'n': [1, 2, 3]})")
    equal(properties("int(frame.n.sum())")["result"], 6)


def check_error_is_a_result() -> None:
    reply = properties("print('before')\n{}['missing']")
    equal((reply["status"], reply["stdout"]), ("Failure", "before\n"))
    contains(reply["stderr"], "Traceback", "KeyError: 'missing'")
    lacks(reply["stderr"], "\x1b")


def check_chart_is_saved_to_a_file() -> None:
    """With local_save_path a figure becomes a PNG file there, and its base64 leaves the reply."""
    with tempfile.TemporaryDirectory() as folder:
        spec = AzureCodeInterpreterToolSpec(
            pool_management_endpoint=ENDPOINT, session_id=SPEC.session_id, local_save_path=folder
        )
        result = properties(PLOT, spec)["result"]
        (picture,) = Path(folder).iterdir()
        equal(picture.read_bytes()[:8], PNG_SIGNATURE)
        equal(picture.suffix, ".png")
    equal(result, {"type": "image", "format": "png", "saved_to_local_path": True})


def check_chart_without_a_folder_is_blanked() -> None:
    equal(properties(PLOT)["result"], {"type": "image", "format": "png", "base64_data": ""})


def check_upload_of_awkward_names() -> None:
    """The client sends the name as /mnt/data/<name>; it comes back as <name>, with spaces and Unicode intact."""
    for name in ["plain.csv", "my data.csv", "résumé 数据.txt", "a=b, (c) & @d.txt"]:
        content = f"content of {name}".encode()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            (file,) = SPEC.upload_file(local_file_path=str(path))
        equal((file.filename, file.size_in_bytes, file.file_full_path), (name, len(content), f"/mnt/data/{name}"))
        equal(sizes().get(name), len(content))
        equal(properties(f"open('/mnt/data/{name}', 'rb').read() == {content!r}")["result"], True)
        equal(SPEC.download_file_to_local(remote_file_path=name).read(), content)


def check_download_by_full_path_to_a_file() -> None:
    """A model names files by their full path; a file in a folder is reached by it."""
    properties("import os\nos.makedirs('out put')\nopen('out put/numbers.txt', 'w').write('1 2 3')")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "numbers.txt"
        SPEC.download_file_to_local(remote_file_path="/mnt/data/out put/numbers.txt", local_file_path=str(target))
        equal(target.read_text(), "1 2 3")


def check_list_with_a_folder() -> None:
    """The client reads filename and size of every entry, so a folder among them must not break the list."""
    properties("import os\nos.makedirs('a folder', exist_ok=True)")
    equal(sizes()["plain.csv"], len("content of plain.csv"))


def check_missing_file_is_404() -> None:
    with raises(requests.HTTPError) as caught:
        SPEC.download_file_to_local(remote_file_path="never there.txt")
    equal(caught.error.response.status_code, 404)


def check_endpoint_from_the_environment() -> None:
    """Built with no argument at all, as when the endpoint is in AZURE_POOL_MANAGEMENT_ENDPOINT, it has a session of its own."""
    os.environ["AZURE_POOL_MANAGEMENT_ENDPOINT"] = ENDPOINT
    spec = AzureCodeInterpreterToolSpec()
    reply = properties("frame", spec)
    equal(reply["status"], "Failure")
    contains(reply["stderr"], "NameError")


if __name__ == "__main__":
    run(globals())
