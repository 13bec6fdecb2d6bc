"""The tree against the definition in RFC 6962 §2.1, written down as it stands there."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceability.merkle import (
    EMPTY_ROOT,
    BadProof,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    right_edge,
    root_hash,
    verify_consistency,
    verify_inclusion,
)
from traceability.tiles import Growth, TileReader

SIZES = st.integers(1, 1500)


def leaves(count):
    return [leaf_hash(b"%d" % n) for n in range(count)]


def naive_root(hashes):
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(naive_root(hashes[:half]), naive_root(hashes[half:]))


def naive_path(index, hashes):
    if len(hashes) == 1:
        return ()
    half = 1 << (len(hashes) - 1).bit_length() - 1
    if index < half:
        return (*naive_path(index, hashes[:half]), naive_root(hashes[half:]))
    return (*naive_path(index - half, hashes[half:]), naive_root(hashes[:half]))


def naive_consistency(old, hashes, *, whole=True):
    size = len(hashes)
    if old == size:
        return () if whole else (naive_root(hashes),)
    half = 1 << (size - 1).bit_length() - 1
    if old <= half:
        return (*naive_consistency(old, hashes[:half], whole=whole), naive_root(hashes[half:]))
    return (*naive_consistency(old - half, hashes[half:], whole=False), naive_root(hashes[:half]))


ALL = leaves(1500)
GROWN, FULL = Growth().grown(ALL)
TILES = {(level, number): tile for level, number, tile in FULL} | {
    (level, number): tile for level, number, tile in GROWN.partial_tiles()
}
READER = TileReader(lambda level, number, width: TILES[level, number][: width * 32], keep=99)
NODE = READER.node(len(ALL))


@given(size=st.integers(0, 1500))
def test_the_root_agrees_with_the_definition(size):
    assert root_hash(size, NODE) == naive_root(ALL[:size])


@given(size=SIZES, data=st.data())
def test_inclusion_proofs_agree_with_the_definition_and_verify(size, data):
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, NODE)
    assert proof == naive_path(index, ALL[:size]) == READER.inclusion_proof(index, size, right_edge(size, NODE))
    verify_inclusion(ALL[index], index, size, proof, naive_root(ALL[:size]))


@given(size=SIZES, data=st.data())
def test_consistency_proofs_agree_with_the_definition_and_verify(size, data):
    old = data.draw(st.integers(1, size))
    proof = consistency_proof(old, size, NODE)
    assert proof == naive_consistency(old, ALL[:size])
    verify_consistency(old, size, proof, naive_root(ALL[:old]), naive_root(ALL[:size]))


@given(size=st.integers(2, 700), data=st.data())
def test_a_changed_proof_does_not_verify(size, data):
    index = data.draw(st.integers(0, size - 1))
    proof = list(inclusion_proof(index, size, NODE))
    place, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    proof[place] = (int.from_bytes(proof[place], "big") ^ 1 << bit).to_bytes(32, "big")
    with pytest.raises(BadProof):
        verify_inclusion(ALL[index], index, size, proof, naive_root(ALL[:size]))


@given(parts=st.lists(st.integers(0, 600), max_size=5))
def test_a_tree_grown_in_parts_is_the_tree_grown_at_once(parts):
    parts = [min(part, 300) for part in parts]
    growth, finished = Growth(), []
    for part in parts:
        growth, more = growth.grown(ALL[growth.size : growth.size + part])
        finished += more
    once, at_once = Growth().grown(ALL[: sum(parts)])
    assert (growth, sorted(finished)) == (once, sorted(at_once))
    assert growth.root == naive_root(ALL[: sum(parts)])


def test_leaves_outside_the_tree_have_no_proof():
    with pytest.raises(BadProof):
        inclusion_proof(5, 5, NODE)
    with pytest.raises(BadProof):
        consistency_proof(6, 5, NODE)


def _bytes(value):
    return base64.b64decode(value or "")


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_published_vectors_good_and_bad(shared_data, kind):
    wrong = []
    for case in json.loads((shared_data / "traceability" / "merkle-rfc6962" / f"{kind}.json").read_text()):
        proof = [_bytes(item) for item in case["proof"] or []]
        try:
            if kind == "inclusion":
                leaf, root = _bytes(case["leafHash"]), _bytes(case["root"])
                verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root)
            else:
                verify_consistency(case["size1"], case["size2"], proof, _bytes(case["root1"]), _bytes(case["root2"]))
        except BadProof:
            refused = True
        else:
            refused = False
        if refused != case["wantErr"]:
            wrong.append(case["desc"])
    assert not wrong
