"""The tables, as the code of this version uses them. The truth of what is in the database are the migrations; a test compares both.

A column `key` holds what is compared: the lower case of the id that another column keeps as it was written.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from carrel import accounts


class Words(TypeDecorator[str]):
    """Text that both databases take: PostgreSQL has no NUL in a text, neither has lone surrogates."""

    impl = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")  # both sort by bytes
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        text = str(value)
        if "\0" in text or not _is_unicode(text):
            raise ValueError("a text with NUL or lone surrogates cannot be stored")
        return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


metadata = sql.MetaData()


def _key() -> sql.Column[str]:
    return sql.Column("key", Words, primary_key=True)


def _words(name: str, *, index: bool = False) -> sql.Column[str]:
    return sql.Column(name, Words, nullable=False, index=index)


def _time(name: str, *, nullable: bool = False) -> sql.Column[float]:
    return sql.Column(name, sql.Double, nullable=nullable)


def _json(name: str) -> sql.Column[Any]:
    return sql.Column(name, sql.JSON, nullable=False)


def _stamp(name: str) -> tuple[sql.Column[Any], ...]:
    return _words(f"{name}_by"), _words(f"{name}_kind"), _time(f"{name}_at")


meta = sql.Table("meta", metadata, sql.Column("name", Words, primary_key=True), _words("value"))

groups = sql.Table(
    "groups",
    metadata,
    *(_key(), _words("subscription"), _words("name"), _words("location"), _json("tags")),
    *(*_stamp("created"), *_stamp("modified"), _words("etag")),
)

pools = sql.Table(
    "pools",
    metadata,
    *(_key(), _words("subscription"), _words("resource_group"), _words("name"), _words("location"), _json("tags")),
    *(_json("properties"), _words("secrets"), _words("mcp_key"), _words("state"), _words("error")),
    *(*_stamp("created"), *_stamp("modified"), _words("etag")),
)

assignments = sql.Table(
    "assignments",
    metadata,
    *(_key(), _words("id"), _words("scope"), _words("scope_key", index=True), _words("role_id")),
    *(_words("principal_id"), _words("principal_key", index=True), _words("principal_kind"), _words("description")),
    *_stamp("created"),
)

principals = sql.Table(
    "principals",
    metadata,
    *(_key(), _words("id"), _words("kind"), _words("app_id"), _words("app_key", index=True), _words("user_name")),
    *(_words("user_key", index=True), _words("display_name"), sql.Column("is_enabled", sql.Boolean, nullable=False)),
    *(_time("created_at"), _json("groups")),
)

credentials = sql.Table(
    "credentials",
    metadata,
    *(_key(), _words("id"), _words("principal_id")),
    sql.Column(
        "principal_key", Words, sql.ForeignKey("principals.key", ondelete="CASCADE"), nullable=False, index=True
    ),
    *(_words("digest"), _words("hint"), _time("created_at"), _time("expires_at", nullable=True)),
)

grants = sql.Table(
    "grants",
    metadata,
    sql.Column("digest", Words, primary_key=True),
    *(_words("kind"), _words("client_id"), _words("principal_id"), _words("principal_key", index=True)),
    *(_words("scope"), _words("state"), _time("created_at")),
    sql.Column("expires_at", sql.Double, nullable=False, index=True),
    _json("fields"),
)

operations = sql.Table(
    "operations",
    metadata,
    *(_key(), _words("id"), sql.Column("pool", Words), sql.Column("pool_key", Words, index=True)),
    *(_words("kind"), _words("state"), _words("error"), _time("started_at"), _time("ended_at", nullable=True)),
    *(_words("target"), _words("by")),
)

seeds = sql.Table("seeds", metadata, sql.Column("name", Words, primary_key=True), _words("digest"))

usage = sql.Table(
    "usage",
    metadata,
    *(_key(), _words("pool"), _words("pool_key", index=True), _words("principal"), _words("day", index=True)),
    *(sql.Column(name, sql.BigInteger, nullable=False) for name in accounts.NAMES),
)

session_logs = sql.Table(
    "session_logs",
    metadata,
    *(_key(), _words("pool"), _words("pool_key"), _time("at"), _words("identifier"), _words("principal")),
    *(_words("status"), sql.Column("expires_at", sql.Double, nullable=False, index=True), _json("fields")),
    sql.Index("session_logs_of_a_pool", "pool_key", "at"),
)

journals = sql.Table(
    "journals",
    metadata,
    *(sql.Column("id", Words, primary_key=True), sql.Column("place", sql.BigInteger, nullable=False)),
)

NAMES = frozenset(metadata.tables)  # and the tables of earlier schemas, should there be any that this one lacks
