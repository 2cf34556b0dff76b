"""The first schema. Frozen by its release: what changes later is a migration of its own, in a file of its own beside this one.

tests/store/0001.*.sql are databases that this one made (tools/freeze_store.py).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None

TEXT = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table("meta", _key("name"), _text("value"))
    op.create_table(
        "groups",
        *(_key("key"), _text("subscription"), _text("name"), _text("location"), _json("tags")),
        *(*_stamp("created"), *_stamp("modified"), _text("etag")),
    )
    op.create_table(
        "pools",
        *(_key("key"), _text("subscription"), _text("resource_group"), _text("name"), _text("location"), _json("tags")),
        *(_json("properties"), _text("secrets"), _text("mcp_key"), _text("state"), _text("error")),
        *(*_stamp("created"), *_stamp("modified"), _text("etag")),
    )
    op.create_table(
        "assignments",
        *(_key("key"), _text("id"), _text("scope"), _indexed("scope_key"), _text("role_id")),
        *(_text("principal_id"), _indexed("principal_key"), _text("principal_kind"), _text("description")),
        *_stamp("created"),
    )
    op.create_table(
        "principals",
        *(_key("key"), _text("id"), _text("kind"), _text("app_id"), _indexed("app_key"), _text("user_name")),
        *(_indexed("user_key"), _text("display_name"), sql.Column("is_enabled", sql.Boolean, nullable=False)),
        *(_time("created_at"), _json("groups")),
    )
    owner = sql.ForeignKey("principals.key", ondelete="CASCADE")
    op.create_table(
        "credentials",
        *(_key("key"), _text("id"), _text("principal_id")),
        sql.Column("principal_key", TEXT, owner, nullable=False, index=True),
        *(_text("digest"), _text("hint"), _time("created_at"), _time("expires_at", nullable=True)),
    )
    op.create_table(
        "grants",
        *(_key("digest"), _text("kind"), _text("client_id"), _text("principal_id"), _indexed("principal_key")),
        *(_text("scope"), _text("state"), _time("created_at")),
        *(sql.Column("expires_at", sql.Double, nullable=False, index=True), _json("fields")),
    )
    op.create_table(
        "operations",
        *(_key("key"), _text("id"), sql.Column("pool", TEXT), sql.Column("pool_key", TEXT, index=True)),
        *(_text("kind"), _text("state"), _text("error"), _time("started_at"), _time("ended_at", nullable=True)),
        *(_text("target"), _text("by")),
    )
    op.create_table("seeds", _key("name"), _text("digest"))


def _key(name: str) -> sql.Column[str]:
    return sql.Column(name, TEXT, primary_key=True)


def _text(name: str) -> sql.Column[str]:
    return sql.Column(name, TEXT, nullable=False)


def _indexed(name: str) -> sql.Column[str]:
    return sql.Column(name, TEXT, nullable=False, index=True)


def _time(name: str, *, nullable: bool = False) -> sql.Column[float]:
    return sql.Column(name, sql.Double, nullable=nullable)


def _json(name: str) -> sql.Column[Any]:
    return sql.Column(name, sql.JSON, nullable=False)


def _stamp(name: str) -> tuple[sql.Column[Any], ...]:
    return _text(f"{name}_by"), _text(f"{name}_kind"), _time(f"{name}_at")
