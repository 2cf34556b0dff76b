"""What sessions use, session logs, and how far the journals of hosts have been taken in."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0002"
down_revision = "0001"

TEXT = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")
SUMS = ("session_us", "cpu_us", "sessions", "executions", "failed", "bytes_in", "bytes_out", "peak")


def upgrade() -> None:
    op.create_table(
        "usage",
        *(_key("key"), _text("pool"), _indexed("pool_key"), _text("principal"), _indexed("day")),
        *(sql.Column(name, sql.BigInteger, nullable=False) for name in SUMS),
    )
    op.create_table(
        "session_logs",
        *(_key("key"), _text("pool"), _text("pool_key"), sql.Column("at", sql.Double, nullable=False)),
        *(_text("identifier"), _text("principal"), _text("status")),
        *(sql.Column("expires_at", sql.Double, nullable=False, index=True),),
        sql.Column("fields", sql.JSON, nullable=False),
        sql.Index("session_logs_of_a_pool", "pool_key", "at"),
    )
    op.create_table("journals", _key("id"), sql.Column("place", sql.BigInteger, nullable=False))


def _key(name: str) -> sql.Column[str]:
    return sql.Column(name, TEXT, primary_key=True)


def _text(name: str) -> sql.Column[str]:
    return sql.Column(name, TEXT, nullable=False)


def _indexed(name: str) -> sql.Column[str]:
    return sql.Column(name, TEXT, nullable=False, index=True)
