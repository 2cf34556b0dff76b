"""Small wheels as Azure's command line installs them: one command, `az carrel-greeting NAME`."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from pathlib import Path

_MODULE = """
from azure.cli.core import AzCommandsLoader
from azure.cli.core.commands import CliCommandType


class Loader(AzCommandsLoader):
    def __init__(self, cli_ctx=None):
        custom = CliCommandType(operations_tmpl="azext_carrel_greeting#{}")
        super().__init__(cli_ctx=cli_ctx, custom_command_type=custom)

    def load_command_table(self, args):
        with self.command_group("carrel-greeting") as group:
            group.custom_command("show", "greeting")
        return self.command_table

    def load_arguments(self, command):
        pass


def greeting():
    return {"greeting": "hello from VERSION"}


COMMAND_LOADER_CLS = Loader
"""


def make_wheel(folder: Path, version: str = "1.0.0", *, more: dict[str, object] | None = None) -> Path:
    """An extension `carrel-greeting`. `more` goes into its azext_metadata.json."""
    about = f"carrel_greeting-{version}.dist-info"
    files = {
        "azext_carrel_greeting/__init__.py": _MODULE.replace("VERSION", version),
        "azext_carrel_greeting/azext_metadata.json": json.dumps({"azext.minCliCoreVersion": "2.0.67", **(more or {})}),
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: carrel-greeting\nVersion: {version}\nSummary: Says hello\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: carrel\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/top_level.txt": "azext_carrel_greeting\n",
    }
    lines = [f"{name},sha256={_hash(text)},{len(text.encode())}" for name, text in files.items()]
    file = folder / f"carrel_greeting-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{about}/RECORD", "\n".join([*lines, f"{about}/RECORD,,", ""]))
    return file


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
