import pytest

from cloud.database import open_database
from cloud.problems import Invalid, NotFound, Refused
from cloud.provenance import LogBook, LogPlace, Provenance
from cloud.provenance.store import metadata
from traceability.demo import demo_chains
from traceability.events import CONTEXT, aggregation_event, object_event

NOW = 1_795_300_000_000
CHAINS = {chain.chain: chain for chain in demo_chains(NOW, domain="https://id.gs1.org")}
PIG = "urn:tianmai:ear:150015300010001"


@pytest.fixture
def service(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'chain.db'}")
    metadata.create_all(engine)
    log = LogBook(engine, LogPlace(tmp_path / "ledger", tmp_path / "log.key", "trace.example/log"), lambda: NOW)
    made = Provenance(engine, log, site="http://127.0.0.1:1", clock=lambda: NOW)
    yield made
    made.close()
    engine.dispose()


def capture(service, name):
    chain = CHAINS[name]
    for event in chain.events:
        service.capture(event, chain=name, by="me", facts=chain.facts)


def test_a_pack_leads_back_to_every_animal_it_may_be_of_and_an_animal_forward_to_the_pack(service):
    capture(service, "pork")
    back = service.tracer.back(CHAINS["pork"].subject)
    assert len(back.resolution["candidates"]) == 38
    assert len(back.resolution["places"]) == 2
    animal = back.resolution["candidates"][0]
    assert CHAINS["pork"].subject in service.tracer.forward(animal).things


def test_a_recall_names_holders_states_and_its_own_speed(service):
    capture(service, "pork")
    animal = service.tracer.back(CHAINS["pork"].subject).resolution["candidates"][0]
    scope = service.tracer.recall([animal], grade=1)
    assert CHAINS["pork"].subject in {each["thing"] for each in scope["affected"]}
    assert scope["start_by_ms"] == NOW + 24 * 3_600_000
    assert scope["answered_in_ms"] >= 0


def test_an_event_that_comes_late_is_in_the_next_answer(service):
    capture(service, "fish")
    stock = next(thing for thing in service.tracer.back(CHAINS["fish"].subject).things if "stock" in thing)
    before = len(service.tracer.back(CHAINS["fish"].subject).events)
    late = object_event("OBSERVE", "inspecting", NOW - 200 * 86_400_000, lots={stock: (10, None)}, place="urn:p")
    service.capture(late, chain=None, by="me")
    assert len(service.tracer.back(CHAINS["fish"].subject).events) == before + 1


def test_mass_is_balanced_to_the_gram(service):
    capture(service, "fish")
    catch = next(thing for thing in service.tracer.back(CHAINS["fish"].subject).things if "catch" in thing)
    assert service.tracer.balance(catch) == {"made_g": 820_000, "used_g": 820_000, "left_g": 0}


def test_a_thing_nobody_named_is_not_found(service):
    for ask in (service.tracer.back, service.tracer.forward, service.tracer.balance):
        with pytest.raises(NotFound, match="nothing"):
            ask("urn:nothing")


def box(parent, child, minute, action="ADD"):
    return aggregation_event(action, "packing", NOW - 100_000 + minute, parent=parent, epcs=[child], place="urn:p")


def test_a_box_that_would_hold_itself_is_refused_at_any_depth_and_nothing_is_stored(service):
    for minute, (parent, child) in enumerate((("urn:c:a", "urn:c:b"), ("urn:c:b", "urn:c:c"), ("urn:c:c", "urn:c:d"))):
        service.capture(box(parent, child, minute), chain=None, by="me")
    size = service.log_state().size
    for parent, child in (("urn:c:d", "urn:c:a"), ("urn:c:c", "urn:c:b"), ("urn:c:x", "urn:c:x")):
        with pytest.raises(Invalid) as refused:
            service.capture(box(parent, child, 9), chain=None, by="me")
        assert (refused.value.code, refused.value.pointer) == ("cyclic_custody", "/parentID")
    assert service.log_state().size == size
    service.capture(box("urn:c:a", "urn:c:b", 10, "DELETE"), chain=None, by="me")
    service.capture(box("urn:c:d", "urn:c:a", 11), chain=None, by="me")  # taken out, it may go in
    assert set(service.tracer.back("urn:c:b").things) >= {"urn:c:a", "urn:c:c", "urn:c:d"}


def test_one_document_cannot_make_a_box_hold_itself(service):
    events = [box("urn:c:a", "urn:c:b", 1), box("urn:c:b", "urn:c:a", 2)]
    for event in events:
        del event["@context"]
    document = {
        "@context": CONTEXT,
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-11-22T10:00:00.000Z",
        "epcisBody": {"eventList": events},
    }
    with pytest.raises(Invalid, match="hold itself"):
        service.capture(document, chain=None, by="me")
    assert service.log_state().size == 0


def test_a_recall_finds_a_pack_whatever_domain_or_family_of_names_an_event_used(service):
    capture(service, "pork")
    pack = CHAINS["pork"].subject
    gtin, serial = pack.split("/01/")[1].split("/")[0], pack.rpartition("/")[2]
    other = f"https://shop.example/01/{gtin}/21/{serial}"
    sold = object_event("OBSERVE", "retail_selling", NOW - 1000, epcs=[other], place="urn:shop")
    service.capture(sold, chain="pork", by="shop")
    animal = service.tracer.back(pack).resolution["candidates"][0]
    scope = service.tracer.recall([animal], grade=1)
    states = {each["thing"]: each["state"] for each in scope["affected"]}
    assert states[other] == "sold"
    assert pack not in states
    again = object_event("OBSERVE", "retail_selling", NOW - 500, epcs=[pack], place="urn:shop")
    with pytest.raises(Refused):
        service.capture(again, chain="pork", by="shop")
