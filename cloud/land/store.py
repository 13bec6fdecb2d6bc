"""Tables of the land context. Times are milliseconds UTC, positions WGS84, areas m2.

Detections, evidence, verdicts and steps are written once. What changes is where a case stands and what the map shows
for a parcel, and both can be derived again from the rest.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "audit_rounds",
    "audit_visits",
    "batches",
    "cases",
    "detections",
    "evidence",
    "metadata",
    "parcels",
    "serials",
    "steps",
    "verdicts",
]

metadata = MetaData()

batches = Table(
    "land_batch",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("imported_ms", BigInteger, nullable=False),
    Column("profile", String(60), nullable=False),
    Column("model", String(120), nullable=False),
    Column("calibration", String(120), nullable=False),
    Column("accuracy", Text, nullable=False),  # "not validated ..." or what the producer measured
    Column("synthetic", Boolean, nullable=False),
)

parcels = Table(
    "parcel",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("region", String(40), nullable=False),
    Column("geometry", Text, nullable=False),  # GeoJSON
    Column("outline", String(64), nullable=False),  # SHA-256 of `geometry`: the survey's line never changes unnoticed
    Column("west", Float, nullable=False),
    Column("south", Float, nullable=False),
    Column("east", Float, nullable=False),
    Column("north", Float, nullable=False),
    Column("area_m2", Float, nullable=False),
    Column("basic_farmland", Boolean, nullable=False),
    Column("synthetic", Boolean, nullable=False),
    Column("status", String(20), nullable=False),
    Column("verified", Boolean, nullable=False),  # the status rests on a person's verdict
    Column("detection", String(64)),
    Index("parcel_region", "region", "id"),
    Index("parcel_box", "west", "south"),
)

detections = Table(
    "detection",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("batch", ForeignKey("land_batch.id"), nullable=False),
    Column("parcel", ForeignKey("parcel.id"), nullable=False),
    Column("crop_year", Integer, nullable=False),
    Column("class_name", String(20), nullable=False),
    Column("observability", String(20), nullable=False),
    Column("probability", Float),  # of class "abandoned"; None where there is none
    Column("record", Text, nullable=False),  # the whole finding as it came, canonical JSON
    Column("imported_ms", BigInteger, nullable=False),
    Index("detection_parcel", "parcel", "crop_year"),
)

cases = Table(
    "land_case",
    metadata,
    Column("id", String(60), primary_key=True),
    Column("parcel", ForeignKey("parcel.id"), nullable=False),
    Column("region", String(40), nullable=False),
    Column("state", String(24), nullable=False),
    Column("crop_year", Integer, nullable=False),
    Column("detection", ForeignKey("detection.id")),
    Column("probability", Float),
    Column("issuer", String(64)),
    Column("collector", String(64)),
    Column("opened_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("issued_ms", BigInteger),
    Column("remedying_ms", BigInteger),
    Column("due_ms", BigInteger),
    Column("closed_ms", BigInteger),
    Column("recheck_ms", BigInteger),
    Column("merged_into", String(60)),
    Column("verdict", String(20)),
    Column("reminder", Integer, nullable=False),  # 0 in time; else 1 + the level up to which it was told
    Column("times_late", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Index("land_case_region", "region", "opened_ms", "id"),
    Index("land_case_parcel", "parcel"),
    Index("land_case_state", "state"),
)

steps = Table(
    "case_step",
    metadata,
    Column("case", ForeignKey("land_case.id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(64), nullable=False),
    Column("action", String(24), nullable=False),
    Column("before", String(24), nullable=False),
    Column("after", String(24), nullable=False),
    Column("note", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

evidence = Table(
    "evidence",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("case", ForeignKey("land_case.id")),  # None: filed on a blind audit visit
    Column("parcel", ForeignKey("parcel.id"), nullable=False),
    Column("collector", String(64), nullable=False),
    Column("taken_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("lon", Float, nullable=False),
    Column("lat", Float, nullable=False),
    Column("raw_lon", Float, nullable=False),
    Column("raw_lat", Float, nullable=False),
    Column("datum", String(10), nullable=False),
    Column("accuracy_m", Float),
    Column("azimuth_deg", Float),
    Column("view", String(10), nullable=False),
    Column("origin", String(20), nullable=False),
    Column("phase", String(24), nullable=False),
    Column("photo_sha256", String(64), nullable=False),
    Column("media_type", String(20), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("look", String(16), nullable=False),  # difference hash of the picture, hex
    Column("distance_m", Float, nullable=False),
    Column("flags", Text, nullable=False),
    UniqueConstraint("photo_sha256", name="evidence_photo_once"),
    Index("evidence_case", "case"),
    Index("evidence_parcel", "parcel", "taken_ms"),
)

verdicts = Table(
    "verdict",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("case", ForeignKey("land_case.id"), nullable=False),
    Column("parcel", ForeignKey("parcel.id"), nullable=False),
    Column("signer", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("crop_year", Integer, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("withdrawn_ms", BigInteger),
    Index("verdict_case", "case"),
    Index("verdict_parcel", "parcel", "at_ms"),
)

audit_rounds = Table(
    "audit_round",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("region", String(40), nullable=False),
    Column("made_ms", BigInteger, nullable=False),
    Column("made_by", String(64), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("strata", Text, nullable=False),  # name -> parcels, area_m2 on the day of the draw
)

audit_visits = Table(
    "audit_visit",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("round", ForeignKey("audit_round.id"), nullable=False),
    Column("parcel", ForeignKey("parcel.id"), nullable=False),
    Column("region", String(40), nullable=False),
    Column("stratum", String(20), nullable=False),
    Column("area_m2", Float, nullable=False),
    Column("found", String(20)),
    Column("visitor", String(64)),
    Column("evidence", ForeignKey("evidence.id")),
    Column("at_ms", BigInteger),
    Index("audit_visit_round", "round"),
    Index("audit_visit_region", "region"),
)

# Case numbers run by county and year without a gap in use.
serials = Table(
    "case_serial",
    metadata,
    Column("series", String(20), primary_key=True),
    Column("last", Integer, nullable=False),
)
