"""Carrel for smolagents: what a CodeAgent writes is run in a session, and its tools with it."""

from __future__ import annotations

import io
import re
from typing import Any

import PIL.Image
from smolagents import AgentLogger, LogLevel
from smolagents.local_python_executor import CodeOutput
from smolagents.remote_executors import RemotePythonExecutor
from smolagents.utils import AgentError

from carrel.client import Result, SessionClient

MOST_OUTPUT = 1_000_000  # characters; an answer is told in the traceback of an exception of smolagents' own
_ANSWER = re.compile(rf"{RemotePythonExecutor.FINAL_ANSWER_EXCEPTION}: (safe:.*)\Z", re.DOTALL)


class CarrelExecutor(RemotePythonExecutor):
    """`CodeAgent(tools, model, executor=CarrelExecutor(session))`: one session per agent.

    Answers and variables cross as JSON alone: what comes from a session is never unpickled.
    """

    def __init__(
        self,
        session: SessionClient,
        additional_imports: list[str] | None = None,
        logger: AgentLogger | None = None,
        *,
        timeout: int = 60,
    ) -> None:
        """`additional_imports` are packages to install first, which takes a pool that may reach an index."""
        super().__init__(additional_imports or [], logger or AgentLogger(level=LogLevel.ERROR), allow_pickle=False)
        self._session = session
        self._timeout = timeout
        self.installed_packages = self.install_packages(self.additional_imports)

    def run_code_raise_errors(self, code: str) -> CodeOutput:
        """Raises AgentError where code fails: the agent reads it and tries again."""
        result = self._session.run(code, timeout=self._timeout, output_limit=MOST_OUTPUT)
        if result.is_ok:
            return CodeOutput(output=value_of(result), logs=result.stdout, is_final_answer=False)
        if answer := _ANSWER.search(result.stderr.strip()):
            told = self._deserialize_final_answer(answer[1], allow_pickle=False)
            return CodeOutput(output=told, logs=result.stdout, is_final_answer=True)
        raise AgentError(f"{result.stdout}\nExecuting code yielded an error:\n{result.stderr}", self.logger)

    def cleanup(self) -> None:
        """Called by the agent at its end."""
        self._session.end()


def value_of(result: Result) -> Any:
    """A picture where the code drew one, else the last expression's value."""
    if result.images:
        return PIL.Image.open(io.BytesIO(result.images[-1].data))
    return None if result.result == "" else result.result
