"""Carrel for the OpenAI Agents SDK: a tool that runs Python in a session, and shows the model the charts that it drew."""

from __future__ import annotations

import base64

from agents import FunctionTool, ToolOutputImage, ToolOutputText, function_tool

from carrel.client import AsyncSessionClient, Result


def python_tool(session: AsyncSessionClient, *, timeout: int = 60) -> FunctionTool:
    """`Agent(tools=[python_tool(session)])`: one session per user or conversation, never one for several."""

    @function_tool
    async def run_python(code: str) -> list[ToolOutputText | ToolOutputImage]:
        """Run Python in a session of its own. Variables and files stay between calls; pandas and matplotlib are installed.

        Args:
            code: What to run. What it prints, the value of its last expression and what it plots come back.
        """
        return outputs(await session.run(code, timeout=timeout))

    return run_python


def outputs(result: Result) -> list[ToolOutputText | ToolOutputImage]:
    """What the model is told: code that failed is told as well, with its traceback, so that it can mend it."""
    found: list[ToolOutputText | ToolOutputImage] = [ToolOutputText(text=result.text or result.status)]
    for picture in result.images:
        encoded = base64.b64encode(picture.data).decode()
        found.append(ToolOutputImage(image_url=f"data:{picture.mime};base64,{encoded}"))
    return found
