"""Revision 0009: events whose ids stand in another spelling are found by the one that counts."""

import pytest
from alembic import command
from sqlalchemy import text

from cloud.migrations import _config, migrate
from cloud.provenance import LogBook, LogPlace, Provenance, audit_log
from cloud.provenance.store import EventStore, id_key
from traceability.demo import demo_chains

NOW = 1_795_300_000_000
EGGS = next(chain for chain in demo_chains(NOW) if chain.chain == "eggs")
CANONICAL = "urn:uuid:0000000a-0000-4000-8000-00000000000b"


@pytest.mark.parametrize("spelling", ["URN:UUID:0000000A-0000-4000-8000-00000000000B", CANONICAL.upper(), CANONICAL])
def test_an_event_kept_under_another_spelling_is_found_afterwards_and_the_log_is_sound(engine, tmp_path, spelling):
    migrate(engine)
    place = LogPlace(tmp_path / "ledger", tmp_path / "log.key", "trace.example/log")
    log = LogBook(engine, place, lambda: NOW)
    service = Provenance(engine, log, site="http://127.0.0.1:1", clock=lambda: NOW)
    service.capture({**EGGS.events[0], "eventID": spelling}, chain=None, by="me")
    service.close()
    with engine.begin() as db:
        command.downgrade(_config(db), "0008")
        db.execute(
            text("update chain_event set event_id = :id, id_key = :key"), {"id": spelling, "key": id_key(spelling)}
        )
    migrate(engine)
    (row,) = EventStore(engine).by_ids([CANONICAL])
    assert row.event_id == CANONICAL
    assert audit_log(engine, place) == ()
