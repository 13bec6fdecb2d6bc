"""Relational tables of steering. Times are integer milliseconds UTC. Nothing here is ever removed: it is the record."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table

__all__ = ["applied", "command", "metadata", "wanted"]

metadata = MetaData()

command = Table(
    "steering_command",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("gateway", String(36), nullable=False),
    Column("region", String(20), nullable=False),  # where the gateway stood when it was asked for
    Column("target", String(64), nullable=False),
    Column("operation", String(10), nullable=False),
    Column("value", Float),
    Column("not_before_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("by", String(64), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("asked_ms", BigInteger, nullable=False),
    Column("sent_ms", BigInteger),  # when the broker last took it
    Column("sendings", Integer, nullable=False),
    Column("state", String(10), nullable=False),
    Column("said", String(300), nullable=False),  # the gateway's reason, or ours
    Column("said_ms", BigInteger),
    Column("proved", Boolean, nullable=False),  # the last word was signed by the gateway
    Index("steering_command_of", "gateway", "asked_ms"),
    Index("steering_command_open", "state"),
)
wanted = Table(
    "steering_wanted",
    metadata,
    Column("gateway", String(36), primary_key=True),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("body", JSON, nullable=False),
    Column("by", String(64), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("asked_ms", BigInteger, nullable=False),
    Column("sent_ms", BigInteger),
    Index("steering_wanted_unsent", "sent_ms"),
)
applied = Table(
    "steering_applied",
    metadata,
    Column("gateway", String(36), primary_key=True),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("outcome", String(12), primary_key=True),
    Column("reason", String(500), nullable=False),
    Column("effective", BigInteger),  # not known from an event, which is not signed
    Column("time_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("proved", Boolean, nullable=False),
)
