"""Carrel for Microsoft Agent Framework: a tool that runs Python in a session, and shows the model the charts that it drew."""

from __future__ import annotations

from typing import Annotated

from agent_framework import Content, FunctionTool, tool

from carrel.client import AsyncSessionClient, Result


def python_tool(session: AsyncSessionClient, *, timeout: int = 60) -> FunctionTool:
    """`Agent(client, tools=[python_tool(session)])`: one session per user or conversation, never one for several."""

    @tool(name="run_python", approval_mode="never_require")
    async def run_python(
        code: Annotated[str, "What to run; what it prints, its value and its plots come back"],
    ) -> list[Content]:
        """Run Python in a session of its own. Variables and files stay between calls; pandas and matplotlib are installed."""
        return contents(await session.run(code, timeout=timeout))

    return run_python


def contents(result: Result) -> list[Content]:
    """What the model is told: code that failed is told as well, with its traceback, so that it can mend it."""
    text = Content.from_text(result.text or result.status)
    return [text, *(Content.from_data(picture.data, picture.mime) for picture in result.images)]
