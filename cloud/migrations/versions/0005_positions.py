"""The order of storing in the ledger of readings, and how far the alarms have come in it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change; packs of before have no position and count as judged."""
    with op.batch_alter_table("telemetry_pack", schema=None) as batch_op:
        for name in ("position", "first_ms", "last_ms"):
            batch_op.add_column(sa.Column(name, sa.BigInteger(), nullable=True))
        batch_op.create_index(batch_op.f("ix_telemetry_pack_position"), ["position"], unique=False)
    op.create_table(
        "telemetry_loose",
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("position", "gateway"),
    )
    op.create_table(
        "telemetry_position",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "alarm_cursor",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("alarm_cursor")
    op.drop_table("telemetry_position")
    op.drop_table("telemetry_loose")
    with op.batch_alter_table("telemetry_pack", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_telemetry_pack_position"))
        for name in ("last_ms", "first_ms", "position"):
            batch_op.drop_column(name)
