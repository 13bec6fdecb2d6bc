"""Events are found by a number made of their id, and only entries that are no events by their leaf hash.

Both were long random keys in unique indexes, which cost a capture more than its rows.
"""

from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NO_EVENT = sa.text("leaf IS NOT NULL")
_DECLARES = sa.text("declares = 1")
_PLACE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TABLES = ("chain_entry", "chain_event", "chain_thing", "chain_warning")
_EVENT = "place, event_id, declares, chain, kind, step, when_ms, recorded_ms, captured_by, body, context, secrets"


def upgrade() -> None:
    """Make the change; every event is read once."""
    if op.get_bind().dialect.name == "sqlite":
        _anew(keyed=True)
    else:
        op.add_column("chain_event", sa.Column("id_key", sa.BigInteger(), nullable=True))
        op.execute(
            "UPDATE chain_event SET id_key = "
            "('x' || encode(substr(sha256(convert_to(event_id, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint"
        )
        op.alter_column("chain_event", "id_key", nullable=False)
        op.drop_constraint("chain_event_event_id_declares_key", "chain_event", type_="unique")
        op.drop_constraint("chain_entry_leaf_key", "chain_entry", type_="unique")
        op.alter_column("chain_entry", "leaf", nullable=True)
        op.execute("UPDATE chain_entry SET leaf = NULL WHERE place IN (SELECT place FROM chain_event)")
    op.create_index(
        "chain_entry_leaf",
        "chain_entry",
        ["leaf"],
        unique=True,
        sqlite_where=_NO_EVENT,
        postgresql_where=_NO_EVENT,
    )
    op.create_index("chain_event_id", "chain_event", ["id_key"])
    op.create_index(
        "chain_event_wrong", "chain_event", ["event_id"], sqlite_where=_DECLARES, postgresql_where=_DECLARES
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_index("chain_event_wrong", "chain_event")
    op.drop_index("chain_event_id", "chain_event")
    op.drop_index("chain_entry_leaf", "chain_entry")
    if op.get_bind().dialect.name == "sqlite":
        _anew(keyed=False)
        return
    op.drop_column("chain_event", "id_key")
    op.execute("UPDATE chain_entry SET leaf = sha256('\\x00'::bytea || entry) WHERE leaf IS NULL")
    op.alter_column("chain_entry", "leaf", nullable=False)
    op.create_unique_constraint("chain_entry_leaf_key", "chain_entry", ["leaf"])
    op.create_unique_constraint("chain_event_event_id_declares_key", "chain_event", ["event_id", "declares"])


def _anew(*, keyed: bool) -> None:
    """Make the four tables anew, with or without the keys: SQLite lets no index of a constraint be dropped.

    Each has the foreign key of the one before, so they change places together.
    """
    db = op.get_bind()
    driver: Any = db.connection.driver_connection
    driver.create_function("id_key", 1, _id_key, deterministic=True)
    driver.create_function("leaf_hash", 1, _leaf_hash, deterministic=True)
    for name in ("ix_chain_event_when_ms", "ix_chain_event_recorded_ms"):
        op.drop_index(name, "chain_event")
    op.drop_index("chain_thing_by_event", "chain_thing")
    for name in _TABLES:
        op.rename_table(name, f"{name}_of_before")
    _create(keyed=keyed)
    key = ("CASE WHEN v.place IS NULL THEN n.leaf END", ", id_key(event_id)") if keyed else ("leaf_hash(n.entry)", "")
    op.execute(
        f"INSERT INTO chain_entry (place, leaf, entry) SELECT n.place, {key[0]}, n.entry "  # noqa: S608 - our own text
        "FROM chain_entry_of_before n LEFT JOIN chain_event_of_before v ON v.place = n.place ORDER BY n.place"
    )
    columns = f"{_EVENT}, id_key" if keyed else _EVENT
    op.execute(
        f"INSERT INTO chain_event ({columns}) SELECT {_EVENT}{key[1]} "  # noqa: S608 - as above
        "FROM chain_event_of_before ORDER BY place"
    )
    op.execute("INSERT INTO chain_thing (thing, place, role) SELECT thing, place, role FROM chain_thing_of_before")
    op.execute("INSERT INTO chain_warning (place, findings) SELECT place, findings FROM chain_warning_of_before")
    for name in reversed(_TABLES):
        op.drop_table(f"{name}_of_before")
    op.create_index("ix_chain_event_when_ms", "chain_event", ["when_ms"])
    op.create_index("ix_chain_event_recorded_ms", "chain_event", ["recorded_ms"])
    op.create_index("chain_thing_by_event", "chain_thing", ["place"])


def _create(*, keyed: bool) -> None:
    op.create_table(
        "chain_entry",
        sa.Column("place", _PLACE, autoincrement=False, nullable=False),
        sa.Column("leaf", sa.LargeBinary(length=32), nullable=keyed),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("place"),
        *([] if keyed else [sa.UniqueConstraint("leaf")]),
    )
    op.create_table(
        "chain_event",
        sa.Column("place", _PLACE, autoincrement=False, nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("declares", sa.Integer(), nullable=False),
        sa.Column("chain", sa.String(length=20), nullable=False),
        sa.Column("kind", sa.String(length=200), nullable=False),
        sa.Column("step", sa.String(length=200), nullable=False),
        sa.Column("when_ms", sa.BigInteger(), nullable=False),
        sa.Column("recorded_ms", sa.BigInteger(), nullable=False),
        sa.Column("captured_by", sa.String(length=120), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("secrets", sa.Text(), nullable=False),
        *([sa.Column("id_key", sa.BigInteger(), nullable=False)] if keyed else []),
        sa.ForeignKeyConstraint(["place"], ["chain_entry.place"]),
        sa.PrimaryKeyConstraint("place"),
        *([] if keyed else [sa.UniqueConstraint("event_id", "declares")]),
    )
    op.create_table(
        "chain_thing",
        sa.Column("thing", sa.String(length=300), nullable=False),
        sa.Column("place", _PLACE, autoincrement=False, nullable=False),
        sa.Column("role", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["place"], ["chain_event.place"]),
        sa.PrimaryKeyConstraint("thing", "place"),
    )
    op.create_table(
        "chain_warning",
        sa.Column("place", _PLACE, autoincrement=False, nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["place"], ["chain_event.place"]),
        sa.PrimaryKeyConstraint("place"),
    )


def _id_key(event_id: str) -> int:
    return int.from_bytes(sha256(event_id.encode(errors="surrogatepass")).digest()[:8], "big", signed=True)


def _leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()
