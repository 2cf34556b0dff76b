"""How Sphinx builds the documentation: `make docs`.

The pages are plain Markdown that reads as well in an editor or on a forge: links go to files, and the order of the tree is that of the
lists in docs/index.md. So the source folder is the checkout, and this file makes the tree from those lists instead of having it
written a second time as directives (decision 0041).
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

from carrel import client

ROOT = Path(__file__).parent.parent
INDEX = "docs/index"
DECISIONS = "docs/decisions/index"
CLIENT = "docs/reference/client-api"
SCREENSHOTS = ROOT / "out/docs-screenshots"  # `make docs` has them made by tools/screenshots.py; they are not committed

project = "Carrel"
author = "the Carrel contributors"
copyright = ""
root_doc = INDEX
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "bench", "changelog.d", "deploy", "examples", "out", "requirements", "src", "tests", "tools"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]

myst_heading_anchors = 4  # `page.md#a-heading`, as forges make them; one that is not there is a warning, so an error
copybutton_prompt_text = "$ "
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
maximum_signature_line_length = 110

html_theme = "furo"
html_title = "Carrel"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False


def sections(text: str) -> list[tuple[str, list[str]]]:
    """The headings of the index, each with the pages that its list links to."""
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)[1:]
    return [(title, re.findall(r"^- \[[^\]]*\]\(([^)#]+)\.md\)", body, re.MULTILINE)) for title, body in pairs(parts)]


def pairs(parts: list[str]) -> list[tuple[str, str]]:
    return list(zip(parts[::2], parts[1::2], strict=True))


def toctree(caption: str, pages: list[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def complete(_app: Sphinx, page: str, source: list[str]) -> None:
    """Gives the index and the list of decisions their place in the tree, and marks of screenshots their pictures."""
    if page == INDEX:
        source[0] += "".join(toctree(title, pages) for title, pages in sections(source[0]))
    source[0] = re.sub(r"^<!-- screenshot: ([\w-]+) \| (.*) -->$", screenshot, source[0], flags=re.MULTILINE)
    if page == CLIENT:
        source[0] = with_names(source[0])
    if page == DECISIONS:
        numbered = sorted((ROOT / "docs/decisions").glob("0*.md"))
        source[0] += toctree("Decisions", [each.stem for each in numbered])


def screenshot(mark: re.Match[str]) -> str:
    """The picture in both themes, of which the page shows the reader's; words where nobody has made them."""
    name, words = mark.groups()
    pictures = {theme: sorted(SCREENSHOTS.glob(f"{name}-[0-9]*-{theme}.png")) for theme in ("light", "dark")}
    if not all(pictures.values()):
        return f"*(Here the built documentation has a picture, where there is a browser to make it: {words})*"
    shown = [(theme, found[-1].relative_to(ROOT)) for theme, found in pictures.items()]
    return "\n\n".join(f"```{{image}} /{file}\n:class: only-{theme}\n:alt: {words}\n```" for theme, file in shown)


def with_names(text: str) -> str:
    """The page of the client with its classes in the place of marks: `<!-- names: A B -->`, or `*` for all that no other mark has."""
    mark = re.compile(r"<!-- names: (.*) -->")
    named = {name for names in mark.findall(text) for name in names.split()}
    rest = [name for name in client.__all__ if name not in named and not name.startswith("Async")]
    return mark.sub(lambda found: classes(rest if found[1] == "*" else found[1].split()), text)


def classes(names: list[str]) -> str:
    options = (
        "   :members:\n   :undoc-members:\n   :inherited-members: Exception, dict, list, tuple, object\n   :no-index:\n"
    )
    return "```{eval-rst}\n" + "\n".join(f".. autoclass:: carrel.client.{name}\n{options}" for name in names) + "```"


def as_restructured_text(
    _app: Sphinx, _kind: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Our docstrings are written for people who read the code: names in single backticks, examples just indented."""
    text = re.sub(r"(?<!`)`([^`\n]+)`(?!`)", r"``\1``", "\n".join(lines))
    lines[:] = re.sub(r"(?<=[\w.])(?<!:):?\n\n(?=    \S)", "::\n\n", text).split("\n")


def lead_to_the_index(app: Sphinx, failure: Exception | None) -> None:
    """The folder opens at the index, which lies a level deeper."""
    if failure is None and app.builder.format == "html":
        page = '<!doctype html><meta charset="utf-8"><title>Carrel</title><meta http-equiv="refresh" content="0; url=docs/index.html">'
        Path(app.outdir, "index.html").write_text(page)


def setup(app: Sphinx) -> None:
    app.connect("source-read", complete)
    app.connect("autodoc-process-docstring", as_restructured_text)
    app.connect("build-finished", lead_to_the_index)
