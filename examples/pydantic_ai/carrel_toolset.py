"""Carrel for PydanticAI: a toolset that runs Python in a session, and shows the model the charts that it drew."""

from __future__ import annotations

from pydantic_ai import BinaryContent, FunctionToolset

from carrel.client import AsyncSessionClient, InvalidRequest, NotFound, Result

Told = str | list[str | BinaryContent]


def python_toolset(session: AsyncSessionClient, *, timeout: int = 60) -> FunctionToolset[None]:
    """`Agent(model, toolsets=[python_toolset(session)])`: one session per user or conversation, never one for several."""
    toolset: FunctionToolset[None] = FunctionToolset()

    @toolset.tool_plain
    async def run_python(code: str) -> Told:
        """Run Python in a session of its own. Variables and files stay between calls; pandas and matplotlib are installed.

        Args:
            code: What to run. What it prints, the value of its last expression and what it plots come back.
        """
        return told(await session.run(code, timeout=timeout))

    @toolset.tool_plain
    async def read_file(path: str) -> str:
        """Read a text file of the session, below /mnt/data.

        Args:
            path: Where it is.
        """
        try:
            return (await session.download(path)).decode(errors="replace")
        except (NotFound, InvalidRequest) as error:  # the model can mend it, as it can its code
            return str(error)

    return toolset


def told(result: Result) -> Told:
    """What the model is told: code that failed is told as well, with its traceback, so that it can mend it."""
    text = result.text or result.status
    if not result.images:
        return text
    return [text, *(BinaryContent(picture.data, media_type=picture.mime) for picture in result.images)]
