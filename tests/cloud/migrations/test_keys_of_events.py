"""Revision 0006 makes the tables of the journal anew: nothing may be lost on the way, forth and back."""

import pytest
from alembic import command
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from cloud.migrations import _config, differences, migrate
from cloud.provenance import LogBook, LogPlace, Provenance, audit_log
from cloud.provenance.store import WARNING, EventStore
from traceability.demo import demo_chains

NOW = 1_795_300_000_000
EGGS = next(chain for chain in demo_chains(NOW) if chain.chain == "eggs")
TABLES = ("chain_entry", "chain_event", "chain_thing", "chain_warning", "chain_ruled")


def opened(engine, place):
    return Provenance(engine, LogBook(engine, place, lambda: NOW), site="http://127.0.0.1:1", clock=lambda: NOW)


def rows(engine, without=("leaf", "id_key")):
    with engine.connect() as db:
        tables = {name: db.exec_driver_sql(f"select * from {name} order by 1, 2").mappings().all() for name in TABLES}
    return {
        name: [{key: value for key, value in row.items() if key not in without} for row in found]
        for name, found in tables.items()
    }


@pytest.fixture
def place(tmp_path):
    return LogPlace(tmp_path / "ledger", tmp_path / "log.key", "trace.example/log")


@pytest.fixture
def old(engine, place):
    """A database as the program before 0006 left it: events, one declared wrong, a warning, an entry that is none."""
    migrate(engine)
    service = opened(engine, place)
    for event in EGGS.events:
        service.capture(event, chain="eggs", by="me")
    wrong = EventStore(engine).newest(1)[0]
    declared = {**EGGS.events[-1], "eventID": wrong.event_id}
    declared["errorDeclaration"] = {"declarationTime": "2026-11-22T08:00:00+08:00", "reason": "incorrect_data"}
    service.capture(declared, chain=None, by="me")
    with engine.begin() as db:
        db.execute(insert(WARNING).values(place=1, findings="[]"))
    service.close()
    book = LogBook(engine, place, lambda: NOW)
    book._years.newest.ledger.append([b"a list of keys"])
    book.close()
    with engine.begin() as db:
        command.downgrade(_config(db), "0005")
    return engine


def test_an_old_database_keeps_every_event_and_its_log_is_sound(old, place):
    before = rows(old)
    with old.connect() as db:
        assert not db.exec_driver_sql("select 1 from chain_entry where leaf is null").all()
    assert migrate(old) == "0005"
    assert rows(old) == before
    assert differences(old) == []
    assert audit_log(old, place) == ()


def test_after_the_change_events_are_known_and_stand_as_before_it(old, place):
    migrate(old)
    size = len(EGGS.events)
    service = opened(old, place)
    again = service.capture(EGGS.events[0], chain="eggs", by="me")
    assert [each.index for each in again] == [0]
    assert service.log_state().size == size + 2
    service.close()
    assert {row.place for row in EventStore(old).since(0)[0]} == set(range(size - 1))
    book = LogBook(old, place, lambda: NOW)
    assert [receipt.index for receipt in book._years.newest.ledger.append([b"a list of keys"])] == [size + 1]
    book.close()


def test_the_old_database_took_no_event_twice(old):
    columns = "event_id, declares, chain, kind, step, when_ms, recorded_ms, captured_by, body, context, secrets"
    twice = f"insert into chain_event (place, {columns}) select 99, {columns} from chain_event where place = 0"
    with old.begin() as db:
        db.exec_driver_sql("insert into chain_entry (place, leaf, entry) values (99, 'x', 'x')")
    with old.connect() as db, pytest.raises(IntegrityError):
        db.exec_driver_sql(twice)
