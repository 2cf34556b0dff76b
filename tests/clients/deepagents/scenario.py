"""LangChain's SessionsBashTool and deepagents' SessionsBashBackend, as their documentation uses them, against a running Carrel."""

import json
import os
import tempfile
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from checks import TOKEN, contains, equal, lacks, new_identifier, raises, run
from deepagents.backends.sandbox import BaseSandbox
from langchain_azure_dynamic_sessions import SessionsBashTool
from langchain_azure_dynamic_sessions.backends.sessions import SessionsBashBackend

ENDPOINT = os.environ["CARREL_SHELL_ENDPOINT"]


def new_tool(**options: Any) -> SessionsBashTool:
    options.setdefault("session_id", new_identifier("bash"))
    return SessionsBashTool(pool_management_endpoint=ENDPOINT, access_token_provider=lambda: TOKEN, **options)


def new_backend(identifier: str | None = None, **options: Any) -> SessionsBashBackend:
    session = identifier or new_identifier("deepagents")
    return SessionsBashBackend(ENDPOINT, session_id=session, access_token_provider=lambda: TOKEN, **options)


def invoke(command: str) -> dict[str, Any]:
    """What a model would read: the JSON text that the tool answers with."""
    return json.loads(TOOL.invoke(command))


TOOL = new_tool()
BACKEND = new_backend()


# ---- SessionsBashTool ---------------------------------------------------------------------------------------------------


def check_documented_example() -> None:
    """Letter for letter."""
    equal(TOOL.invoke("echo hello"), '{\n  "stdout": "hello\\n",\n  "stderr": "",\n  "exitCode": 0\n}')


def check_streams_and_exit_code() -> None:
    equal(invoke("echo out é☕; echo err >&2; exit 7"), {"stdout": "out é☕\n", "stderr": "err\n", "exitCode": 7})
    equal(invoke("no-such-command-here")["exitCode"], 127)
    equal(invoke("kill -TERM $$")["exitCode"], 143)


def check_each_command_starts_in_the_data_folder() -> None:
    """A fresh process each time: the folder does not stay changed; files do."""
    equal(invoke("cd /tmp && echo 1 > /mnt/data/kept && pwd")["stdout"], "/tmp\n")
    equal(invoke("pwd; cat kept")["stdout"], "/mnt/data\n1\n")


def check_pipes_and_several_lines() -> None:
    equal(invoke("for n in 3 1 2; do\n  echo $n\ndone | sort | tr '\\n' ' '")["stdout"], "1 2 3 ")


def check_artifact_is_the_whole_reply() -> None:
    message = TOOL.invoke({"args": {"bash_command": "exit 3"}, "id": "1", "name": TOOL.name, "type": "tool_call"})
    equal(json.loads(message.content)["exitCode"], 3)
    equal(message.artifact["status"], "3")


def check_tool_moves_files() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text("a,b\n1,2\n")
        file = TOOL.upload_file(local_file_path=str(path))
    equal((file.filename, file.size_in_bytes), ("table.csv", 8))
    equal(TOOL.upload_file(data=BytesIO(b"x"), remote_file_path="my data é.txt").filename, "my data é.txt")
    sizes = {each.filename: each.size_in_bytes for each in TOOL.list_files()}
    equal((sizes["table.csv"], sizes["my data é.txt"]), (8, 1))
    equal(invoke("tail -n 1 table.csv")["stdout"], "1,2\n")
    invoke("printf '\\000\\377' > binary")
    equal(TOOL.download_file(remote_file_path="binary").read(), b"\x00\xff")
    with raises(requests.HTTPError) as caught:
        TOOL.download_file(remote_file_path="never-there.txt")
    equal(caught.error.response.status_code, 404)


async def check_tool_asynchronously() -> None:
    equal(json.loads(await TOOL.ainvoke("echo async"))["stdout"], "async\n")


def check_close_deletes_the_session() -> None:
    identifier = new_identifier("bash-closed")
    others = set(threading.enumerate())
    tool = new_tool(session_id=identifier)
    tool.invoke("touch left")
    tool.close()
    for deleting in set(threading.enumerate()) - others:  # the package deletes in a thread of its own
        deleting.join(timeout=10)
    again = new_tool(session_id=identifier)
    equal(again.list_files(), [])
    again.close()


# ---- SessionsBashBackend ------------------------------------------------------------------------------------------------


def check_backend_is_a_sandbox() -> None:
    equal(isinstance(BACKEND, BaseSandbox), True)


def check_execute() -> None:
    """Output is stdout and then stderr; the exit code is a number."""
    done = BACKEND.execute("echo out; echo err >&2; exit 4")
    equal((done.output, done.exit_code, done.truncated), ("out\nerr\n", 4, False))


def check_large_output_is_cut_by_the_client_only() -> None:
    """The backend's own bound of 100,000 bytes is the one that counts."""
    done = BACKEND.execute("head -c 300000 /dev/zero | tr '\\0' x")
    equal((len(done.output), done.truncated), (100_000, True))


def check_write_and_read() -> None:
    """Quotes, dollars, backslashes and Unicode survive; lines are numbered; a page of them can be read."""
    content = "first 'line'\n$HOME \\n \"quoted\" `x`\nthird é☕\n"
    written = BACKEND.write("/mnt/data/notes/a file.txt", content)
    equal((written.error, written.path), (None, "/mnt/data/notes/a file.txt"))
    equal(
        BACKEND.download_files(["/mnt/data/notes/a file.txt"])[0].error, "file_not_found"
    )  # it looks in /mnt/data only
    equal(
        BACKEND.read("/mnt/data/notes/a file.txt"),
        "     1\tfirst 'line'\n     2\t$HOME \\n \"quoted\" `x`\n     3\tthird é☕".lstrip("\n"),
    )
    equal(BACKEND.read("/mnt/data/notes/a file.txt", offset=1, limit=1), '     2\t$HOME \\n "quoted" `x`')
    contains(BACKEND.read("/mnt/data/none.txt"), "not found")


def check_write_refuses_what_is_there() -> None:
    contains(BACKEND.write("/mnt/data/notes/a file.txt", "again").error or "", "already exists")


def check_write_and_read_a_long_file() -> None:
    """A command of hundreds of kilobytes, which no single argument of a program may have."""
    line = "0123456789" * 20
    equal(BACKEND.write("/mnt/data/long.txt", f"{line}\n" * 1500).error, None)
    equal(BACKEND.execute("wc -c < /mnt/data/long.txt").output.strip(), str(201 * 1500))
    contains(BACKEND.read("/mnt/data/long.txt", offset=1499, limit=1), f"  1500\t{line}")


def check_edit() -> None:
    """The exit codes that tell apart what went wrong arrive."""
    BACKEND.write("/mnt/data/edit.txt", "one two\nthree two\nfour\n")
    contains(BACKEND.edit("/mnt/data/edit.txt", "absent", "x").error or "", "String not found")
    contains(BACKEND.edit("/mnt/data/edit.txt", "two", "2").error or "", "appears multiple times")
    contains(BACKEND.edit("/mnt/data/none.txt", "two", "2").error or "", "not found")
    done = BACKEND.edit("/mnt/data/edit.txt", "four", "4 & 'more'")
    equal((done.error, done.occurrences), (None, 1))
    equal(BACKEND.edit("/mnt/data/edit.txt", "two", "2", replace_all=True).occurrences, 2)
    equal(BACKEND.execute("cat /mnt/data/edit.txt").output, "one 2\nthree 2\n4 & 'more'\n")


def check_listings() -> None:
    BACKEND.execute(
        "mkdir -p /mnt/data/tree/inner && touch /mnt/data/tree/a.py /mnt/data/tree/b.txt /mnt/data/tree/inner/c.py"
    )
    listed = {each["path"]: each["is_dir"] for each in BACKEND.ls_info("/mnt/data/tree")}
    equal(listed, {"a.py": False, "b.txt": False, "inner": True})
    found = {each["path"]: each["is_dir"] for each in BACKEND.glob_info("*.py", "/mnt/data/tree")}
    equal(found, {"a.py": False, "inner/c.py": False})


def check_listings_of_the_current_protocol() -> None:
    """deepagents' own, which this backend does not replace: they run python3 in the sandbox."""
    listed = BACKEND.ls("/mnt/data/tree")
    equal(listed.error, None)
    equal(sorted(Path(each["path"]).name for each in listed.entries or []), ["a.py", "b.txt", "inner"])
    found = BACKEND.glob("**/*.py", "/mnt/data/tree")
    equal(found.error, None)
    equal(sorted(Path(each["path"]).name for each in found.matches or []), ["a.py", "c.py"])


def check_grep() -> None:
    BACKEND.write("/mnt/data/tree/d.py", "import os\nx = 'needle: here'\n")
    found = BACKEND.grep("needle: here", "/mnt/data/tree")
    equal(found.error, None)
    equal(
        [(match["path"], match["line"], match["text"]) for match in found.matches or []],
        [("/mnt/data/tree/d.py", 2, "x = 'needle: here'")],
    )
    equal(BACKEND.grep("needle", "/mnt/data/tree", glob="*.txt").matches, [])


def check_backend_moves_files() -> None:
    contents = [("/mnt/data/one.bin", bytes(range(256))), ("/mnt/data/zwei ü.txt", b"two")]
    equal([each.error for each in BACKEND.upload_files(contents)], [None, None])
    equal(BACKEND.execute("wc -c < '/mnt/data/zwei ü.txt'").output.strip(), "3")
    fetched = BACKEND.download_files([path for path, _ in contents])
    equal([(each.error, each.content) for each in fetched], [(None, content) for _, content in contents])
    equal(BACKEND.download_files(["/mnt/data/never"])[0].error, "file_not_found")


async def check_backend_asynchronously() -> None:
    equal((await BACKEND.aexecute("echo async")).output, "async\n")
    equal([match["line"] for match in (await BACKEND.agrep("needle", "/mnt/data/tree")).matches or []], [2])


def check_environment_is_kept() -> None:
    """What one command exports the next one has."""
    BACKEND.execute("export GREETING='hello there' && unset GONE")
    equal(BACKEND.execute('echo "$GREETING"').output, "hello there\n")


def check_background_process_outlives_its_command() -> None:
    began = BACKEND.execute("(sleep 0.5; echo done > /mnt/data/late) > /dev/null 2>&1 &")
    equal(began.exit_code, 0)
    equal(
        BACKEND.execute("for n in 1 2 3 4 5 6 7 8 9; do [ -e late ] && break; sleep 0.3; done; cat late").output,
        "done\n",
    )


def check_backends_share_what_they_name_alike() -> None:
    """Another identifier sees nothing of it."""
    equal(new_backend(BACKEND.id).execute("cat late").output, "done\n")
    lacks(new_backend().execute("ls /mnt/data").output, "late")


def check_refused_token_is_an_error() -> None:
    backend = SessionsBashBackend(ENDPOINT, session_id=BACKEND.id, access_token_provider=lambda: "no-token-of-ours")
    with raises(RuntimeError) as caught:
        backend.execute("true")
    contains(str(caught.error), "401")


if __name__ == "__main__":
    run(globals())
