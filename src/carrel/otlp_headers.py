"""What an OTLP collector is to be told beside the spans, its key above all: read once, by the supervisor, and handed to the gateway.

From the file of the setting `otlp-headers`, a line `Name: value` each, and from OTEL_EXPORTER_OTLP_HEADERS, `name=value` with commas in
between and values percent-encoded, as OpenTelemetry has it. Never from the command line, which everybody on the machine can read. No value
is ever shown, in errors neither.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from urllib.parse import unquote

from carrel.pool_settings import ConfigError

VARIABLE = "OTEL_EXPORTER_OTLP_HEADERS"
MAX_BYTES = 64 * 1024
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # a token of RFC 9110
_VALUE = re.compile(r"[\x20-\x7e\t]*")
_OURS = ("content-type", "content-length", "transfer-encoding", "host", "connection")


def read(file: Path | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """By lower-case name; what the file says counts. Raises ConfigError."""
    found: dict[str, str] = {}
    for where, pairs in (
        (VARIABLE, _from_text(environment.get(VARIABLE, ""))),
        (f"otlp-headers: {file}", _from_file(file)),
    ):
        for name, value in pairs:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ConfigError(f"{where}: there is a line in it that is no header")
            if name.lower() in _OURS:
                raise ConfigError(f"{where}: the header {name} is the exporter's own")
            found[name.lower()] = value
    return found


def forget(environment: MutableMapping[str, str] = os.environ) -> None:
    """Programs that this process starts have no use for it."""
    environment.pop(VARIABLE, None)


def _from_text(text: str) -> Iterator[tuple[str, str]]:
    for each in text.split(","):
        if each.strip():
            name, _, value = each.partition("=")
            yield unquote(name.strip()), unquote(value.strip())


def _from_file(file: Path | None) -> Iterator[tuple[str, str]]:
    if file is None:
        return
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1).decode()
    except OSError as error:
        raise ConfigError(f"otlp-headers: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"otlp-headers: {file} is not UTF-8 text") from None
    if len(text) > MAX_BYTES:
        raise ConfigError(f"otlp-headers: {file} has more than {MAX_BYTES} bytes")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, colon, value = line.partition(":")
            yield (name.strip(), value.strip()) if colon else ("", "")
