"""Every input has a bad twin: whatever is thrown in, the answer is a verdict or one clear refusal, never a stumble."""

import copy
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceability import TraceError
from traceability.chain_rules import CHAINS, Facts, judge
from traceability.codes import ear_tag, gtin
from traceability.demo import demo_chains
from traceability.digital_link import parse_link
from traceability.epcis_xml import read_xml
from traceability.events import check_document, object_event, parse_event
from traceability.own_fields import _FIELDS, _NEW_THINGS
from traceability.story import tell

NOW = 1_795_400_000_000
EVENTS = [event for chain in demo_chains(NOW) for event in chain.events]
JUNK = [
    None, True, 0, -1.5, "", [], {}, "x", "urn:x:a", "http://a b", "http://批", "http://[", "http://[::1]/a", "a:b#c#d",
    "http://a:b/", "http://a:99999/", "http://u@[::1]:8/x", "http:///a", "HTTP://A", "urn:", ":a", "1a:b", "http://a/|",
    "2020-01-01T00:00:00Z", "2020-02-30T00:00:00Z", "2020-12-31T23:59:60Z", "2020-01-01T24:00:00Z", "+01:00", "OBSERVE",
    "2020-01-01T00:00:60Z", "2021-01-01T07:59:60+08:00", "2020-01-01T00:00:00", "2020-01-01T00:00:00+0800", "+14:30",
    "ADD", "DELETE", "receiving", "kgm", "urn:epcglobal:cbv:bizstep:receiving", "a:%zz", "ObjectEvent", ["urn:x:a"],
    "https://ref.gs1.org/cbv/BizStep-receiving", "https://ns.gs1.org/cbv/BizStep-receiving", "in_transit", "KGMM",
    "https://gs1.org/voc/Temperature", "gs1:Temperature", "Temperature", "owning_party", "did_not_occur", "0A1F", "ABZ",
    ["urn:x:a", "urn:x:a"], {"id": 3}, {"id": "urn:x:a"}, [{"epcClass": "urn:x:a"}], [{}], "1.0", "2.", "ex:field",
]  # fmt: skip
KEYS = [
    "type", "eventID", "ex:foo", "foo", "ilmd", "bizStep", "action", "epcList", "quantityList", "readPoint",
    "@context", "parentID", "childEPCs", "uom", "set", "id", "inputEPCList", "outputQuantityList", "transformationID",
    "bizTransactionList", "sourceList", "sensorElementList", "certificationInfo", "persistentDisposition",
    "errorDeclaration", "recordTime", "reason", "sensorReport", "sensorMetadata", "value", "hexBinaryValue", "time",
    "component", "microorganism", "schemaVersion", "epcisHeader", "vocabularyList", "subscriptionID",
    "correctiveEventIDs", "#text",
]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "tags", "zh"]), inner),
    max_leaves=5,
)


def refusal(call):
    """What the package says when it refuses; empty when it does not. Any other exception is a stumble."""
    try:
        call()
    except TraceError as why:
        return str(why)
    return ""


@settings(max_examples=40)
@given(name=st.sampled_from(sorted(_FIELDS)), value=json_values, event=st.sampled_from(EVENTS))
def test_no_own_field_makes_a_rule_or_a_story_stumble(name, value, event):
    strange = event | {name: value}
    for chain in CHAINS:
        verdict = judge(chain, strange, EVENTS, Facts(), NOW)
        assert all(finding.source and finding.zh and finding.en for finding in verdict.findings)
        judge(chain, event, [strange], Facts(), NOW)
    tell([strange, *EVENTS], subject=parse_event(event).things[0], now_ms=NOW).to_dict()


@given(name=st.sampled_from(sorted(_NEW_THINGS)), value=json_values)
def test_no_fact_about_a_new_lot_makes_a_rule_or_a_story_stumble(name, value):
    lot = object_event("ADD", "commissioning", NOW - 1000, epcs=["urn:x:new"], **{"ex:other": 1})
    lot["ilmd"] = {name: value}
    judge("pork", lot, [], Facts(), NOW)
    tell([lot], subject="urn:x:new", now_ms=NOW)


def paths(value, path=()):
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from paths(child, (*path, key))


def spoil(document, rng):
    """Replace, remove or add something, somewhere."""
    *way, last = rng.choice([path for path in paths(document) if path])
    parent = document
    for key in way:
        parent = parent[key]
    change = rng.random()
    if change < 0.4:
        parent[last] = copy.deepcopy(rng.choice(JUNK))
    elif change < 0.6:
        del parent[last]
    elif isinstance(parent, dict):
        parent[rng.choice(KEYS)] = copy.deepcopy(rng.choice(JUNK))
    else:
        parent.insert(0, copy.deepcopy(rng.choice(JUNK)))


@pytest.mark.parametrize("seed", range(4))
def test_spoiled_documents_are_judged_as_the_official_schema_judges_them(shared_data, seed):
    import jsonschema_rs  # noqa: PLC0415 - an oracle of this test only

    root = shared_data / "traceability"
    schema = json.loads((root / "gs1-epcis/artefacts/EPCIS-JSON-Schema.json").read_text("utf-8"))
    oracle = jsonschema_rs.validator_for(schema, validate_formats=True)
    texts = [path.read_text("utf-8") for path in sorted(root.glob("gs1-epcis/examples/**/*.jsonld"))]
    rng = random.Random(seed)
    for _ in range(250):
        document = json.loads(rng.choice(texts))
        spoil(document, rng)
        assert oracle.is_valid(document) == (not check_document(document)), json.dumps(document)


@given(data=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_make_the_xml_reader_stumble(data):
    for whole in (data, b"<a>" + data + b"</a>", b'<EPCISDocument schemaVersion="2.0">' + data + b"</EPCISDocument>"):
        with pytest.raises(TraceError):
            read_xml(whole)


@pytest.mark.parametrize("seed", range(3))
def test_no_cut_or_doubled_piece_of_a_document_makes_the_xml_reader_stumble(shared_data, seed):
    rng = random.Random(seed)
    texts = [path.read_bytes() for path in sorted((shared_data / "traceability/event-hash/examples").glob("*.xml"))]
    for _ in range(100):
        text = rng.choice(texts)
        start, end = sorted(rng.randrange(len(text)) for _ in range(2))
        end = min(end, start + 80)
        spoiled = text[:start] + rng.choice([b"", text[start:end] * 2, b"<x/>"]) + text[end:]
        assert "\n" not in refusal(lambda spoiled=spoiled: check_document(read_xml(spoiled)))


@given(text=st.text(max_size=40) | st.from_regex(r"https://[a-z.]{1,8}/01/\d{13,14}(/10/.{0,5})?(\?.{0,9})?"))
def test_no_text_makes_the_readers_of_codes_stumble(text):
    for read in (parse_link, lambda t: parse_link(t, lenient=True), gtin, ear_tag):
        assert "\n" not in refusal(lambda read=read: read(text))
