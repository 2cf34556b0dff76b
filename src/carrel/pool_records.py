"""A pool's record in the store as the definition that the host gets. One grammar for both ways in: ARM's property bag is the TOML table.

What names a place on this machine, or gives rights that the operator alone can give, is only taken from a record where the configuration
file says the same of the pool of that name: a folder of wheels, files and variables with secrets, an address that the server itself calls,
a level below its minimum. Whoever may write pools over ARM could read the server's files otherwise, or run code as its user.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from carrel.config import Config
from carrel.models import PoolSpec
from carrel.pool_secrets import PoolSecrets
from carrel.pool_settings import ConfigError, flatten, parse_pool, table_of
from carrel.store import Transaction
from carrel.store.records import PoolId, PoolRecord, Stamp

MCP_KEY_BYTES = 24

OPERATORS = {
    "carrel.packages.wheels": "packages_wheels",
    "carrel.webhook.url": "webhook",
    "carrel.webhook.secret": "webhook_secret",
    "carrel.secrets": "secrets",
}
_PLACES = ("webhook", "secrets")  # and packages.wheels


def spec_of(record: PoolRecord, config: Config) -> PoolSpec:
    """Raises ConfigError, which names the property, the value and what is allowed."""
    key = record.id.key(config)
    known = next((pool for pool in config.pools if pool.name.lower() == key), None)
    asked = None if config.isolation == "auto" else config.isolation
    table = table_of(record.properties)
    spec = parse_pool(record.id.name, table, asked, config.minimum)
    if known is not None and spec.asked == known.asked and "carrel.minimum" not in flatten("", table):
        spec = replace(spec, minimum=known.minimum)
    _check_operators(spec, known, config)
    return replace(spec, name=key)


def _check_operators(spec: PoolSpec, known: PoolSpec | None, config: Config) -> None:
    where = f"[pools.{spec.name}]"
    for path, attribute in OPERATORS.items():
        value = getattr(spec, attribute)
        if value and value != (getattr(known, attribute) if known else None):
            # The value is not repeated: it may be where a secret is.
            raise ConfigError(
                f"{where} {path}: for the server's operator, so it can be set in its configuration file only"
            )
    if known is not None and (spec.asked, spec.minimum) == (known.asked, known.minimum):
        return
    if spec.minimum.rank < config.minimum.rank:
        raise ConfigError(
            f"{where} carrel.minimum: '{spec.minimum}' is below this server's minimum, '{config.minimum}'"
        )
    if spec.asked is not None and spec.asked.rank < spec.minimum.rank:
        raise ConfigError(f"{where} carrel.isolation: '{spec.asked}' is below the pool's minimum, '{spec.minimum}'")


def take_away(books: Transaction, id: PoolId) -> None:
    """A pool, with its session log and the rights that were given at it: another of this name begins without. What it has used stays."""
    books.pools.delete(id)
    books.logs.delete_of(id)
    books.assignments.delete_below(id.resource_id)


def with_property(record: PoolRecord, name: str, value: object, stamp: Stamp) -> PoolRecord:
    """The record with another value of the property `carrel.NAME`."""
    properties = {**record.properties, "carrel": {**record.properties.get("carrel", {}), name: value}}
    return replace(record, properties=properties, modified=stamp, etag=secrets.token_hex(16))


def without_places(record: PoolRecord) -> PoolRecord:
    """The record without what only the configuration file may name, which does not name the pool any more."""
    carrel = {name: value for name, value in record.properties.get("carrel", {}).items() if name not in _PLACES}
    packages = {name: value for name, value in carrel.get("packages", {}).items() if name != "wheels"}
    carrel = {**carrel, "packages": packages} if "packages" in carrel else carrel
    return replace(record, properties={**record.properties, "carrel": carrel})


def secrets_of(record: PoolRecord, spec: PoolSpec, known: PoolSecrets) -> PoolSecrets:
    """What sessions' environments may be given by reference: what the configuration names places of, and what came over ARM."""
    found = {name: value for name, _source in spec.secrets if (value := known.get(name)) is not None}
    return PoolSecrets({**found, **record.secrets}, known.webhook if spec.webhook else "")
