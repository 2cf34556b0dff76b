"""The tools of a pool as a language model reads them: names, descriptions and schemas. Data; what they do is in toolbox.py.

Names and arguments of launching, of Python and of shell commands are Azure's, which agents and prompts know; the rest are ours. A pool
lists what its runtime can do and no more: a model chooses better among few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carrel.models import Network, PoolSpec

LAUNCH_SHELL = "launchShell"
LAUNCH_PYTHON = "launchPythonEnvironment"
LAUNCH_NODE = "launchNodeEnvironment"
RUN_PYTHON = "runPythonCodeInRemoteEnvironment"
RUN_JAVASCRIPT = "runJavaScriptCodeInRemoteEnvironment"
RUN_CODE = "runCodeInRemoteEnvironment"
RUN_SHELL = "runShellCommandInRemoteEnvironment"
LIST_FILES = "listFiles"
UPLOAD = "uploadFile"
DOWNLOAD = "downloadFile"
INTERRUPT = "interruptEnvironment"
STOP = "stopEnvironment"

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    title: str
    description: str
    properties: Schema = field(default_factory=dict)
    required: tuple[str, ...] = ()
    output: Schema = field(default_factory=dict)
    is_reading: bool = False  # changes nothing
    is_destructive: bool = False
    is_idempotent: bool = False

    def to_json(self, is_open: bool) -> dict[str, Any]:
        """As `tools/list` has it. `is_open`: code of this pool can reach a network."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": _object(self.properties, self.required),
            "outputSchema": _object(self.output, tuple(self.output)),
            "annotations": {
                "title": self.title,
                "readOnlyHint": self.is_reading,
                "destructiveHint": self.is_destructive,
                "idempotentHint": self.is_idempotent,
                "openWorldHint": is_open,
            },
        }


def tools_of(pool: PoolSpec, runtime: str) -> tuple[Tool, ...]:
    """What the pool offers, in the order in which a model wants to read it. `runtime` is the word of its image, which may be any."""
    tools = [_launch(pool, LAUNCH_SHELL, "an environment")]
    if runtime == "python":
        tools += [_launch(pool, LAUNCH_PYTHON, "a Python environment"), _run_python(pool)]
    elif runtime == "node":
        tools += [_launch(pool, LAUNCH_NODE, "a Node.js environment"), _run_javascript(pool)]
    elif runtime == "shell":
        tools.append(_run_python_once(pool))
    else:
        tools.append(_run_code(pool, runtime))
    return (*tools, _run_shell(pool), *_FILES, _INTERRUPT, _STOP)


def instructions(pool: PoolSpec) -> str:
    """What `initialize` tells a model about the whole."""
    return (
        f"Runs code in isolated environments of the pool '{pool.name}'. Start with {LAUNCH_SHELL}, keep the environmentId that it "
        "returns and pass it to every other tool. What you compute and the files in /mnt/data stay in that environment between calls. "
        f"{_lifetime(pool)} {_reach(pool)}"
    )


def _object(properties: Schema, required: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(required)}


def _lifetime(pool: PoolSpec) -> str:
    return f"An environment that is not used for {_minutes(pool.cooldown)} is deleted with everything in it: download what must last."


def _minutes(seconds: int) -> str:
    return f"{seconds // 60} minutes" if seconds >= 120 and seconds % 60 == 0 else f"{seconds} seconds"


def _reach(pool: PoolSpec) -> str:
    return {
        Network.NONE: "Environments have no network: do not try to download or install anything from it.",
        Network.LISTED: f"Environments reach these places only, by HTTP or HTTPS: {', '.join(pool.allow)}.",
        Network.OPEN: "Environments reach the public internet.",
    }[pool.network]


# ---- arguments that several tools take ------------------------------------------------------------------------------------

_ENVIRONMENT: Schema = {
    "environmentId": {
        "type": "string",
        "minLength": 4,
        "maxLength": 128,
        "description": f"The id that {LAUNCH_SHELL} returned. The same id is the same environment.",
    }
}
_PATH: Schema = {
    "type": "string",
    "description": "Path of the file below /mnt/data, for example 'report.csv' or 'plots/a.png'.",
}
_ID_OUT: Schema = {"environmentId": {"type": "string"}}


def _timeout(pool: PoolSpec) -> Schema:
    return {
        "timeoutInSeconds": {
            "type": "integer",
            "minimum": 1,
            "maximum": pool.maximum_execution,
            "default": min(60, pool.maximum_execution),
            "description": "Most seconds that it may run; it is interrupted then.",
        }
    }


_RAN: Schema = {
    **_ID_OUT,
    "executionId": {"type": "string"},
    "status": {"type": "string", "enum": ["Succeeded", "Failed", "Canceled"]},
    "outcome": {
        "type": "string",
        "description": "What it came to: ok, error, timeout, canceled, interrupted, memory, processes, disk, killed or exited.",
    },
    "stdout": {"type": "string"},
    "stderr": {"type": "string", "description": "Errors and tracebacks are here."},
    "executionTimeInMilliseconds": {"type": "integer"},
}
_EVALUATED: Schema = {
    **_RAN,
    "executionResult": {"description": "Value of the last expression: JSON, or text; empty where there is none."},
    "outputs": {
        "type": "array",
        "items": {"type": "object"},
        "description": "What was displayed, by MIME type: tables, charts as data, HTML. Images are in the content instead.",
    },
}
_COMMANDED: Schema = {
    **_RAN,
    "exitCode": {"type": ["integer", "null"], "description": "0 is success; null where it did not end by itself."},
}

# ---- the tools -------------------------------------------------------------------------------------------------------------


def _launch(pool: PoolSpec, name: str, what: str) -> Tool:
    return Tool(
        name,
        f"Launch {what}",
        f"Get {what}: an isolated computer of its own with a file system at /mnt/data. Returns its environmentId, which the other tools "
        f"take. Call it once for a task and use the same id from then on. {_lifetime(pool)} {_reach(pool)}",
        output=_ID_OUT,
    )


def _run_python(pool: PoolSpec) -> Tool:
    return Tool(
        RUN_PYTHON,
        "Run Python code",
        "Run Python code in an environment, like a cell of a notebook: variables, functions and imports of earlier calls are there, "
        "output is captured, and the value of the last line comes back if it is an expression. Figures of matplotlib come back as images. "
        "Read and write files below /mnt/data, which is the working directory. Code that raises an exception gives status Failed and a "
        "traceback on stderr: correct the code and run it again.",
        {**_ENVIRONMENT, "pythonCode": {"type": "string", "description": "The code to run."}, **_timeout(pool)},
        ("environmentId", "pythonCode"),
        _EVALUATED,
        is_destructive=True,
    )


def _run_javascript(pool: PoolSpec) -> Tool:
    return Tool(
        RUN_JAVASCRIPT,
        "Run JavaScript code",
        "Run JavaScript in a Node.js environment, as in a console: variables and functions of earlier calls are there, `await`, `require` "
        "and `import` work at the top level, console output is captured, and the value of the last expression comes back. Read and write "
        "files below /mnt/data, which is the working directory. Code that throws gives status Failed and a stack on stderr: correct it "
        "and run it again.",
        {**_ENVIRONMENT, "javaScriptCode": {"type": "string", "description": "The code to run."}, **_timeout(pool)},
        ("environmentId", "javaScriptCode"),
        _EVALUATED,
        is_destructive=True,
    )


def _run_code(pool: PoolSpec, runtime: str) -> Tool:
    return Tool(
        RUN_CODE,
        f"Run {runtime} code",
        f"Run code in an environment whose language is {runtime}. Definitions of earlier calls are there, output is captured, and the "
        "value of the last expression comes back where the language has one. Read and write files below /mnt/data, which is the working "
        "directory. Code that fails gives status Failed and says why on stderr: correct it and run it again.",
        {**_ENVIRONMENT, "code": {"type": "string", "description": "The code to run."}, **_timeout(pool)},
        ("environmentId", "code"),
        _EVALUATED,
        is_destructive=True,
    )


def _run_python_once(pool: PoolSpec) -> Tool:
    return Tool(
        RUN_PYTHON,
        "Run a Python program",
        "Run a Python program in an environment: a fresh process each time, so print what you want to see and keep what you need later in "
        "files below /mnt/data, which is the working directory.",
        {**_ENVIRONMENT, "pythonCode": {"type": "string", "description": "The program to run."}, **_timeout(pool)},
        ("environmentId", "pythonCode"),
        _COMMANDED,
        is_destructive=True,
    )


def _run_shell(pool: PoolSpec) -> Tool:
    return Tool(
        RUN_SHELL,
        "Run a shell command",
        "Run a command in an environment: a fresh process in /mnt/data each time, so a change of directory is not kept, while files are. "
        "Give `shellCommand` for a line of shell (pipes, redirections, several commands) or `execCommandAndArgs` for a program and its "
        "arguments without a shell. What it printed comes back with its exit code.",
        {
            **_ENVIRONMENT,
            "shellCommand": {"type": "string", "description": "A command line, run by bash."},
            "execCommandAndArgs": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "description": "A program and its arguments, instead of `shellCommand`.",
            },
            "stdin": {"type": "string", "description": "What the command reads from its standard input."},
            **_timeout(pool),
        },
        ("environmentId",),
        _COMMANDED,
        is_destructive=True,
    )


_FILES = (
    Tool(
        LIST_FILES,
        "List files",
        "List the files and directories of an environment's /mnt/data.",
        {
            **_ENVIRONMENT,
            "path": {"type": "string", "description": "A directory below /mnt/data; without it /mnt/data itself."},
            "recursive": {"type": "boolean", "default": False, "description": "Also what is inside directories."},
        },
        ("environmentId",),
        {
            **_ID_OUT,
            "files": {
                "type": "array",
                "items": _object(
                    {
                        "path": {"type": "string"},
                        "type": {"type": "string", "enum": ["file", "directory"]},
                        "sizeInBytes": {"type": "integer"},
                        "lastModifiedAt": {"type": "string"},
                    },
                    ("path", "type", "sizeInBytes", "lastModifiedAt"),
                ),
            },
            "isTruncated": {"type": "boolean", "description": "There are more than are listed."},
        },
        is_reading=True,
        is_idempotent=True,
    ),
    Tool(
        UPLOAD,
        "Upload a file",
        "Write a file into an environment's /mnt/data; directories are made, a file of this name is replaced. Give `content` for text or "
        "`contentBase64` for anything else.",
        {
            **_ENVIRONMENT,
            "path": _PATH,
            "content": {"type": "string", "description": "The file's content as text (UTF-8)."},
            "contentBase64": {"type": "string", "description": "The file's content in base64, instead of `content`."},
        },
        ("environmentId", "path"),
        {**_ID_OUT, "path": {"type": "string"}, "sizeInBytes": {"type": "integer"}},
        is_destructive=True,
        is_idempotent=True,
    ),
    Tool(
        DOWNLOAD,
        "Download a file",
        "Read a file of an environment's /mnt/data. Images come back as images, text as text, anything else as an embedded resource in "
        "base64. For a large file give `offset` and `length`, or look at a part of it with code.",
        {
            **_ENVIRONMENT,
            "path": _PATH,
            "offset": {"type": "integer", "minimum": 0, "default": 0, "description": "First byte to read."},
            "length": {"type": "integer", "minimum": 1, "description": "Most bytes to read; without it to the end."},
        },
        ("environmentId", "path"),
        {
            **_ID_OUT,
            "path": {"type": "string"},
            "mimeType": {"type": "string"},
            "sizeInBytes": {"type": "integer", "description": "Of the whole file."},
            "offset": {"type": "integer"},
            "length": {"type": "integer", "description": "Bytes that came back."},
        },
        is_reading=True,
        is_idempotent=True,
    ),
)

_INTERRUPT = Tool(
    INTERRUPT,
    "Interrupt an environment",
    "Interrupt whatever runs in an environment, for example code that takes too long. Variables and files are kept where an interrupt "
    "sufficed; code that ignores it is ended by force, and variables are lost then.",
    _ENVIRONMENT,
    ("environmentId",),
    {**_ID_OUT, "canceled": {"type": "integer", "description": "How many executions were canceled."}},
    is_idempotent=True,
)

_STOP = Tool(
    STOP,
    "Stop an environment",
    "Delete an environment with all its files and variables. Do it when the task is done; it cannot be undone.",
    _ENVIRONMENT,
    ("environmentId",),
    _ID_OUT,
    is_destructive=True,
    is_idempotent=True,
)
