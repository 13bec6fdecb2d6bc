import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.database import open_database
from cloud.provenance.journal import Companion, EventRow, Known, Relied, Ruled, SqlJournal, Stale
from cloud.provenance.rulings import Rulings
from cloud.provenance.store import EventStore, id_key, metadata
from traceability.merkle import leaf_hash
from traceability.stores import Batch, StoreError


def row(event_id, uses=(), makes=("thing",), when=1, carrier=None, chain="other", grounds=()):
    return EventRow(
        event_id,
        0,
        chain,
        "ObjectEvent",
        "harvest",
        when,
        2,
        "me",
        "{}",
        "[]",
        "{}",
        id_key(event_id),
        tuple(uses),
        tuple(makes),
        carrier,
        grounds,
    )


def one(event_id):
    return Companion((row(event_id),))


@pytest.fixture(autouse=True)
def tables(request):
    if "engine" in request.fixturenames:
        metadata.create_all(request.getfixturevalue("engine"))


def test_entries_get_consecutive_places_and_are_read_back(engine):
    journal = SqlJournal(engine)
    assert journal.append([Batch((b"a", b"b")), Batch((b"c",))]) == [(0, 1), (2,)]
    assert journal.count() == 3
    assert journal.read(0, 3) == [b"a", b"b", b"c"]


def test_the_same_entry_keeps_its_place_in_a_later_and_in_the_same_call(engine):
    journal = SqlJournal(engine)
    journal.append([Batch((b"a", b"b"))])
    assert journal.append([Batch((b"b", b"c", b"c"))]) == [(1, 2, 2)]
    assert journal.count() == 3


def test_a_known_event_is_refused_and_harms_nobody_elses_batch(engine):
    journal = SqlJournal(engine)
    journal.append([Batch((b"a",), one("e1"))])
    again, other = journal.append([Batch((b"a2",), one("e1")), Batch((b"b",), one("e2"))])
    assert isinstance(again, Known)
    assert other == (1,)
    assert [found.event_id for found in EventStore(engine).newest(9)] == ["e2", "e1"]


def test_one_event_twice_in_a_group_is_taken_once(engine):
    first, second = SqlJournal(engine).append([Batch((b"a",), one("e1")), Batch((b"b",), one("e1"))])
    assert first == (0,)
    assert isinstance(second, Known)


def judged(event_id, entries, things=("thing",), **fields):
    return Companion((row(event_id, makes=things, chain="fish", **fields),), relied=Relied(frozenset(things), entries))


def test_what_stands_under_rules_is_refused_where_nobody_judged_it_and_harms_nobody_elses_batch(engine):
    journal = SqlJournal(engine)
    assert journal.append([Batch((b"a",), judged("e1", 0, ["pond"]))]) == [(0,)]
    unjudged = Companion((row("e2", makes=("pond",)),))
    again, other = journal.append([Batch((b"b",), unjudged), Batch((b"c",), one("e3"))])
    assert isinstance(again, Ruled)
    assert other == (1,)


def test_rules_reach_an_unjudged_event_of_the_same_group_too(engine):
    group = [Batch((b"a",), judged("e1", 0)), Batch((b"b",), one("e2"))]
    first, second = SqlJournal(engine).append(group)
    assert first == (0,)
    assert isinstance(second, Ruled)


def test_a_place_given_to_a_chain_brings_its_rules(engine):
    Rulings(engine).give("urn:p", "fish")
    (refused,) = SqlJournal(engine).append([Batch((b"a",), Companion((row("e1", grounds=("urn:p",)),)))])
    assert isinstance(refused, Ruled)
    Rulings(engine).give("urn:p", None)
    assert SqlJournal(engine).append([Batch((b"a",), Companion((row("e1", grounds=("urn:p",)),)))]) == [(0,)]


def test_what_was_judged_by_an_outdated_past_is_refused_in_a_later_and_in_the_same_group(engine):
    journal = SqlJournal(engine)
    first, second = journal.append([Batch((b"a",), judged("e1", 0)), Batch((b"b",), judged("e2", 0))])
    assert first == (0,)
    assert isinstance(second, Stale)
    (late,) = journal.append([Batch((b"b",), judged("e2", 0))])
    assert isinstance(late, Stale)
    assert journal.append([Batch((b"b",), judged("e2", 1))]) == [(1,)]


def test_a_ruling_by_a_person_is_not_overwritten_by_an_event(engine):
    Rulings(engine).give("thing", "pork")
    SqlJournal(engine).append([Batch((b"a",), judged("e1", 0))])
    assert Rulings(engine).of(["thing"])["thing"] == ("pork", None)


def test_warnings_are_stored_with_their_events_or_not_at_all(engine):
    journal = SqlJournal(engine)
    two = Companion((row("e1"), row("e2")), warned={1: '[{"rule": "r"}]'})
    again = Companion((row("e1"),), warned={0: "[]"})
    journal.append([Batch((b"a", b"b"), two), Batch((b"c",), again)])
    assert [(event.event_id, text) for event, text in EventStore(engine).warnings()] == [("e2", '[{"rule": "r"}]')]
    with engine.begin() as db:
        db.exec_driver_sql("drop table chain_warning")
    with pytest.raises(StoreError):
        journal.append([Batch((b"d",), Companion((row("e3"),), warned={0: "[]"}))])
    assert journal.count() == 2


def test_a_missing_entry_is_named(engine):
    journal = SqlJournal(engine)
    journal.append([Batch((b"a", b"b", b"c"))])
    with engine.begin() as db:
        db.exec_driver_sql("delete from chain_entry where place = 1")
    with pytest.raises(StoreError, match="entry 1"):
        journal.read(0, 3)


@given(entries=st.lists(st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=4), max_size=6))
def test_the_journal_agrees_with_a_plain_list_of_first_appearances(entries, tmp_path_factory):
    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('j') / 'j.db'}")
    metadata.create_all(engine)
    journal, plain = SqlJournal(engine), []
    for group in entries:
        places = journal.append([Batch((entry,)) for entry in group])
        for entry, place in zip(group, places, strict=True):
            if entry not in plain:
                plain.append(entry)
            assert place == (plain.index(entry),)
    assert list(journal.read(0, journal.count())) == plain
    assert len({leaf_hash(entry) for entry in plain}) == journal.count()
    engine.dispose()


def test_history_follows_what_a_thing_was_made_from_and_not_what_else_came_of_it(engine):
    steps = [
        row("born", makes=("pig",), when=1),
        row("treated", makes=("pig",), when=2),
        row("loaded", makes=("lorry", "pig"), carrier="lorry", when=3),
        row("driven", makes=("lorry",), when=4),
        row("slaughtered", uses=("pig",), makes=("half", "offal"), when=5),
        row("packed", uses=("half",), makes=("pack",), when=6),
        row("rendered", uses=("offal",), makes=("fat",), when=7),
    ]
    SqlJournal(engine).append([Batch((json.dumps(step.event_id).encode(),), Companion((step,))) for step in steps])
    past = [found.event_id for found in EventStore(engine).history(["pack"])]
    assert past == ["born", "treated", "loaded", "driven", "slaughtered", "packed"]
