"""A pack proves its events or nothing: every single changed byte must be noticed."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceability.canon import encode
from traceability.keys import KeyKind, SigningKey
from traceability.merkle import inclusion_proof, leaf_hash, node_hash, root_hash
from traceability.notes import Checkpoint, Note
from traceability.packs import BadPack, Leaf, Pack, assemble, commit
from traceability.policy import Policy, Trusted, TrustedLog

NOW = 1_800_000_000_000
ORIGIN = "trace.example/2026"
LOG = SigningKey.new(ORIGIN, random=lambda n: b"L" * n)
OTHER_LOG = SigningKey.new(ORIGIN, random=lambda n: b"O" * n)
WITNESSES = [
    SigningKey.new(f"witness.example/{name}", KeyKind.COSIGNATURE, random=lambda n, name=name: name * n)
    for name in (b"a", b"b")
]
POLICY = Policy(
    (TrustedLog(ORIGIN, Trusted(LOG.verifier)),), tuple(Trusted(key.verifier) for key in WITNESSES), quorum=2
)
PACKET = "https://t.example/01/06901234567892/10/L7/21/ABC"


def make_leaves():
    who = {"who": "王小明 <farm>", "where": "合川区"}
    return [
        commit({"when": 1000, "what": "birth", "inputs": [], "outputs": ["ear:1"]}, who),
        commit(
            {"when": 2000, "what": "slaughtering", "inputs": ["ear:1"], "outputs": ["half:1"], "grams": 90_000}, who
        ),
        commit({"when": 3000, "what": "packing", "inputs": ["half:1"], "outputs": [PACKET]}, who),
    ]


def make_tree(leaves):
    hashes = [leaf_hash(leaf.entry) for leaf in leaves]

    def node(level, index):
        if level == 0:
            return hashes[index]
        return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))

    return node


def sign(size, node, *, log=LOG, witnesses=WITNESSES, seconds=NOW // 1000 - 60):
    note = Checkpoint(ORIGIN, size, root_hash(size, node)).sign(log)
    for key in witnesses:
        note = note.with_signature(key, seconds=seconds)
    return note.whole


def make_pack(leaves=None, subject=PACKET, **signing):
    leaves = leaves or make_leaves()
    others = [commit({"when": 5, "what": "other", "inputs": [], "outputs": ["x"]}, {}) for _ in range(4)]
    node = make_tree([*others, *leaves])
    size = len(others) + len(leaves)
    items = [(leaf.showing(["who"]), len(others) + n) for n, leaf in enumerate(leaves)]
    return assemble(
        subject, items, checkpoint=sign(size, node, **signing), prove=lambda i, n: inclusion_proof(i, n, node)
    )


GOOD = make_pack().encode()


def verify(data, policy=POLICY, now=NOW):
    return Pack.parse(data).verify(policy, now_ms=now)


def test_a_good_pack_tells_its_events_in_order_and_what_is_withheld():
    proven = verify(GOOD)
    assert [event.what for event in proven.events] == ["birth", "slaughtering", "packing"]
    assert proven.events[0].get("who") == "王小明 <farm>"
    assert proven.events[0].withheld == ("where",)
    assert proven.heads[0].seen_ms == NOW - 60_000


def test_a_pack_may_stand_inside_a_page():
    assert b"<" not in GOOD
    assert Pack.parse(GOOD).encode() == GOOD


def test_every_single_changed_byte_is_refused():
    chance = random.Random(5)
    for place in range(len(GOOD)):
        changed = bytearray(GOOD)
        changed[place] ^= chance.randrange(1, 256)
        with pytest.raises(BadPack):
            verify(bytes(changed))


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7))
def test_every_single_changed_bit_is_refused(place, bit):
    changed = bytearray(GOOD)
    changed[place] ^= 1 << bit
    with pytest.raises(BadPack):
        verify(bytes(changed))


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, len(GOOD)), more=st.binary(min_size=1, max_size=3))
def test_bytes_put_in_or_left_out_are_refused(place, more):
    with pytest.raises(BadPack):
        verify(GOOD[:place] + more + GOOD[place:])
    with pytest.raises(BadPack):
        verify(GOOD[:place] + GOOD[place + len(more) :] if place < len(GOOD) else GOOD[:-1])


def test_a_pack_signed_again_by_another_key_is_refused():
    with pytest.raises(BadPack, match="outside the policy"):
        verify(make_pack(log=OTHER_LOG).encode())


def test_fewer_witnesses_than_the_quorum_are_refused():
    with pytest.raises(BadPack, match="1 witnesses"):
        verify(make_pack(witnesses=WITNESSES[:1]).encode())


def test_one_witness_does_not_count_twice():
    with pytest.raises(BadPack, match="two signatures"):
        verify(make_pack(witnesses=[WITNESSES[0], WITNESSES[0]]).encode())


def test_a_checkpoint_of_the_future_is_refused():
    with pytest.raises(BadPack, match="future"):
        verify(make_pack(seconds=NOW // 1000 + 3600).encode())


def test_what_a_withdrawn_key_signed_before_stays_good_and_after_is_refused():
    withdrawn = Trusted(LOG.verifier, until_ms=NOW - 1_000_000)
    policy = Policy((TrustedLog(ORIGIN, withdrawn),), POLICY.witnesses, quorum=2)
    verify(make_pack(seconds=NOW // 1000 - 2000).encode(), policy)
    with pytest.raises(BadPack, match="not valid at the time"):
        verify(GOOD, policy)


def test_events_of_another_life_cannot_be_slipped_in():
    stranger = commit({"when": 1500, "what": "vaccinating", "inputs": [], "outputs": ["ear:2"]}, {})
    birth, slaughter, packing = make_leaves()
    with pytest.raises(BadPack, match="event 2: not about this thing"):
        verify(make_pack([birth, stranger, slaughter, packing]).encode())


def test_a_pack_must_end_with_its_subject():
    with pytest.raises(BadPack, match="not about"):
        verify(make_pack(subject="https://t.example/01/06901234567892/21/OTHER").encode())


def test_events_out_of_order_are_refused():
    pack = make_pack()
    with pytest.raises(BadPack, match="not after"):
        verify(Pack(pack.subject, pack.events[::-1], pack.checkpoints).encode())


def test_erasing_a_value_leaves_the_proof_valid():
    leaves = [Leaf(leaf.entry) for leaf in make_leaves()]
    assert verify(make_pack(leaves).encode()).events[0].withheld == ("where", "who")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update(extra=1), "exactly"),
        (lambda t: t.pop("subject"), "exactly"),
        (lambda t: t["events"][0].update(note="hi"), "event 1"),
        (
            lambda t: t["events"][0]["disclosed"].update(age={"salt": "AAAAAAAAAAAAAAAAAAAAAA==", "value": 1}),
            "committed",
        ),
        (lambda t: t["events"][0]["disclosed"]["who"].update(value="张三"), "event 1: field 'who'"),
        (lambda t: t["events"][1]["leaf"].update(grams=1), "event 2"),
        (lambda t: t["events"][2].update(index=0), "event 3"),
        (lambda t: t.update(events=[]), "0 events"),
        (lambda t: t.update(format="tianmai-pack@2"), "format"),
    ],
)
def test_a_changed_table_is_refused_with_the_place(change, said):
    table = json.loads(GOOD)
    change(table)
    with pytest.raises(BadPack, match=said):
        verify(encode(table).replace(b"<", b"\\u003c"))


@pytest.mark.parametrize(
    ("public", "private", "said"),
    [
        ({"what": "x", "inputs": [], "outputs": ["a"]}, {}, "lacks when"),
        ({"when": 1, "what": "x", "inputs": [], "outputs": []}, {}, "outputs"),
        ({"when": 1, "what": "x", "inputs": [], "outputs": ["a"], "Who": 1}, {}, "field name"),
        ({"when": 1, "what": "x", "inputs": [], "outputs": ["a"], "who": 1}, {"who": 2}, "both"),
        ({"when": 1, "what": "x", "inputs": [], "outputs": ["a"], "big": "x" * 70_000}, {}, "bytes"),
    ],
)
def test_a_leaf_that_says_too_little_or_too_much_is_refused(public, private, said):
    with pytest.raises(BadPack, match=said):
        commit(public, private)


def test_a_note_keeps_its_form():
    (note,) = Pack.parse(GOOD).checkpoints
    assert Note.parse(note).whole == note
