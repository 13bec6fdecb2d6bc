"""The standard proof text: published texts, good and malformed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceability.proofs import BadProofText, TlogProof


def test_published_proof_texts(shared_data):
    for case in json.loads((shared_data / "traceability/tlog/tlog-proof-syntax.json").read_text())["vectors"]:
        if case["parses"]:
            assert TlogProof.parse(case["proof"]).text == case["proof"]
        else:
            with pytest.raises(BadProofText):
                TlogProof.parse(case["proof"])


@given(
    index=st.integers(0, 2**40),
    hashes=st.lists(st.binary(min_size=32, max_size=32), max_size=40).map(tuple),
    extra=st.none() | st.binary(max_size=50),
)
def test_a_proof_text_is_read_as_it_was_written(index, hashes, extra):
    proof = TlogProof(index, hashes, "log\n1\nroot\n\nlines\n", extra)
    assert TlogProof.parse(proof.text) == proof


@pytest.mark.parametrize(
    "text",
    ["", "c2sp.org/tlog-proof@v2\nindex 0\n\nx",
     "c2sp.org/tlog-proof@v1\nindex 0\n",
     "c2sp.org/tlog-proof@v1\nindex 00\n\nx",
     "c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\nx", "c2sp.org/tlog-proof@v1\nindex 0\nextra AAAA\n\nx"],
)  # fmt: skip
def test_malformed_texts_are_refused(text):
    with pytest.raises(BadProofText):
        TlogProof.parse(text)
