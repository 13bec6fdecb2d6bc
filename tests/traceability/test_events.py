"""Events: what is accepted comes back unchanged, what is refused says exactly where."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceability.epcis_checks import read_ms, read_time
from traceability.events import EventError, aggregation_event, check_document, object_event, parse_document, parse_event
from traceability.events import transformation_event as transform

GOOD = {
    "type": "ObjectEvent", "eventTime": "2026-11-22T08:00:00+08:00", "eventTimeZoneOffset": "+08:00",
    "action": "OBSERVE", "epcList": ["urn:x:a"],
}  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def pointers(event):
    with pytest.raises(EventError) as why:
        parse_event(event)
    assert "\n" not in str(why.value)
    return [problem.pointer for problem in why.value.problems]


@given(name=st.from_regex(r"ex:[a-z]{1,8}", fullmatch=True), value=json_values)
def test_an_extension_nobody_knows_survives_unchanged(name, value):
    event = GOOD | {name: value}
    before = json.dumps(event)
    assert json.dumps(parse_event(event).body) == before


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"eventTime": "22-11-2026"}, "/eventTime"),
        ({"eventTime": "2026-02-30T08:00:00Z"}, "/eventTime"),
        ({"eventTime": "2026-11-22T08:00:00"}, "/eventTime"),
        ({"eventTimeZoneOffset": "+15:00"}, "/eventTimeZoneOffset"),
        ({"action": "CREATE"}, "/action"),
        ({"bizStep": "transforming"}, "/bizStep"),
        ({"bizStep": "urn:epcglobal:cbv:bizstep:receiving"}, "/bizStep"),
        ({"disposition": 5}, "/disposition"),
        ({"epcList": ["not a uri"]}, "/epcList/0"),
        ({"epcList": ["urn:x:a", "urn:x:a"]}, "/epcList"),
        ({"quantityList": [{"epcClass": "urn:x:l", "quantity": "ten"}]}, "/quantityList/0/quantity"),
        ({"quantityList": [{"epcClass": "urn:x:l", "quantity": True}]}, "/quantityList/0/quantity"),
        ({"quantityList": [{"epcClass": "urn:x:l", "quantity": float("nan")}]}, "/quantityList/0/quantity"),
        ({"quantityList": [{"epcClass": "urn:x:l", "extra": 1}]}, "/quantityList/0/extra"),
        ({"ilmd": {"ex:a": 1}}, "/ilmd"),
        ({"unknown/field": 1}, "/unknown~1field"),
        ({"readPoint": {}}, "/readPoint/id"),
        ({"persistentDisposition": {}}, "/persistentDisposition"),
        ({"sourceList": [{"type": "place", "source": "urn:x:s"}]}, "/sourceList/0/type"),
        ({"sensorElementList": [{"sensorReport": []}]}, "/sensorElementList/0/sensorReport"),
        ({"errorDeclaration": {}}, "/errorDeclaration/declarationTime"),
        ({"type": "AggregationEvent"}, "/epcList"),
        ({"type": None}, "/type"),
    ],
)
def test_what_is_wrong_is_named_by_its_pointer(change, pointer):
    assert pointer in pointers(GOOD | change)


@pytest.mark.parametrize("value", [None, [], "ObjectEvent", 3, {}])
def test_what_is_no_event_at_all_is_refused(value):
    pointers(value)


def test_an_event_reads_in_the_words_of_the_trade():
    event = parse_event(
        transform("packing", 1_795_305_600_000, took=["urn:x:a"], took_lots={"urn:x:l": (1.5, "KGM")}, made=["urn:x:b"])
    )
    assert event.inputs == ("urn:x:a", "urn:x:l")
    assert event.outputs == ("urn:x:b",)
    assert event.input_quantities[0].grams == 1500
    assert event.time_ms == 1_795_305_600_000
    assert event.things == ("urn:x:a", "urn:x:l", "urn:x:b")


def test_a_builder_refuses_what_the_standard_refuses():
    with pytest.raises(EventError):
        object_event("ADD", "no_such_step", 0, epcs=["urn:x:a"])
    with pytest.raises(EventError):
        aggregation_event("ADD", "packing", 0, parent="urn:x:crate")


def test_a_single_event_needs_a_context_of_its_own():
    with pytest.raises(EventError, match="@context"):
        parse_document(GOOD)


def test_official_documents_are_accepted_and_bad_ones_refused_as_the_official_schema_does(shared_data):
    import jsonschema_rs  # noqa: PLC0415 - an oracle of this test only

    root = shared_data / "traceability"
    schema = json.loads((root / "gs1-epcis/artefacts/EPCIS-JSON-Schema.json").read_text("utf-8"))
    oracle = jsonschema_rs.validator_for(schema, validate_formats=True)
    paths = [*root.glob("gs1-epcis/examples/**/*.jsonld"), *root.glob("openepcis/**/*.json")]
    for path in paths:
        value = json.loads(path.read_text("utf-8"))
        if "Queries" in path.parts:
            continue
        problems = check_document(value)
        assert oracle.is_valid(value) == (not problems), path.name
        assert all(problem.pointer for problem in problems)
        if not problems:
            assert parse_document(value).body == json.loads(path.read_text("utf-8"))


@given(
    moment=st.datetimes().filter(lambda moment: 1 < moment.year < 9999),
    fraction=st.sampled_from(["", ".0", ".5", ".05", ".999", ".0005", ".1234567"]),
    zone=st.sampled_from(["Z", "z", "+08:00", "-05:30", "+14:00"]),
)
def test_milliseconds_are_those_of_the_moment(moment, fraction, zone):
    text = f"{moment.year:04}{moment.strftime('-%m-%dT%H:%M:%S')}{fraction}{zone}"
    assert read_ms(text) == round(read_time(text).timestamp() * 1000)


@pytest.mark.parametrize("text", ["2026-02-30T08:00:00Z", "0001-01-01T00:00:00Z", "2026-01-01T00:00:60Z", "x", ""])
def test_milliseconds_of_no_moment_are_refused(text):
    with pytest.raises(ValueError, match=r"20|0001|''|'x'|day"):
        read_ms(text)
