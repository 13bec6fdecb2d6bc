"""Receivers of alarms that could not be reached, and when they are tried again."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; until they fail, all receivers count as reachable."""
    op.create_table(
        "alarm_trouble",
        sa.Column("receiver", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("retry_ms", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.String(length=300), nullable=False),
        sa.PrimaryKeyConstraint("receiver"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("alarm_trouble")
