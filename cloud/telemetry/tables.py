"""Relational tables of telemetry: who may send, what the series are, what was said beside readings, what was refused.

Times are integer milliseconds UTC. Readings themselves are not here (see `store`).
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql, sqlite

__all__ = [
    "cut",
    "dead_letter",
    "event",
    "gateway",
    "insert_or",
    "loose",
    "metadata",
    "pack",
    "pack_folded",
    "position",
    "sensor_meta",
    "series",
    "status",
]

metadata = MetaData()

gateway = Table(
    "telemetry_gateway",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("farm", String(40), nullable=False),  # farm type: a file name in edge/farms
    Column("region", String(20), nullable=False, index=True),
    Column("site", String(200), nullable=False),  # the place as chain events name it, empty where none passes
    # Needed in clear: both sides of an HMAC hold the same key. Protect the database file accordingly.
    Column("secret", LargeBinary(64), nullable=False),
    Column("max_series", Integer, nullable=False),
    Column("added_ms", BigInteger, nullable=False),
    Column("disabled_ms", BigInteger),
)
series = Table(
    "telemetry_series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("gateway", ForeignKey("telemetry_gateway.id"), nullable=False),
    Column("name", String(96), nullable=False),
    Column("unit", String(40), nullable=False),
    Column("calibration", String(200)),  # the one last named by a reading
    Column("first_ms", BigInteger, nullable=False),
    UniqueConstraint("gateway", "name"),
    sqlite_autoincrement=True,
)
status = Table(
    "telemetry_status",
    metadata,
    Column("gateway", ForeignKey("telemetry_gateway.id"), primary_key=True),
    Column("state", String(10), nullable=False),
    Column("boot", String(64), nullable=False),
    Column("version", String(40), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("body", JSON, nullable=False),
)
sensor_meta = Table(
    "telemetry_sensor_meta",
    metadata,
    Column("gateway", ForeignKey("telemetry_gateway.id"), primary_key=True),
    Column("sensor", String(64), primary_key=True),
    Column("body", JSON, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
)
event = Table(
    "telemetry_event",
    metadata,
    Column("gateway", ForeignKey("telemetry_gateway.id"), primary_key=True),
    Column("epoch", String(32), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("body", JSON, nullable=False),
    Index("telemetry_event_by_time", "time_ms"),
)
dead_letter = Table(
    "telemetry_dead_letter",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 of topic and payload
    Column("topic", String(300), nullable=False),
    Column("gateway", String(36), index=True),  # as the topic says; it need not exist
    Column("payload", LargeBinary, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("reason", String(40), nullable=False, index=True),
    Column("detail", String(500), nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False, index=True),
    Column("replayed_ms", BigInteger),
)

# The pack ledger of stores that have no transactions of their own (InfluxDB); DuckDB keeps its own beside the readings.
pack = Table(
    "telemetry_pack",
    metadata,
    Column("gateway", String(36), primary_key=True),
    Column("epoch", String(32), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("last", BigInteger, primary_key=True),  # = seq for a pack, the end of the range for a reported gap
    Column("digest", LargeBinary(8)),  # none for a gap
    Column("received_ms", BigInteger, nullable=False),
    Column("position", BigInteger, index=True),  # in the order of storing; none for a gap and before revision 0005
    Column("first_ms", BigInteger),  # of its readings, where it has any
    Column("last_ms", BigInteger),
)
# The same of readings that came without a number, one row for each append and sender.
loose = Table(
    "telemetry_loose",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("gateway", String(36), primary_key=True),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
)
# One row. Whoever appends holds it until the commit, so positions become visible in their order.
position = Table(
    "telemetry_position",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
)
# Up to here everything is accounted for: the rows below need not be read again.
pack_folded = Table(
    "telemetry_pack_folded",
    metadata,
    Column("gateway", String(36), primary_key=True),
    Column("epoch", String(32), primary_key=True),
    Column("upto", BigInteger, nullable=False),
)
cut = Table(
    "telemetry_cut",
    metadata,
    Column("series", Integer, primary_key=True, autoincrement=False),
    Column("time_ms", BigInteger, nullable=False),
)


def insert_or(connection: Connection, table: Table) -> Any:
    """An insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`, for SQLite or PostgreSQL."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
