"""Whatever comes in from outside is taken or refused in our own words; nothing else is ever raised."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceability import TraceError
from traceability.canon import decode, decode_canonical
from traceability.key_lists import follow, key_list
from traceability.keys import KeyKind, SigningKey, VerifierKey
from traceability.notes import Checkpoint, Note
from traceability.packs import Pack, assemble, commit
from traceability.policy import Policy, Trusted, TrustedLog
from traceability.proofs import TlogProof
from traceability.shards import previous_head
from traceability.stores import MemoryHead
from traceability.tiles import unpack_bundle
from traceability.witness import Witness

LOG = SigningKey.new("log.example", random=lambda n: b"L" * n)
WITNESS = SigningKey.new("witness.example", KeyKind.COSIGNATURE, random=lambda n: b"W" * n)
POLICY = Policy((TrustedLog("log.example", Trusted(LOG.verifier)),), (Trusted(WITNESS.verifier),), quorum=1)
LEAF = commit({"when": 1, "what": "packing", "inputs": [], "outputs": ["x"]}, {"who": "王"})
NOTE = Checkpoint("log.example", 1, b"r" * 32).sign(LOG).with_signature(WITNESS, seconds=1)
KEYS = key_list("log.example", [Trusted(LOG.verifier)], [LOG])


def judge_pack(data):
    Pack.parse(data).verify(POLICY, now_ms=10**13)


def judge_request(data):
    witness = Witness(WITNESS, {"log.example": [LOG.verifier]}, lambda origin: MemoryHead(), seconds=lambda: 1)
    assert witness.add_checkpoint(data).status in {200, 400, 403, 404, 409, 422}


def text(door):
    return lambda data: door(data.decode("utf-8", "replace"))


DOORS = {
    "json": (decode, b'{"a":[1,"b",null]}'),
    "canonical json": (decode_canonical, b'{"a":[1,"b",null]}'),
    "pack": (judge_pack, assemble("x", [(LEAF, 0)], checkpoint=NOTE.whole, prove=lambda i, n: ()).encode()),
    "note": (text(lambda note: Note.parse(note).signed_by([LOG.verifier])), NOTE.whole.encode()),
    "checkpoint": (text(Checkpoint.parse), NOTE.text.encode()),
    "policy": (Policy.parse, POLICY.to_json()),
    "policy in toml": (
        Policy.parse,
        f'format="tianmai-policy@1"\n[[logs]]\norigin="a"\nvkey="{LOG.verifier.vkey}"'.encode(),
    ),
    "proof": (text(TlogProof.parse), TlogProof(0, (b"h" * 32,), NOTE.whole, b"e").text.encode()),
    "bundle": (unpack_bundle, b"\x00\x01a\x00\x02bc"),
    "vkey": (text(VerifierKey.parse), LOG.verifier.vkey.encode()),
    "signing key": (text(SigningKey.parse), LOG.text.encode()),
    "key list": (lambda entry: follow(POLICY, entry), KEYS),
    "shard": (previous_head, b"tianmai-shard@1\n" + NOTE.whole.encode()),
    "witness": (judge_request, b"old 0\n\n" + NOTE.whole.encode()),
}


@pytest.mark.parametrize("name", DOORS)
@given(data=st.data())
def test_a_door_takes_or_refuses(name, data):
    door, good = DOORS[name]
    place = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 6))
    put = data.draw(
        st.binary(max_size=6) | st.sampled_from([b"\n\n", b"[" * 3000, b"9" * 5000, b"\xff", b"\x00", b'"', b"-1"])
    )
    for changed in (good[:place] + put + good[place + cut :], put):
        with contextlib.suppress(TraceError):
            door(changed)


@pytest.mark.parametrize("name", [name for name in DOORS if name != "pack"])
def test_each_door_takes_what_is_good(name):
    door, good = DOORS[name]
    door(good)
