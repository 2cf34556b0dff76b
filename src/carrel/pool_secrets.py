"""The secrets of pools: read once, by the supervisor, and handed to the gateway, which alone uses them.

A PoolSpec has only where each is found. Nothing here is ever shown: not in listings, metadata or the doctor, not in errors and logs, not
where an object is printed by mistake.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Self

from carrel.models import PoolSpec
from carrel.pool_settings import ConfigError

MAX_BYTES = 64 * 1024


class PoolSecrets:
    """Of one pool."""

    def __init__(self, values: Mapping[str, str] | None = None, webhook: str = "") -> None:
        self._values, self.webhook = dict(values or {}), webhook

    def __repr__(self) -> str:
        return "PoolSecrets(…)"

    def get(self, name: str) -> str | None:
        return self._values.get(name)

    def to_json(self) -> dict[str, Any]:
        """For the gateway's stdin only."""
        return {"values": self._values, "webhook": self.webhook}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        return cls(fields["values"], fields["webhook"])


NO_SECRETS = PoolSecrets()


def read(pools: Iterable[PoolSpec], environment: Mapping[str, str] = os.environ) -> dict[str, PoolSecrets]:
    """Of those pools that have any. Raises ConfigError where one cannot be had."""
    found = {}
    for spec in pools:
        where = f"[pools.{spec.name}] carrel"
        values = {name: _value(f"{where}.secrets.{name}", source, environment) for name, source in spec.secrets}
        webhook = _value(f"{where}.webhook.secret", spec.webhook_secret, environment) if spec.webhook_secret else ""
        if values or webhook:
            found[spec.name] = PoolSecrets(values, webhook)
    return found


def forget(pools: Iterable[PoolSpec], environment: MutableMapping[str, str] = os.environ) -> None:
    """Take the variables that were read out of this process's environment: programs that it starts have no use for them."""
    for spec in pools:
        for source in (spec.webhook_secret, *(source for _, source in spec.secrets)):
            kind, _, place = source.partition(":")
            if kind == "environment":
                environment.pop(place, None)


def _value(where: str, source: str, environment: Mapping[str, str]) -> str:
    kind, _, place = source.partition(":")
    value = _from_file(where, Path(place)) if kind == "file" else environment.get(place, "")
    if not value:
        raise ConfigError(f"{where}: there is nothing in {kind} {place}")
    if len(value) > MAX_BYTES or "\0" in value:
        raise ConfigError(f"{where}: what is in {kind} {place} is over {MAX_BYTES} bytes, or no text")
    return value


def _from_file(where: str, path: Path) -> str:
    """The text, without the line end that editors put there."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 2).decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigError(f"{where}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: {path} is not UTF-8 text") from None
