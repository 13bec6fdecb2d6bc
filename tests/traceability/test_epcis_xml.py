"""EPCIS in XML: read into the same events as their JSON twins; hostile files cost nothing."""

import pytest

from traceability.epcis_shape import check_query
from traceability.epcis_xml import MAX_DEPTH, XmlError, read_xml
from traceability.events import EventError, parse_document
from traceability.hashing import document_event_ids

HEAD = '<?xml version="1.0"?>\n'
OPEN = (
    '<epcis:EPCISDocument xmlns:epcis="urn:epcglobal:epcis:xsd:2" xmlns:ex="https://ns.example.cn/" '
    'schemaVersion="2.0" creationDate="2026-11-22T08:00:00Z"><EPCISBody><EventList>'
)
CLOSE = "</EventList></EPCISBody></epcis:EPCISDocument>"
EVENT = (
    "<ObjectEvent><eventTime>2026-11-22T08:00:00Z</eventTime><eventTimeZoneOffset>+08:00</eventTimeZoneOffset>"
    "<epcList><epc>urn:x:a</epc></epcList><action>OBSERVE</action>"
    "<bizStep>urn:epcglobal:cbv:bizstep:shipping</bizStep>"
    '<ex:box size="3"><ex:side>a</ex:side><ex:side>b</ex:side></ex:box></ObjectEvent>'
)


def document(events=EVENT, head=HEAD):
    return (head + OPEN + events + CLOSE).encode()


def test_words_and_own_fields_come_out_as_in_json():
    value = read_xml(document())
    event = parse_document(value).events[0]
    assert event.step == "shipping"
    assert event.body["ex:box"] == {"size": "3", "ex:side": ["a", "b"]}
    assert value["@context"][1]["ex"] == "https://ns.example.cn/"


def test_the_wrappers_of_the_old_version_vanish():
    old = EVENT.replace("<ex:box", "<extension><extension><disposition>in_transit</disposition></extension>"
                        "</extension><ex:box")  # fmt: skip
    assert parse_document(read_xml(document(old))).events[0].disposition == "in_transit"


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    "data",
    [
        document(EVENT.replace("urn:x:a", "&b;"), HEAD + BOMB),
        document(EVENT.replace("urn:x:a", "&a;"), HEAD + OUTSIDE),
        document(EVENT.replace("urn:x:a", "&c;")),
        document("<ex:a>" * (MAX_DEPTH + 1) + "</ex:a>" * (MAX_DEPTH + 1)),
        document(EVENT[:-3]),
        b"",
        b"{}",
        b"<html/>",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        OPEN.replace("<EventList>", "").encode() + b"</EPCISBody></epcis:EPCISDocument>",
        b" " * (4 * 1024 * 1024 + 1),
    ],
    ids=["bomb", "file", "entity", "deep", "cut", "empty", "json", "html", "bytes", "encoding", "no list", "large"],
)
def test_a_hostile_or_broken_file_is_refused_in_one_line(data):
    with pytest.raises(XmlError) as why:
        read_xml(data)
    assert "\n" not in str(why.value)


def test_the_public_xml_vectors_have_the_hashes_of_their_json_twins(shared_data):
    for path in sorted((shared_data / "traceability/event-hash/examples").glob("*.xml")):
        found = document_event_ids(parse_document(read_xml(path.read_bytes())))
        assert list(found) == path.with_suffix(".hashes").read_text().split(), path.name


def test_a_query_is_checked_parameter_by_parameter():
    good = {
        "eventType": ["ObjectEvent"], "GE_eventTime": "2026-01-01T00:00:00Z", "MATCH_anyEPC": ["urn:x:a"],
        "EQ_bizStep": ["shipping"], "EQ_ILMD_ex:lot": ["1"], "GT_ex:weight": 3, "EXISTS_ex:lot": None, "perPage": 30,
    }  # fmt: skip
    assert check_query(good) is None
    bad = {
        "GE_eventDate": "2026-01-01T00:00:00Z", "GE_eventTime": "soon", "EQ_action": ["SHIPPED"], "perPage": -1,
        "EQ_bizStep": "shipping", "MATCH_anyEPC": [3], "EQ_booleanValue": 1,
    }  # fmt: skip
    assert {problem.pointer for problem in check_query(bad)} == {
        "/GE_eventDate", "/GE_eventTime", "/EQ_action/0", "/perPage", "/EQ_bizStep", "/MATCH_anyEPC/0",
        "/EQ_booleanValue",
    }  # fmt: skip
    assert check_query([]) is not None


def test_a_value_that_begins_like_a_prefix_stays_the_address_it_is_in_xml():
    odd = EVENT.replace("urn:epcglobal:cbv:bizstep:shipping", "ex:own-step")
    value = read_xml(document(odd))
    event = parse_document(value).events[0]
    assert event.step == "ex:own-step"
    assert "ex" not in value["@context"][1]
    (prefix,) = (name for name, uri in value["@context"][1].items() if uri == "https://ns.example.cn/")
    assert event.body[f"{prefix}:box"] == {"size": "3", f"{prefix}:side": ["a", "b"]}


def weighed(amount):
    element = f"<quantityElement><epcClass>urn:x:l</epcClass><quantity>{amount}</quantity></quantityElement>"
    return document(EVENT.replace("<action>", f"<quantityList>{element}</quantityList><action>"))


@pytest.mark.parametrize("amount", ["NaN", "INF", "1e999", "1_000", "１２", "0x10", "", "1 2", "9" * 60 + "x"])
def test_an_amount_that_is_no_number_is_refused_with_its_pointer(amount):
    with pytest.raises(EventError) as refused:
        parse_document(read_xml(weighed(amount)))
    assert refused.value.problems[0].pointer == "/epcisBody/eventList/0/quantityList/0/quantity"


@pytest.mark.parametrize("amount", ["12", "+5", "-0.5", ".5", "5.", "1e3", "1E-3"])
def test_an_amount_in_any_spelling_of_xml_is_read(amount):
    (event,) = parse_document(read_xml(weighed(amount))).events
    assert event.quantities[0].amount == float(amount)
