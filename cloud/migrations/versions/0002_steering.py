"""Commands and configurations; alarms by region."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "steering_applied",
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.String(length=12), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("effective", sa.BigInteger(), nullable=True),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("proved", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("gateway", "revision", "outcome"),
    )
    op.create_table(
        "steering_command",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("region", sa.String(length=20), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=10), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("asked_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.Column("sendings", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("said", sa.String(length=300), nullable=False),
        sa.Column("said_ms", sa.BigInteger(), nullable=True),
        sa.Column("proved", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("steering_command", schema=None) as batch_op:
        batch_op.create_index("steering_command_of", ["gateway", "asked_ms"], unique=False)
        batch_op.create_index("steering_command_open", ["state"], unique=False)

    op.create_table(
        "steering_wanted",
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("asked_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("gateway", "revision"),
    )
    with op.batch_alter_table("steering_wanted", schema=None) as batch_op:
        batch_op.create_index("steering_wanted_unsent", ["sent_ms"], unique=False)

    with op.batch_alter_table("alarm", schema=None) as batch_op:
        batch_op.create_index("alarm_region", ["region", "id"], unique=False)


def downgrade() -> None:
    """Take it back."""
    with op.batch_alter_table("alarm", schema=None) as batch_op:
        batch_op.drop_index("alarm_region")

    with op.batch_alter_table("steering_wanted", schema=None) as batch_op:
        batch_op.drop_index("steering_wanted_unsent")

    op.drop_table("steering_wanted")
    with op.batch_alter_table("steering_command", schema=None) as batch_op:
        batch_op.drop_index("steering_command_open")
        batch_op.drop_index("steering_command_of")

    op.drop_table("steering_command")
    op.drop_table("steering_applied")
