import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloud.problems import Conflict, Invalid, Refused
from cloud.provenance import LogBook, LogPlace, Provenance
from cloud.provenance.store import metadata
from traceability import TraceError
from traceability.demo import demo_chains
from traceability.events import object_event, transformation_event

NOW = 1_795_300_000_000
FISH = next(chain for chain in demo_chains(NOW, domain="https://id.gs1.org") if chain.chain == "fish")
LOT = "https://id.gs1.org/01/02011700010006/10/RAW"


@pytest.fixture
def provenance(tmp_path, engine):
    metadata.create_all(engine)
    log = LogBook(engine, LogPlace(tmp_path / "ledger", tmp_path / "log.key", "trace.example/log"), lambda: NOW)
    service = Provenance(engine, log, site="http://127.0.0.1:1", clock=lambda: NOW)
    yield service
    service.close()


def harvested(kilograms, lot=LOT, hour=0):
    return object_event("ADD", "commissioning", NOW - 9_000_000 + hour, lots={lot: (kilograms, "KGM")}, place="urn:p")


def cut(number, kilograms, lot=LOT):
    made = f"https://id.gs1.org/01/02011700010006/10/CUT{number}"
    return transformation_event(
        "assembling",
        NOW - 5_000_000 + number,
        took_lots={lot: (kilograms, "KGM")},
        made_lots={made: (kilograms, "KGM")},
        place="urn:p",
    )


@pytest.mark.parametrize("chain", [None, "citrus"])
def test_of_many_who_use_up_one_lot_at_once_only_as_many_are_taken_as_the_lot_gives(provenance, chain):
    provenance.capture(harvested(100), chain=chain, by="me")
    start = threading.Barrier(8)

    def take(number):
        start.wait()
        try:
            return provenance.capture(cut(number, 40), chain=chain, by="me")[0].index
        except Refused as why:
            return why.extra["rule"]

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(8)))
    assert sorted(taken, key=str) == [1, 2, *["balance.overdrawn"] * 6]
    assert provenance.tracer.balance(LOT) == {"made_g": 100_000, "used_g": 80_000, "left_g": 20_000}
    assert len(provenance.refusals()) == 6


def test_two_events_of_one_document_share_what_a_lot_gives(provenance):
    events = [{k: v for k, v in each.items() if k != "@context"} for each in (harvested(10), cut(1, 6), cut(2, 6))]
    document = {
        "@context": harvested(10)["@context"],
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-11-22T10:00:00.000Z",
        "epcisBody": {"eventList": events},
    }
    with pytest.raises(Refused, match="not there"):
        provenance.capture(document, chain=None, by="me")
    assert provenance.log_state().size == 0


def test_a_declaration_of_error_gives_back_what_its_event_used(provenance):
    provenance.capture(harvested(10), chain=None, by="me")
    wrong = cut(1, 10) | {"eventID": "urn:uuid:00000000-0000-4000-8000-000000000001"}
    provenance.capture(wrong, chain=None, by="me")
    with pytest.raises(Refused):
        provenance.capture(cut(2, 10), chain=None, by="me")
    declared = wrong | {"errorDeclaration": {"declarationTime": "2026-11-22T10:00:00.000+08:00"}}
    provenance.capture(declared, chain=None, by="me")
    assert provenance.capture(cut(2, 10), chain=None, by="me")[0].index == 3


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"bizStep": "shipping"}, "/bizStep"),
        ({"epcList": ["urn:tianmai:pig:1"]}, "/epcList"),
        ({"tm:note": "more"}, "/tm:note"),
        ({"eventTime": "2026-11-01T00:00:00.000+08:00"}, "/eventTime"),
    ],
)
def test_a_declaration_of_error_that_does_not_repeat_its_event_is_refused(provenance, change, pointer):
    event = harvested(10) | {"eventID": "urn:uuid:00000000-0000-4000-8000-000000000001"}
    provenance.capture(event, chain=None, by="me")
    declared = event | {"errorDeclaration": {"declarationTime": "2026-11-22T10:00:00.000+08:00"}}
    with pytest.raises(Conflict, match="repeats the event") as refused:
        provenance.capture(declared | change, chain=None, by="me")
    assert (refused.value.code, refused.value.pointer) == ("declaration_differs", pointer)
    assert provenance.log_state().size == 1
    # Another spelling of the same moment says nothing else.
    same = {"eventTime": event["eventTime"].replace(".000+", "+"), "recordTime": "2026-11-23T00:00:00.000+08:00"}
    assert same["eventTime"] != event["eventTime"]
    assert provenance.capture(declared | same, chain=None, by="me")[0].index == 1


def test_a_lot_of_unknown_mass_is_not_judged(provenance):
    assert provenance.capture(cut(1, 10), chain=None, by="me")[0].index == 0


def test_a_trade_item_given_to_a_chain_is_judged_by_it_though_nobody_names_the_chain(provenance):
    kept = provenance.give_chain("2011700010006", "fish")
    assert provenance.given_chains() == {kept: "fish"}
    provenance.capture(harvested(5), chain=None, by="me")
    assert provenance.events(1)[0].chain == "fish"
    assert provenance.hand_in(harvested(5, hour=1), chain=None, by="me").places.exception().code == "ruled"
    with pytest.raises(Conflict, match="belongs to the chain fish"):
        provenance.capture(harvested(6), chain="pork", by="me")
    provenance.give_chain("2011700010006", None)
    assert provenance.given_chains() == {}


def test_a_place_given_to_a_chain_brings_its_rules_to_everything_there(provenance):
    provenance.give_chain("urn:p", "fish")
    provenance.capture(harvested(5, lot="urn:tianmai:lot:x"), chain=None, by="me")
    assert provenance.events(1)[0].chain == "fish"


@pytest.mark.parametrize(("name", "chain"), [("02011700010007", "fish"), ("urn:p", "beef")])
def test_a_number_that_is_none_and_a_chain_that_is_none_are_refused(provenance, name, chain):
    with pytest.raises((Invalid, TraceError), match=r"check digit|beef"):
        provenance.give_chain(name, chain)
    assert provenance.given_chains() == {}


def test_rules_follow_a_thing_into_what_is_made_of_it(provenance):
    for event in FISH.events:
        provenance.capture(event, chain="fish", by="me", facts=FISH.facts)
    packed = transformation_event("assembling", NOW, took=[FISH.subject], made=["urn:tianmai:box:1"], place="urn:q")
    provenance.capture(packed, chain=None, by="me", facts=FISH.facts)
    sold = object_event("OBSERVE", "inspecting", NOW, epcs=["urn:tianmai:box:1"], place="urn:q")
    provenance.capture(sold, chain=None, by="me", facts=FISH.facts)
    assert [row.chain for row in provenance.events(2)] == ["fish", "fish"]
