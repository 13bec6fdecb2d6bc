"""Where in the journal each year's log begins; the process that owns the log writes the first row."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "chain_shard",
        sa.Column("year", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_place", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("year"),
    )


def downgrade() -> None:
    """Take it back. The journal cannot tell any more where its years begin: only for a log with one year."""
    op.drop_table("chain_shard")
