"""Setting variables in the shells that people use, with values that stay values: whatever stands in them, nothing of it is run."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# PowerShell takes typographic quotes for its single quote ("about_Quoting_Rules"; the list is CharExtensions.IsSingleQuote in its source).
_POWERSHELL_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")


@dataclass(frozen=True, slots=True)
class Shell:
    """How a shell is told."""

    name: str
    quote: Callable[[str], str]
    setting: str
    unsetting: str

    def set(self, name: str, value: str) -> str:
        return self.setting.format(name=name, value=self.quote(value))

    def unset(self, name: str) -> str:
        return self.unsetting.format(name=name)


def _fish(value: str) -> str:
    """In its single quotes only these two are special ("Quotes" in the manual)."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _powershell(value: str) -> str:
    return "'" + _POWERSHELL_QUOTES.sub(r"\1\1", value) + "'"


SHELLS = {
    shell.name: shell
    for shell in (
        Shell("bash", shlex.quote, "export {name}={value}", "unset {name}"),
        Shell("fish", _fish, "set -gx {name} {value}", "set -e {name}"),
        Shell("powershell", _powershell, "$env:{name} = {value}", "Remove-Item -ErrorAction Ignore Env:{name}"),
    )
}
_ALIASES = {"sh": "bash", "zsh": "bash", "dash": "bash", "ksh": "bash", "pwsh": "powershell"}
NAMES = (*SHELLS, *_ALIASES)


def shell_named(name: str) -> Shell:
    return SHELLS[_ALIASES.get(name, name)]


def guessed(environment: Mapping[str, str] = os.environ, parent: str | None = None) -> Shell:
    """The one that called us, which is not always whose name is in SHELL: a script of bash runs under a login shell that is fish.

    PowerShell sets PSModulePath, and is found by that where nothing else tells.
    """
    caller = _caller() if parent is None else parent
    if caller in NAMES:
        return shell_named(caller)
    name = os.path.basename(environment.get("SHELL", ""))  # noqa: PTH119 - a name, on any system
    if not name and "PSModulePath" in environment:
        return SHELLS["powershell"]
    return shell_named(name) if name in NAMES else SHELLS["bash"]


def _caller() -> str:
    try:
        return Path(f"/proc/{os.getppid()}/comm").read_text().strip()
    except OSError:
        return ""
