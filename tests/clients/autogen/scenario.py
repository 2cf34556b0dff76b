"""AutoGen's ACADynamicSessionsCodeExecutor, as its documentation uses it, against a running Carrel.

Each executor sends two hidden runs before the first block: one lists the installed packages by pkg_resources, one changes into /mnt/data.
"""

import asyncio
import re
import tempfile
from pathlib import Path
from typing import Any

from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock, CodeResult, with_requirements
from autogen_ext.code_executors.azure import ACADynamicSessionsCodeExecutor
from azure.core.credentials import AccessToken
from azure.identity import DefaultAzureCredential
from checks import ENDPOINT, TOKEN, contains, equal, lacks, new_identifier, raises, run

WORK = tempfile.TemporaryDirectory()


class KnownToken:
    """A TokenProvider, as the package's protocol describes it, for a token one already has."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        equal(scopes, ("https://dynamicsessions.io/.default",))
        return AccessToken(self.token, 2**40)


def new_executor(**options: Any) -> ACADynamicSessionsCodeExecutor:
    options.setdefault("credential", KnownToken())
    options.setdefault("session_id", new_identifier("autogen"))
    return ACADynamicSessionsCodeExecutor(pool_management_endpoint=ENDPOINT, work_dir=WORK.name, **options)


SESSION = new_identifier("autogen")
EXECUTOR = new_executor(session_id=SESSION)


@with_requirements(python_packages=["pandas"], global_imports=["pandas"])
def total(numbers: list[int]) -> int:
    """Runs in the session only, where the package imports pandas first."""
    return int(pandas.Series(numbers).sum())  # noqa: F821


async def execute(*blocks: str, on: ACADynamicSessionsCodeExecutor = EXECUTOR) -> CodeResult:
    return await on.execute_code_blocks(
        [CodeBlock(code=code, language="python") for code in blocks], CancellationToken()
    )


def write(name: str, content: bytes) -> Path:
    path = Path(WORK.name) / name
    path.write_bytes(content)
    return path


async def check_first_block_of_a_new_session() -> None:
    """The hidden runs succeed on a new session, then the block's output arrives: nothing but what it printed."""
    result = await execute("import sys; print('hello world!')")
    equal((result.exit_code, result.output), (0, "hello world!\n"))


async def check_output_is_streams_and_value() -> None:
    """The package joins stderr, stdout and str(result)."""
    result = await execute("import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7")
    equal((result.exit_code, result.output), (0, "err\nout\n42"))


async def check_packages_are_parsed_one_by_one() -> None:
    """The package cuts the list's text into names at line ends: every name is clean, the first and the last too."""
    packages = await EXECUTOR.get_available_packages(CancellationToken())
    equal([name for name in packages if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name)], [])
    equal({"numpy", "pandas", "scikit-learn", "matplotlib", "setuptools"} - packages, set())


async def check_list_is_one_element_per_line() -> None:
    """Long lists come as IPython prints them."""
    result = await execute("[f'element {i:02}' for i in range(30)]")
    equal(result.output, "[" + ",\n ".join(f"'element {i:02}'" for i in range(30)) + "]")


async def check_pip_install_of_an_available_package() -> None:
    """A block that installs what is there already is accepted and runs."""
    result = await execute("! pip install numpy\nimport numpy\nprint(numpy.arange(3).sum())")
    equal(result.exit_code, 0)
    contains(result.output, "Requirement already satisfied: numpy", "3\n")
    lacks(result.output, "unavailable in environment", "not found")


async def check_pip_install_of_another_package() -> None:
    """The package refuses what is not in the list, without asking the server."""
    result = await execute("! pip install no-such-package-anywhere")
    equal(result.exit_code, 1)
    contains(result.output, "Python packages unavailable in environment: {'no-such-package-anywhere'}")


async def check_working_directory_is_the_data_folder() -> None:
    equal((await execute("import os\nos.getcwd()")).output, "/mnt/data")


async def check_state_lives_across_blocks_and_calls() -> None:
    equal((await execute("count = 1", "count += 1")).output, "")
    equal((await execute("print(count)")).output, "2\n")


async def check_failing_block() -> None:
    """exit_code is 1 and the output is the traceback; a later call finds the session as it was."""
    result = await execute("print('before')\nraise RuntimeError('broken é')")
    equal(result.exit_code, 1)
    contains(result.output, "Traceback", "RuntimeError: broken é", "before\n")
    lacks(result.output, "\x1b")
    equal((await execute("print(count)")).output, "2\n")


async def check_other_language_is_refused() -> None:
    block = CodeBlock(code="echo hello", language="sh")
    result = await EXECUTOR.execute_code_blocks([block], CancellationToken())
    equal(result.exit_code, 1)
    contains(result.output, "unknown language sh")


async def check_chart_is_an_image() -> None:
    result = await execute("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    equal(result.exit_code, 0)
    contains(result.output, "'type': 'image'", "'base64_data': 'iVBORw0KGgo")


async def check_upload_with_awkward_names() -> None:
    """The package sends chunked bodies and percent-encodes names; code finds the files under the names they have."""
    names = ["plain.csv", "with space.csv", "résumé.txt", "数据 2.json", "a=b, (c) & @d.txt"]
    for name in names:
        write(name, f"content of {name}".encode())
    await EXECUTOR.upload_files(names, CancellationToken())
    equal(set(names) - set(await EXECUTOR.get_file_list(CancellationToken())), set())
    code = f"[open(name).read() == f'content of {{name}}' for name in {names!r}]"
    equal((await execute(code)).output, "[True, True, True, True, True]")


async def check_upload_and_download_of_binary_files() -> None:
    """Nothing and four megabytes of every byte value come back as they went."""
    for name, content in [("empty.bin", b""), ("large.bin", bytes(range(256)) * 16384)]:
        path = write(name, content)
        await EXECUTOR.upload_files([name], CancellationToken())
        path.unlink()
        equal(await EXECUTOR.download_files([name], CancellationToken()), [str(path)])
        equal(path.read_bytes() == content, True)


async def check_download_of_what_code_wrote() -> None:
    names = ["made here.txt", "gemacht für dich.txt"]
    await execute(f"for name in {names!r}:\n    open(name, 'w').write('made: ' + name)")
    await EXECUTOR.download_files(names, CancellationToken())
    equal([(Path(WORK.name) / name).read_text() for name in names], [f"made: {name}" for name in names])


async def check_missing_file() -> None:
    """The package lists before it downloads and finds the name missing there."""
    with raises(FileNotFoundError):
        await EXECUTOR.download_files(["never there.txt"], CancellationToken())


async def check_list_with_a_folder() -> None:
    await execute("import os\nos.makedirs('a folder', exist_ok=True)")
    contains(str(await EXECUTOR.get_file_list(CancellationToken())), "plain.csv")


async def check_cancelled_block_runs_on() -> None:
    """Cancelling drops the connection; the program runs to its end all the same, and the next block waits for it."""
    token = CancellationToken()
    asyncio.get_running_loop().call_later(0.5, token.cancel)
    with raises(asyncio.CancelledError):
        block = CodeBlock(code="import time\ntime.sleep(1.5)\nfinished = True", language="python")
        await EXECUTOR.execute_code_blocks([block], token)
    equal((await execute("print(finished)")).output, "True\n")


async def check_restart_gives_a_new_session() -> None:
    """restart() takes a new identifier: variables and files are gone and the hidden runs succeed again."""
    executor = new_executor()
    await execute("mine = 1\nopen('mine.txt', 'w').close()", on=executor)
    await executor.restart()
    result = await execute("print('mine' in globals())", on=executor)
    equal((result.exit_code, result.output), (0, "False\n"))
    equal(await executor.get_file_list(CancellationToken()), [])


async def check_functions_are_loaded() -> None:
    """Functions given to the executor are sent to the session first, with what they import, and can be called there."""
    executor = new_executor(functions=[total], session_id=SESSION)
    equal((await execute("print(total([1, 2, 3]))", on=executor)).output, "6\n")


async def check_default_credential() -> None:
    """The documented credential, azure-identity's DefaultAzureCredential, gets its token from the managed-identity endpoint."""
    executor = new_executor(credential=DefaultAzureCredential())
    equal((await execute("print(1 + 1)", on=executor)).output, "2\n")


async def check_foreign_token_is_refused() -> None:
    with raises(ConnectionError) as caught:
        await execute("1", on=new_executor(credential=KnownToken("no-token-of-ours")))
    equal(caught.error.__cause__.status, 401)


if __name__ == "__main__":
    run(globals())
