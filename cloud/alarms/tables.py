"""Relational tables of alarms. Times are integer milliseconds UTC; `at` and `raised` are event time."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["alarm", "cursor", "insert_or", "message", "metadata", "receiver", "shelf", "state", "step", "trouble"]

metadata = MetaData()

# What a rule remembers, without its samples: those are read again from the readings store.
state = Table(
    "alarm_state",
    metadata,
    Column("gateway", String(36), primary_key=True),
    Column("rule", String(48), primary_key=True),
    Column("document", JSON, nullable=False),
)
# One row: everything that was stored up to this position of the readings store has been judged.
cursor = Table(
    "alarm_cursor",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
)
alarm = Table(
    "alarm",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("gateway", String(36), nullable=False),
    Column("rule", String(48), nullable=False),
    Column("region", String(20), nullable=False),
    Column("severity", String(10), nullable=False),
    Column("subject", String(300), nullable=False),  # the series the rule looks at: alarms on one subject are a ladder
    Column("texts", JSON, nullable=False),  # as the rule said them then
    Column("values", JSON, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("raised_ms", BigInteger, nullable=False),
    Column("noticed_ms", BigInteger, nullable=False),  # when the cloud found out
    Column("historical", Boolean, nullable=False),  # found out too late to call anybody
    Column("cleared_ms", BigInteger),
    Column("withdrawn_ms", BigInteger),  # later data showed that it was not so
    Column("acknowledged_ms", BigInteger),
    Column("acknowledged_by", String(64)),
    Column("level", Integer, nullable=False),  # receivers of levels below this one have been told
    UniqueConstraint("gateway", "rule", "raised_ms"),
    Index("alarm_open", "cleared_ms", "withdrawn_ms"),
    Index("alarm_region", "region", "id"),
    sqlite_autoincrement=True,
)
step = Table(
    "alarm_step",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("alarm", Integer, nullable=False, index=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("by", String(64), nullable=False),
    Column("note", String(500), nullable=False),
)
shelf = Table(
    "alarm_shelf",
    metadata,
    Column("gateway", String(36), primary_key=True),
    Column("rule", String(48), primary_key=True),  # '*': all rules of the gateway
    Column("until_ms", BigInteger, nullable=False),
    Column("by", String(64), nullable=False),
    Column("reason", String(500), nullable=False),
)
receiver = Table(
    "alarm_receiver",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False),
    Column("kind", String(10), nullable=False),  # webhook, smtp or log
    Column("address", String(500), nullable=False),
    Column("region", String(20), nullable=False),
    Column("severity", String(10), nullable=False),  # the lowest that is sent
    Column("level", Integer, nullable=False),  # 0 is told at once, 1 when nobody acknowledges, and so on
    Column("per_hour", Integer, nullable=False),
    UniqueConstraint("kind", "address", "level"),
)
# Receivers that were not reached last time; whoever is reached again has no row.
trouble = Table(
    "alarm_trouble",
    metadata,
    Column("receiver", Integer, primary_key=True, autoincrement=False),
    Column("failures", Integer, nullable=False),  # tries in a row
    Column("retry_ms", BigInteger, nullable=False),  # not before this time, except with something new
    Column("error", String(300), nullable=False),
)
message = Table(
    "alarm_message",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("receiver", Integer, nullable=False),
    Column("alarm", Integer, nullable=False),
    Column("kind", String(12), nullable=False),  # raised, escalated, cleared
    Column("queued_ms", BigInteger, nullable=False),
    Column("sent_ms", BigInteger),
    Column("failures", Integer, nullable=False),
    UniqueConstraint("receiver", "alarm", "kind"),
    Index("alarm_message_waiting", "sent_ms"),
)


def insert_or(connection: Connection, table: Table) -> Any:
    """An insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`, for SQLite or PostgreSQL."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
