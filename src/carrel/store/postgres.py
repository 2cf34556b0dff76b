"""PostgreSQL: for those who have one, and for several gateways on one store.

One connection, made again when it was lost. What libpq would look up in the home folder at each connect is settled at the first: the
gateway cannot read there later. Every transaction takes one lock first, as with SQLite: writers stand in a row and do not fail for each
other.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import psycopg
import sqlalchemy as sql
from psycopg.conninfo import make_conninfo

from carrel import store_address
from carrel.store.troubles import StoreError

LOCK = "LOCK TABLE meta IN EXCLUSIVE MODE"  # before any query: the transaction sees what was committed until it had the lock

_CONNECT_S = 5
_CAN_LEAVE_CERTIFICATES = 160_000  # libpq knows sslcertmode; the one that psycopg[binary] brings does
_DEFAULTS = {
    "application_name": "carrel",
    "connect_timeout": str(_CONNECT_S),
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",  # ms: a firewall that forgot the connection says nothing at all
}
_SETTINGS = (
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '30s'",
    "SET idle_in_transaction_session_timeout = '30s'",  # of a gateway that was stopped while it had the lock
    "SET client_encoding = 'UTF8'",
)


def engine(address: str) -> sql.Engine:
    """An engine that has connected once. Raises StoreError where it cannot."""
    name = store_address.shown(address)
    given = {**_DEFAULTS, **store_address.options(address)}
    if not {"sslcert", "sslcertmode"} & given.keys() and psycopg.pq.version() >= _CAN_LEAVE_CERTIFICATES:
        given["sslcertmode"] = "disable"  # else libpq looks for ~/.postgresql, and fails where it may not even look
    try:
        first = _connect(address, given)
    except psycopg.Error as error:
        raise StoreError(f"{name} cannot be reached: {_line(error)}; start it, or see the setting store") from None
    with first:
        if password := first.info.password:
            given["password"] = password  # from ~/.pgpass, maybe
        _check(first, name)
    return sql.create_engine(
        "postgresql+psycopg://",
        creator=functools.partial(_connect, address, given),
        isolation_level="SERIALIZABLE",
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,  # of errors, which are logged
        json_serializer=functools.partial(json.dumps, allow_nan=False),
    )


def _connect(address: str, given: dict[str, str]) -> psycopg.Connection[Any]:
    # prepare_threshold: none of our statements is worth it, and pgbouncer's transactions do not know them.
    connection = psycopg.connect(make_conninfo(address, **given), autocommit=True, prepare_threshold=None)
    for setting in _SETTINGS:
        connection.execute(setting.encode())
    connection.autocommit = False
    return connection


def _check(connection: psycopg.Connection[Any], name: str) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(f"{name} has encoding {encoding}: make a database with ENCODING 'UTF8' for Carrel")


def _line(error: Exception) -> str:
    """The last line of libpq's account, which is of the last address that it tried."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
