"""An event is found by its id in one spelling: `URN:UUID:...` and `urn:uuid:...` name the same event.

Of the events already there only those are touched whose id is a URN in another spelling; their bodies stay as they
came. Nothing is taken back: the columns follow from the bodies.
"""

from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_SEEK = sa.text("SELECT place, event_id FROM chain_event WHERE lower(substr(event_id, 1, 4)) = 'urn:'")
_WRITE = sa.text("UPDATE chain_event SET event_id = :event_id, id_key = :id_key WHERE place = :place")
_AT_ONCE = 1_000


def upgrade() -> None:
    """Make the change."""
    db = op.get_bind()
    found = [(int(row.place), str(row.event_id)) for row in db.execute(_SEEK)]
    changed = [(place, _canonical(text)) for place, text in found if _canonical(text) != text]
    rows = [{"place": place, "event_id": text, "id_key": _id_key(text)} for place, text in changed]
    for at in range(0, len(rows), _AT_ONCE):
        db.execute(_WRITE, rows[at : at + _AT_ONCE])


def downgrade() -> None:
    """What was written fits the program before as well."""


def _canonical(text: str) -> str:
    scheme, namespace, *name = text.split(":", 2)
    said = [part.lower() if namespace.lower() == "uuid" else part for part in name]
    return ":".join([scheme.lower(), namespace.lower(), *said])


def _id_key(event_id: str) -> int:
    return int.from_bytes(sha256(event_id.encode(errors="surrogatepass")).digest()[:8], "big", signed=True)
