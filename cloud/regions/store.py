"""Tables of the administrative tree. Days are ISO text (see `cloud.regions.tree`)."""

from sqlalchemy import Column, Index, Integer, MetaData, String, Table, Text

__all__ = ["closure_table", "complete_table", "lists_table", "metadata", "regions_table", "successions_table"]

metadata = MetaData()

regions_table = Table(
    "region",
    metadata,
    Column("code", String(40), primary_key=True),
    Column("valid_from", String(10), primary_key=True),
    Column("valid_to", String(10), nullable=False),
    Column("name_zh", String(100), nullable=False),
    Column("level", String(20), nullable=False),
    Column("parent", String(40)),
    Index("region_parent", "parent"),
)

successions_table = Table(
    "region_succession",
    metadata,
    Column("old", String(40), primary_key=True),
    Column("new", String(40), primary_key=True),
    Column("on_day", String(10), primary_key=True),
    Column("why", Text, nullable=False),
)

# The last day on which a list spoke for all regions of one level below one parent ("" for the roots).
lists_table = Table(
    "region_list",
    metadata,
    Column("parent", String(40), primary_key=True),
    Column("level", String(20), primary_key=True),
    Column("on_day", String(10), nullable=False),
)

# Days (both included) on which the register is declared to hold every region of one level below one parent.
complete_table = Table(
    "region_complete",
    metadata,
    Column("parent", String(40), primary_key=True),
    Column("level", String(20), primary_key=True),
    Column("from_day", String(10), primary_key=True),
    Column("until_day", String(10), primary_key=True),
)

closure_table = Table(
    "region_closure",
    metadata,
    Column("ancestor", String(40), primary_key=True),
    Column("descendant", String(40), primary_key=True),
    Column("depth", Integer, primary_key=True),
    Column("valid_from", String(10), primary_key=True),
    Column("valid_to", String(10), nullable=False),
    Index("region_closure_descendant", "descendant"),
)
