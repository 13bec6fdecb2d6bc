"""What stands under which chain's rules, so that capture need not search for it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and fill it from the events there are."""
    op.create_table(
        "chain_ruled",
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("chain", sa.String(length=20), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.execute(
        "INSERT INTO chain_ruled (name, chain, place) SELECT n.name, e.chain, n.place FROM "
        "(SELECT t.thing AS name, max(t.place) AS place FROM chain_thing t JOIN chain_event e ON e.place = t.place "
        "WHERE e.chain IN ('pork', 'eggs', 'citrus', 'fish') GROUP BY t.thing) n "
        "JOIN chain_event e ON e.place = n.place"
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("chain_ruled")
