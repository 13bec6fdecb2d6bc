"""The event hash: equal for equal events, different for different ones, and as the public vectors say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceability.epc_uris import _from_link, canonical_name
from traceability.events import parse_document
from traceability.hashing import document_event_ids, event_id

EVENT = {
    "type": "ObjectEvent", "eventTime": "2026-11-22T08:00:00.000+08:00", "eventTimeZoneOffset": "+08:00",
    "action": "OBSERVE", "bizStep": "shipping", "epcList": ["urn:epc:id:sgtin:4012345.011111.9876", "urn:x:b"],
    "tm:weight": {"tm:grams": 500, "tm:note": "a"}, "tm:list": ["3", "1"],
}  # fmt: skip


@given(order=st.permutations(list(EVENT)), turn=st.booleans())
def test_order_of_fields_and_lists_does_not_matter(order, turn):
    other = {name: EVENT[name] for name in order}
    if turn:
        other = other | {"epcList": EVENT["epcList"][::-1], "tm:list": ["1", "3"]}
    assert event_id(other) == event_id(EVENT)


@pytest.mark.parametrize(
    "same",
    [
        {"eventTime": "2026-11-22T00:00:00Z"},
        {"bizStep": "urn:epcglobal:cbv:bizstep:shipping"},
        {"bizStep": "https://ref.gs1.org/cbv/BizStep-shipping"},
        {"epcList": ["urn:x:b", "https://example.cn/01/04012345111118/10/L/21/9876?17=261231"]},
        {"tm:weight": {"tm:note": "a", "tm:grams": "500.0"}},
        {"recordTime": "2026-11-22T00:00:01Z", "eventID": "urn:x:1", "rdfs:comment": "hello"},
    ],
)
def test_another_spelling_of_the_same_event_has_the_same_name(same):
    assert event_id(EVENT | same) == event_id(EVENT)


@pytest.mark.parametrize(
    "other",
    [
        {"eventTime": "2026-11-22T08:00:00.001+08:00"}, {"action": "ADD"}, {"bizStep": "receiving"},
        {"epcList": ["urn:x:b"]}, {"tm:weight": {"tm:grams": 501, "tm:note": "a"}}, {"tm:new": 1},
    ],
)  # fmt: skip
def test_any_change_gives_another_name(other):
    assert event_id(EVENT | other) != event_id(EVENT)


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("urn:epc:id:sscc:4012345.3111111111", "00/340123451111111111"),
        ("urn:epc:class:lgtin:4012345.012345.Lot987", "01/04012345123456/10/Lot987"),
        ("urn:epc:id:sgln:4012345.00005.0", "414/4012345000054"),
        ("urn:epc:id:sgln:4012345.00005.12", "414/4012345000054/254/12"),
        ("urn:epc:id:gdti:987659999999..9", "253/98765999999929"),
        ("urn:epc:idpat:itip:4012345.012345.01.02.*", "8006/040123451234560102"),
        ("https://a.cn/x/gtin/4006381333931/ser/7?q=1", "01/04006381333931/21/7"),
    ],
)
def test_names_of_both_families_become_one_link(name, link):
    assert canonical_name(name) == f"https://id.gs1.org/{link}"


@given(text=st.text())
def test_other_text_is_left_alone(text):
    assert canonical_name(text) == text or text.startswith(("urn:epc:", "http"))


def test_the_public_json_vectors_agree(shared_data):
    folder = shared_data / "traceability/event-hash/examples"
    for path in sorted(folder.glob("*.jsonld")):
        document = parse_document(json.loads(path.read_text("utf-8")))
        assert list(document_event_ids(document)) == path.with_suffix(".hashes").read_text().split(), path.name


SHORT = [{"ex": "https://ns.example.cn/x/", "gs1": "https://gs1.org/voc/"}]


@pytest.mark.parametrize(
    "place",
    [
        lambda name: {"bizStep": name("step")},
        lambda name: {"disposition": name("kept")},
        lambda name: {"epcList": [name("thing")]},
        lambda name: {"quantityList": [{"epcClass": name("lot"), "quantity": 1}]},
        lambda name: {"readPoint": {"id": name("gate")}},
        lambda name: {"bizTransactionList": [{"type": name("order"), "bizTransaction": name("1")}]},
        lambda name: {"sourceList": [{"type": "location", "source": name("place")}]},
        lambda name: {"ilmd": {"ex:kind": name("kind")}},
        lambda name: {"sensorElementList": [{"sensorReport": [{"type": name("smell"), "component": name("c")}]}]},
    ],
)
def test_a_short_name_is_the_whole_address_wherever_its_prefix_is_declared(place):
    short = event_id(EVENT | place(lambda local: f"ex:{local}"), SHORT)
    assert short == event_id(EVENT | place(lambda local: f"https://ns.example.cn/x/{local}"), SHORT)
    assert short != event_id(EVENT | place(lambda local: f"ex:{local}"), [])


@given(
    domain=st.sampled_from(["https://id.gs1.org", "HTTPS://id.gs1.org", "https://example.cn"]),
    qualifier=st.sampled_from(["", "/21/", "/10/", "/lot/", "/235/"]),
    value=st.text("aZ09-_.;<=>?%2F/'\"", max_size=32) | st.sampled_from(["lot", "ser", "gtin"]),
)
def test_a_link_that_is_canonical_already_is_told_at_a_glance_as_it_is_at_length(domain, qualifier, value):
    text = f"{domain}/01/04012345111118{qualifier}{value}"
    assert canonical_name(text) == (_from_link(text) or text)


@pytest.mark.parametrize("word", ["lot", "ser", "gtin", "cpv"])
def test_a_word_of_the_link_that_stands_for_a_serial_is_a_serial(word):
    link = f"https://id.gs1.org/01/04012345111118/21/{word}"
    assert canonical_name(link) == link
    assert canonical_name(f"https://example.com/gtin/04012345111118/ser/{word}?x=1") == link
    assert canonical_name(f"https://example.com/some/shop/gtin/04012345111118/lot/A/ser/{word}") == link
