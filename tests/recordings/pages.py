"""Recordings as pages: one per plane, the operations in the order of openapi.json."""

from __future__ import annotations

import re
from pathlib import Path

from recordings.recorder import POOL, Operation, Recording, operations

FOLDER = Path(__file__).parents[2] / "docs/reference/recordings"
TITLES = {
    "data plane": ("Data plane", "../routes.md", "Routes"),
    "control plane": ("Control plane", "../arm.md", "The control plane"),
    "graph": ("Graph", "../graph.md", "Graph"),
    "authority": ("Authority", "../../concepts/authority.md", "The authority"),
    "operator": ("Operator plane", "../routes.md", "Routes"),
    "open": ("Open routes", "../routes.md", "Routes"),
}
_ABOUT = (
    "Every operation of [{words}]({link}), called on a real server by `make recordings`: the request as it was sent, the reply as it\n"
    "came. Tokens, secrets and codes are replaced by `…`, ids are numbered, times and figures made neutral; `… more` says where\n"
    "something long was cut."
)
_POOL_ABOUT = (
    """`POOL` stands for the pool's endpoint, `/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/sessionPools/NAME`."""
)


def heading(operation: Operation) -> str:
    return f"{operation.method} {operation.path.replace(POOL, 'POOL')}"


def headings(page: Path) -> list[str]:
    return [_plain(each) for each in re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)]


def _plain(text: str) -> str:
    return text.strip("`")


def file_of(tag: str) -> str:
    return f"{tag.replace(' ', '-')}.md"


def pages(recordings: list[Recording]) -> dict[str, str]:
    tags = dict.fromkeys(each.operation.tag for each in recordings)
    return {file_of(tag): _page(tag, [each for each in recordings if each.operation.tag == tag]) for tag in tags}


def _page(tag: str, recordings: list[Recording]) -> str:
    title, link, words = TITLES.get(tag, (tag.capitalize(), "../routes.md", "Routes"))
    parts = [
        f"# Recorded: {title[0].lower() + title[1:] if title != 'Graph' else title}",
        _ABOUT.format(words=words, link=link),
    ]
    if any(POOL in each.operation.path for each in recordings):
        parts.append(_POOL_ABOUT)
    for operation in operations():
        mine = [each for each in recordings if each.operation.key == operation.key]
        if mine:
            parts += [f"## `{heading(operation)}`", operation.summary]
        for each in sorted(mine, key=lambda each: bool(each.title)):
            parts += [*([f"{each.title}:"] if each.title else []), _block(each.request), _block(each.reply)]
    return "\n\n".join(parts) + "\n"


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def replies(page: str) -> list[tuple[str, str, list[str]]]:
    """Of a page, each operation's status line and the names of the fields at the top of its reply."""
    found, name = [], ""
    for match in re.finditer(r"^## (?P<name>.*)$|^```text\n(?P<block>.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if match["name"]:
            name = match["name"]
        elif re.match(r"\d{3} ", match["block"]):
            found.append(
                (name, match["block"].splitlines()[0], re.findall(r'^  "([^"]+)":', match["block"], re.MULTILINE))
            )
    return found


def write(made: dict[str, str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    for page in FOLDER.glob("*.md"):
        page.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text)
