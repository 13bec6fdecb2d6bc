"""What is committed to is written once, and must be what the slow and obvious way would write."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.problems import Invalid
from cloud.provenance.leaves import PRIVATE, LeafOf, committed, json_text, seal
from traceability.canon import encode
from traceability.demo import demo_chains
from traceability.events import Event

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
BASE = demo_chains(1_780_000_000_000)[0].events[0]


def event_with(fields):
    return Event({**BASE, "eventID": "urn:x:1", **fields})


@given(value=VALUES, hidden=st.sampled_from([None, *sorted(PRIVATE)]), name=TEXT)
def test_a_sealed_event_opens_to_what_its_body_says(value, hidden, name):
    event = event_with({f"urn:x:{name}": value} | ({} if hidden is None else {hidden: value}))
    leaf = seal(event, "other")
    leaf.check()
    assert leaf.opened == committed(event)
    shown = json.loads(leaf.opened["view"])
    assert shown == {key: each for key, each in event.body.items() if key not in PRIVATE}
    if hidden is not None:
        assert json.loads(leaf.opened["private"]) == {hidden: value}


@given(value=VALUES)
def test_the_secrets_of_an_event_are_written_as_canonical_json(value):
    leaf = seal(event_with({"urn:x:own": value}), "other")
    opened = json.loads(leaf.secrets)
    assert (
        leaf.secrets
        == "{"
        + ",".join(
            f'"{name}":{{"salt":"{each["salt"]}","value":{encode(each["value"]).decode()}}}'
            for name, each in opened.items()
        )
        + "}"
    )
    assert LeafOf.load(leaf.entry, json_text(opened)).opened == leaf.opened


@pytest.mark.parametrize(("value", "code"), [(float("nan"), "not_a_number"), ("\ud800", "surrogate")])
def test_what_has_no_json_is_refused_with_its_own_reason(value, code):
    with pytest.raises(Invalid) as why:
        seal(event_with({"urn:x:own": value}), "other")
    assert why.value.code == code
