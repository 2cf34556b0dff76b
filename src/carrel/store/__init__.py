"""The store: pools, groups, roles, principals and what belongs to them, in SQLite or PostgreSQL. Everybody else imports from here."""

from carrel.store.database import Store
from carrel.store.records import (
    AssignmentRecord,
    CredentialRecord,
    GrantRecord,
    GroupRecord,
    JournalRecord,
    LogRecord,
    OperationRecord,
    PoolId,
    PoolRecord,
    PrincipalRecord,
    SeedRecord,
    Stamp,
    UsageRecord,
    UsageSum,
)
from carrel.store.transaction import Transaction
from carrel.store.troubles import StoreError
from carrel.store.usage_repositories import LogFilter, UsageFilter

__all__ = [
    "AssignmentRecord",
    "CredentialRecord",
    "GrantRecord",
    "GroupRecord",
    "JournalRecord",
    "LogFilter",
    "LogRecord",
    "OperationRecord",
    "PoolId",
    "PoolRecord",
    "PrincipalRecord",
    "SeedRecord",
    "Stamp",
    "Store",
    "StoreError",
    "Transaction",
    "UsageFilter",
    "UsageRecord",
    "UsageSum",
]
