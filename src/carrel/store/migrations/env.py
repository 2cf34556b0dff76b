"""What Alembic runs: the migrations that are missing, in the transaction of whoever asked (schema.py)."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
