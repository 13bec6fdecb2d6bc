"""Tables of the catalogue. Times are milliseconds UTC."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

__all__ = ["datasets", "metadata", "packages", "uses"]

metadata = MetaData()

datasets = Table(
    "dataset",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("title_zh", String(200), nullable=False),
    Column("title_en", String(200), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("source", String(200), nullable=False),
    Column("standard", String(200), nullable=False),
    Column("rhythm", String(60), nullable=False),
    Column("level", String(2), nullable=False),
)

# One row for each person, dataset and day: enough to count, too little to follow anybody's hour.
uses = Table(
    "dataset_use",
    metadata,
    Column("dataset", ForeignKey("dataset.id"), primary_key=True),
    Column("who", String(64), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("calls", Integer, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
)

packages = Table(
    "return_package",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("region", String(40), nullable=False),
    Column("made_ms", BigInteger, nullable=False),
    Column("made_by", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("previous", String(64)),
    Column("files", Text, nullable=False),
    Index("return_package_region", "region", "made_ms"),
)
