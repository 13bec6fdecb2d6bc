"""Tables of people, grants, tokens, sessions and the audit trail. Times are milliseconds UTC."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

__all__ = ["audit_head", "audit_log", "grants", "metadata", "people", "sessions", "sign_in_links"]

metadata = MetaData()

people = Table(
    "person",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("password", String(200)),  # argon2id with its parameters and salt; None: links only
    Column("created_ms", BigInteger, nullable=False),
    Column("disabled_ms", BigInteger),
)

grants = Table(
    "person_grant",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("person", ForeignKey("person.id"), nullable=False),
    Column("role", String(20), nullable=False),
    Column("region", String(40), nullable=False),
    Column("granted_by", String(64), nullable=False),
    Column("granted_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger),  # None: no end
    Column("revoked_ms", BigInteger),
    Index("person_grant_person", "person"),
)

sign_in_links = Table(
    "sign_in_link",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("person", ForeignKey("person.id"), nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger),
)

sessions = Table(
    "session",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("person", ForeignKey("person.id"), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    Index("session_person", "person"),
)

audit_log = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(64), nullable=False),
    Column("what", String(60), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("region", String(40)),
    Column("detail", Text, nullable=False),  # canonical JSON
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Index("audit_subject", "subject"),
)

# One row: the end of the chain. Its lock orders writers; its count makes a cut-off tail visible.
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
)
