"""Every table of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:  # noqa: PLR0915 - one statement for each table
    """Make the change."""
    op.create_table(
        "alarm",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("rule", sa.String(length=48), nullable=False),
        sa.Column("region", sa.String(length=20), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("texts", sa.JSON(), nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("raised_ms", sa.BigInteger(), nullable=False),
        sa.Column("noticed_ms", sa.BigInteger(), nullable=False),
        sa.Column("historical", sa.Boolean(), nullable=False),
        sa.Column("cleared_ms", sa.BigInteger(), nullable=True),
        sa.Column("withdrawn_ms", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_ms", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=64), nullable=True),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("gateway", "rule", "raised_ms"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("alarm", schema=None) as batch_op:
        batch_op.create_index("alarm_open", ["cleared_ms", "withdrawn_ms"], unique=False)

    op.create_table(
        "alarm_message",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("receiver", sa.Integer(), nullable=False),
        sa.Column("alarm", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("queued_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("receiver", "alarm", "kind"),
    )
    with op.batch_alter_table("alarm_message", schema=None) as batch_op:
        batch_op.create_index("alarm_message_waiting", ["sent_ms"], unique=False)

    op.create_table(
        "alarm_receiver",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("address", sa.String(length=500), nullable=False),
        sa.Column("region", sa.String(length=20), nullable=False),
        sa.Column("severity", sa.String(length=10), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("per_hour", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "address", "level"),
    )
    op.create_table(
        "alarm_shelf",
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("rule", sa.String(length=48), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("gateway", "rule"),
    )
    op.create_table(
        "alarm_state",
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("rule", sa.String(length=48), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("gateway", "rule"),
    )
    op.create_table(
        "alarm_step",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("alarm", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("alarm_step", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_alarm_step_alarm"), ["alarm"], unique=False)

    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("what", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("region", sa.String(length=40), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index("audit_subject", ["subject"], unique=False)

    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "audit_round",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=40), nullable=False),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("strata", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "case_serial",
        sa.Column("series", sa.String(length=20), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("series"),
    )
    op.create_table(
        "chain_capture",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("finished_ms", sa.BigInteger(), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("behaviour", sa.String(length=10), nullable=False),
        sa.Column("errors", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("chain_capture", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_chain_capture_created_ms"), ["created_ms"], unique=False)

    op.create_table(
        "chain_entry",
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("leaf", sa.LargeBinary(length=32), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("place"),
        sa.UniqueConstraint("leaf"),
    )
    op.create_table(
        "chain_product",
        sa.Column("gtin", sa.String(length=14), nullable=False),
        sa.Column("zh", sa.String(length=100), nullable=False),
        sa.Column("en", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("gtin"),
    )
    op.create_table(
        "chain_query",
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "chain_record",
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("when_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("gateway", "epoch", "seq"),
    )
    op.create_table(
        "chain_refusal",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("chain", sa.String(length=20), nullable=False),
        sa.Column("tried_ms", sa.BigInteger(), nullable=False),
        sa.Column("tried_by", sa.String(length=120), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("event_id"),
    )
    op.create_table(
        "chain_report",
        sa.Column("receipt", sa.String(length=20), nullable=False),
        sa.Column("code", sa.String(length=300), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("told_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("receipt"),
    )
    op.create_table(
        "chain_scan",
        sa.Column("code", sa.String(length=300), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
    op.create_table(
        "dataset",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("title_zh", sa.String(length=200), nullable=False),
        sa.Column("title_en", sa.String(length=200), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("standard", sa.String(length=200), nullable=False),
        sa.Column("rhythm", sa.String(length=60), nullable=False),
        sa.Column("level", sa.String(length=2), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "job",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=60), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("asked_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_state"), ["state"], unique=False)

    op.create_table(
        "land_batch",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("imported_ms", sa.BigInteger(), nullable=False),
        sa.Column("profile", sa.String(length=60), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("calibration", sa.String(length=120), nullable=False),
        sa.Column("accuracy", sa.Text(), nullable=False),
        sa.Column("synthetic", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "parcel",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("region", sa.String(length=40), nullable=False),
        sa.Column("geometry", sa.Text(), nullable=False),
        sa.Column("outline", sa.String(length=64), nullable=False),
        sa.Column("west", sa.Float(), nullable=False),
        sa.Column("south", sa.Float(), nullable=False),
        sa.Column("east", sa.Float(), nullable=False),
        sa.Column("north", sa.Float(), nullable=False),
        sa.Column("area_m2", sa.Float(), nullable=False),
        sa.Column("basic_farmland", sa.Boolean(), nullable=False),
        sa.Column("synthetic", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("detection", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("parcel", schema=None) as batch_op:
        batch_op.create_index("parcel_box", ["west", "south"], unique=False)
        batch_op.create_index("parcel_region", ["region", "id"], unique=False)

    op.create_table(
        "person",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("password", sa.String(length=200), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("disabled_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "region",
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("valid_from", sa.String(length=10), nullable=False),
        sa.Column("valid_to", sa.String(length=10), nullable=False),
        sa.Column("name_zh", sa.String(length=100), nullable=False),
        sa.Column("level", sa.String(length=20), nullable=False),
        sa.Column("parent", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("code", "valid_from"),
    )
    with op.batch_alter_table("region", schema=None) as batch_op:
        batch_op.create_index("region_parent", ["parent"], unique=False)

    op.create_table(
        "region_closure",
        sa.Column("ancestor", sa.String(length=40), nullable=False),
        sa.Column("descendant", sa.String(length=40), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.String(length=10), nullable=False),
        sa.Column("valid_to", sa.String(length=10), nullable=False),
        sa.PrimaryKeyConstraint("ancestor", "descendant", "depth", "valid_from"),
    )
    with op.batch_alter_table("region_closure", schema=None) as batch_op:
        batch_op.create_index("region_closure_descendant", ["descendant"], unique=False)

    op.create_table(
        "region_list",
        sa.Column("parent", sa.String(length=40), nullable=False),
        sa.Column("level", sa.String(length=20), nullable=False),
        sa.Column("on_day", sa.String(length=10), nullable=False),
        sa.PrimaryKeyConstraint("parent", "level"),
    )
    op.create_table(
        "region_succession",
        sa.Column("old", sa.String(length=40), nullable=False),
        sa.Column("new", sa.String(length=40), nullable=False),
        sa.Column("on_day", sa.String(length=10), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("old", "new", "on_day"),
    )
    op.create_table(
        "return_package",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=40), nullable=False),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=True),
        sa.Column("files", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("return_package", schema=None) as batch_op:
        batch_op.create_index("return_package_region", ["region", "made_ms"], unique=False)

    op.create_table(
        "telemetry_cut",
        sa.Column("series", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("series"),
    )
    op.create_table(
        "telemetry_dead_letter",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("topic", sa.String(length=300), nullable=False),
        sa.Column("gateway", sa.String(length=36), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.String(length=500), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("replayed_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("digest"),
    )
    with op.batch_alter_table("telemetry_dead_letter", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_telemetry_dead_letter_gateway"), ["gateway"], unique=False)
        batch_op.create_index(batch_op.f("ix_telemetry_dead_letter_last_ms"), ["last_ms"], unique=False)
        batch_op.create_index(batch_op.f("ix_telemetry_dead_letter_reason"), ["reason"], unique=False)

    op.create_table(
        "telemetry_gateway",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("farm", sa.String(length=40), nullable=False),
        sa.Column("region", sa.String(length=20), nullable=False),
        sa.Column("site", sa.String(length=200), nullable=False),
        sa.Column("secret", sa.LargeBinary(length=64), nullable=False),
        sa.Column("max_series", sa.Integer(), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.Column("disabled_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("telemetry_gateway", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_telemetry_gateway_region"), ["region"], unique=False)

    op.create_table(
        "telemetry_pack",
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=8), nullable=True),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("gateway", "epoch", "seq", "last"),
    )
    op.create_table(
        "telemetry_pack_folded",
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("gateway", "epoch"),
    )
    op.create_table(
        "chain_event",
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
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
        sa.ForeignKeyConstraint(
            ["place"],
            ["chain_entry.place"],
        ),
        sa.PrimaryKeyConstraint("place"),
        sa.UniqueConstraint("event_id", "declares"),
    )
    with op.batch_alter_table("chain_event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_chain_event_recorded_ms"), ["recorded_ms"], unique=False)
        batch_op.create_index(batch_op.f("ix_chain_event_when_ms"), ["when_ms"], unique=False)

    op.create_table(
        "dataset_use",
        sa.Column("dataset", sa.String(length=80), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"],
            ["dataset.id"],
        ),
        sa.PrimaryKeyConstraint("dataset", "who", "day"),
    )
    op.create_table(
        "detection",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("batch", sa.String(length=32), nullable=False),
        sa.Column("parcel", sa.String(length=80), nullable=False),
        sa.Column("crop_year", sa.Integer(), nullable=False),
        sa.Column("class_name", sa.String(length=20), nullable=False),
        sa.Column("observability", sa.String(length=20), nullable=False),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("imported_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch"],
            ["land_batch.id"],
        ),
        sa.ForeignKeyConstraint(
            ["parcel"],
            ["parcel.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("detection", schema=None) as batch_op:
        batch_op.create_index("detection_parcel", ["parcel", "crop_year"], unique=False)

    op.create_table(
        "person_grant",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("region", sa.String(length=40), nullable=False),
        sa.Column("granted_by", sa.String(length=64), nullable=False),
        sa.Column("granted_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["person"],
            ["person.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("person_grant", schema=None) as batch_op:
        batch_op.create_index("person_grant_person", ["person"], unique=False)

    op.create_table(
        "session",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["person"],
            ["person.id"],
        ),
        sa.PrimaryKeyConstraint("digest"),
    )
    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.create_index("session_person", ["person"], unique=False)

    op.create_table(
        "sign_in_link",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["person"],
            ["person.id"],
        ),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "telemetry_event",
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["gateway"],
            ["telemetry_gateway.id"],
        ),
        sa.PrimaryKeyConstraint("gateway", "epoch", "seq"),
    )
    with op.batch_alter_table("telemetry_event", schema=None) as batch_op:
        batch_op.create_index("telemetry_event_by_time", ["time_ms"], unique=False)

    op.create_table(
        "telemetry_sensor_meta",
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("sensor", sa.String(length=64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["gateway"],
            ["telemetry_gateway.id"],
        ),
        sa.PrimaryKeyConstraint("gateway", "sensor"),
    )
    op.create_table(
        "telemetry_series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("unit", sa.String(length=40), nullable=False),
        sa.Column("calibration", sa.String(length=200), nullable=True),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["gateway"],
            ["telemetry_gateway.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("gateway", "name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "telemetry_status",
        sa.Column("gateway", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["gateway"],
            ["telemetry_gateway.id"],
        ),
        sa.PrimaryKeyConstraint("gateway"),
    )
    op.create_table(
        "chain_thing",
        sa.Column("thing", sa.String(length=300), nullable=False),
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("role", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["place"],
            ["chain_event.place"],
        ),
        sa.PrimaryKeyConstraint("thing", "place"),
    )
    with op.batch_alter_table("chain_thing", schema=None) as batch_op:
        batch_op.create_index("chain_thing_by_event", ["place"], unique=False)

    op.create_table(
        "land_case",
        sa.Column("id", sa.String(length=60), nullable=False),
        sa.Column("parcel", sa.String(length=80), nullable=False),
        sa.Column("region", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("crop_year", sa.Integer(), nullable=False),
        sa.Column("detection", sa.String(length=64), nullable=True),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("issuer", sa.String(length=64), nullable=True),
        sa.Column("collector", sa.String(length=64), nullable=True),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=True),
        sa.Column("remedying_ms", sa.BigInteger(), nullable=True),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("closed_ms", sa.BigInteger(), nullable=True),
        sa.Column("recheck_ms", sa.BigInteger(), nullable=True),
        sa.Column("merged_into", sa.String(length=60), nullable=True),
        sa.Column("verdict", sa.String(length=20), nullable=True),
        sa.Column("reminder", sa.Integer(), nullable=False),
        sa.Column("times_late", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["detection"],
            ["detection.id"],
        ),
        sa.ForeignKeyConstraint(
            ["parcel"],
            ["parcel.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("land_case", schema=None) as batch_op:
        batch_op.create_index("land_case_parcel", ["parcel"], unique=False)
        batch_op.create_index("land_case_region", ["region", "opened_ms", "id"], unique=False)
        batch_op.create_index("land_case_state", ["state"], unique=False)

    op.create_table(
        "case_step",
        sa.Column("case", sa.String(length=60), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=24), nullable=False),
        sa.Column("before", sa.String(length=24), nullable=False),
        sa.Column("after", sa.String(length=24), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case"],
            ["land_case.id"],
        ),
        sa.PrimaryKeyConstraint("case", "seq"),
    )
    op.create_table(
        "evidence",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("case", sa.String(length=60), nullable=True),
        sa.Column("parcel", sa.String(length=80), nullable=False),
        sa.Column("collector", sa.String(length=64), nullable=False),
        sa.Column("taken_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("lon", sa.Float(), nullable=False),
        sa.Column("lat", sa.Float(), nullable=False),
        sa.Column("raw_lon", sa.Float(), nullable=False),
        sa.Column("raw_lat", sa.Float(), nullable=False),
        sa.Column("datum", sa.String(length=10), nullable=False),
        sa.Column("accuracy_m", sa.Float(), nullable=True),
        sa.Column("azimuth_deg", sa.Float(), nullable=True),
        sa.Column("view", sa.String(length=10), nullable=False),
        sa.Column("origin", sa.String(length=20), nullable=False),
        sa.Column("phase", sa.String(length=24), nullable=False),
        sa.Column("photo_sha256", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=20), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("look", sa.String(length=16), nullable=False),
        sa.Column("distance_m", sa.Float(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case"],
            ["land_case.id"],
        ),
        sa.ForeignKeyConstraint(
            ["parcel"],
            ["parcel.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("photo_sha256", name="evidence_photo_once"),
    )
    with op.batch_alter_table("evidence", schema=None) as batch_op:
        batch_op.create_index("evidence_case", ["case"], unique=False)
        batch_op.create_index("evidence_parcel", ["parcel", "taken_ms"], unique=False)

    op.create_table(
        "verdict",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("case", sa.String(length=60), nullable=False),
        sa.Column("parcel", sa.String(length=80), nullable=False),
        sa.Column("signer", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("crop_year", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("withdrawn_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["case"],
            ["land_case.id"],
        ),
        sa.ForeignKeyConstraint(
            ["parcel"],
            ["parcel.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("verdict", schema=None) as batch_op:
        batch_op.create_index("verdict_case", ["case"], unique=False)
        batch_op.create_index("verdict_parcel", ["parcel", "at_ms"], unique=False)

    op.create_table(
        "audit_visit",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("round", sa.String(length=32), nullable=False),
        sa.Column("parcel", sa.String(length=80), nullable=False),
        sa.Column("region", sa.String(length=40), nullable=False),
        sa.Column("stratum", sa.String(length=20), nullable=False),
        sa.Column("area_m2", sa.Float(), nullable=False),
        sa.Column("found", sa.String(length=20), nullable=True),
        sa.Column("visitor", sa.String(length=64), nullable=True),
        sa.Column("evidence", sa.String(length=32), nullable=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["evidence"],
            ["evidence.id"],
        ),
        sa.ForeignKeyConstraint(
            ["parcel"],
            ["parcel.id"],
        ),
        sa.ForeignKeyConstraint(
            ["round"],
            ["audit_round.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("audit_visit", schema=None) as batch_op:
        batch_op.create_index("audit_visit_region", ["region"], unique=False)
        batch_op.create_index("audit_visit_round", ["round"], unique=False)


def downgrade() -> None:  # noqa: PLR0915 - as above
    """Take it back."""
    with op.batch_alter_table("audit_visit", schema=None) as batch_op:
        batch_op.drop_index("audit_visit_round")
        batch_op.drop_index("audit_visit_region")

    op.drop_table("audit_visit")
    with op.batch_alter_table("verdict", schema=None) as batch_op:
        batch_op.drop_index("verdict_parcel")
        batch_op.drop_index("verdict_case")

    op.drop_table("verdict")
    with op.batch_alter_table("evidence", schema=None) as batch_op:
        batch_op.drop_index("evidence_parcel")
        batch_op.drop_index("evidence_case")

    op.drop_table("evidence")
    op.drop_table("case_step")
    with op.batch_alter_table("land_case", schema=None) as batch_op:
        batch_op.drop_index("land_case_state")
        batch_op.drop_index("land_case_region")
        batch_op.drop_index("land_case_parcel")

    op.drop_table("land_case")
    with op.batch_alter_table("chain_thing", schema=None) as batch_op:
        batch_op.drop_index("chain_thing_by_event")

    op.drop_table("chain_thing")
    op.drop_table("telemetry_status")
    op.drop_table("telemetry_series")
    op.drop_table("telemetry_sensor_meta")
    with op.batch_alter_table("telemetry_event", schema=None) as batch_op:
        batch_op.drop_index("telemetry_event_by_time")

    op.drop_table("telemetry_event")
    op.drop_table("sign_in_link")
    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.drop_index("session_person")

    op.drop_table("session")
    with op.batch_alter_table("person_grant", schema=None) as batch_op:
        batch_op.drop_index("person_grant_person")

    op.drop_table("person_grant")
    with op.batch_alter_table("detection", schema=None) as batch_op:
        batch_op.drop_index("detection_parcel")

    op.drop_table("detection")
    op.drop_table("dataset_use")
    with op.batch_alter_table("chain_event", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_chain_event_when_ms"))
        batch_op.drop_index(batch_op.f("ix_chain_event_recorded_ms"))

    op.drop_table("chain_event")
    op.drop_table("telemetry_pack_folded")
    op.drop_table("telemetry_pack")
    with op.batch_alter_table("telemetry_gateway", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_telemetry_gateway_region"))

    op.drop_table("telemetry_gateway")
    with op.batch_alter_table("telemetry_dead_letter", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_telemetry_dead_letter_reason"))
        batch_op.drop_index(batch_op.f("ix_telemetry_dead_letter_last_ms"))
        batch_op.drop_index(batch_op.f("ix_telemetry_dead_letter_gateway"))

    op.drop_table("telemetry_dead_letter")
    op.drop_table("telemetry_cut")
    with op.batch_alter_table("return_package", schema=None) as batch_op:
        batch_op.drop_index("return_package_region")

    op.drop_table("return_package")
    op.drop_table("region_succession")
    op.drop_table("region_list")
    with op.batch_alter_table("region_closure", schema=None) as batch_op:
        batch_op.drop_index("region_closure_descendant")

    op.drop_table("region_closure")
    with op.batch_alter_table("region", schema=None) as batch_op:
        batch_op.drop_index("region_parent")

    op.drop_table("region")
    op.drop_table("person")
    with op.batch_alter_table("parcel", schema=None) as batch_op:
        batch_op.drop_index("parcel_region")
        batch_op.drop_index("parcel_box")

    op.drop_table("parcel")
    op.drop_table("land_batch")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_state"))

    op.drop_table("job")
    op.drop_table("dataset")
    op.drop_table("chain_scan")
    op.drop_table("chain_report")
    op.drop_table("chain_refusal")
    op.drop_table("chain_record")
    op.drop_table("chain_query")
    op.drop_table("chain_product")
    op.drop_table("chain_entry")
    with op.batch_alter_table("chain_capture", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_chain_capture_created_ms"))

    op.drop_table("chain_capture")
    op.drop_table("case_serial")
    op.drop_table("audit_round")
    op.drop_table("audit_head")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index("audit_subject")

    op.drop_table("audit")
    with op.batch_alter_table("alarm_step", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_alarm_step_alarm"))

    op.drop_table("alarm_step")
    op.drop_table("alarm_state")
    op.drop_table("alarm_shelf")
    op.drop_table("alarm_receiver")
    with op.batch_alter_table("alarm_message", schema=None) as batch_op:
        batch_op.drop_index("alarm_message_waiting")

    op.drop_table("alarm_message")
    with op.batch_alter_table("alarm", schema=None) as batch_op:
        batch_op.drop_index("alarm_open")

    op.drop_table("alarm")
