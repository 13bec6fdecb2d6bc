"""Printed codes and their moves, warnings of the rules, and for which days a list of regions is complete."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_table(
        "chain_code",
        sa.Column("code", sa.String(length=300), nullable=False),
        sa.Column("gtin", sa.String(length=14), nullable=False),
        sa.Column("lot", sa.String(length=20), nullable=False),
        sa.Column("serial", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("moved_ms", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("scratch", sa.LargeBinary(length=32), nullable=True),
        sa.Column("scratch_first_ms", sa.BigInteger(), nullable=True),
        sa.Column("scratch_right", sa.Integer(), nullable=False),
        sa.Column("scratch_wrong", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
    with op.batch_alter_table("chain_code", schema=None) as batch_op:
        batch_op.create_index("chain_code_lot", ["gtin", "lot"], unique=False)

    op.create_table(
        "chain_code_move",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("code", sa.String(length=300), nullable=False),
        sa.Column("move", sa.String(length=10), nullable=False),
        sa.Column("before", sa.String(length=10), nullable=False),
        sa.Column("after", sa.String(length=10), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("moved_by", sa.String(length=120), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    with op.batch_alter_table("chain_code_move", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_chain_code_move_code"), ["code"], unique=False)

    op.create_table(
        "region_complete",
        sa.Column("parent", sa.String(length=40), nullable=False),
        sa.Column("level", sa.String(length=20), nullable=False),
        sa.Column("from_day", sa.String(length=10), nullable=False),
        sa.Column("until_day", sa.String(length=10), nullable=False),
        sa.PrimaryKeyConstraint("parent", "level", "from_day", "until_day"),
    )
    op.create_table(
        "chain_warning",
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["place"],
            ["chain_event.place"],
        ),
        sa.PrimaryKeyConstraint("place"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("chain_warning")
    op.drop_table("region_complete")
    with op.batch_alter_table("chain_code_move", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_chain_code_move_code"))

    op.drop_table("chain_code_move")
    with op.batch_alter_table("chain_code", schema=None) as batch_op:
        batch_op.drop_index("chain_code_lot")

    op.drop_table("chain_code")
