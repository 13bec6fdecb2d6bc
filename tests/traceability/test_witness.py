"""A witness signs only what extends what it signed before, and remembers it through a crash."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from traceability.canon import to_base64
from traceability.keys import KeyKind, SigningKey
from traceability.ledger import Ledger
from traceability.merkle import leaf_hash
from traceability.notes import Checkpoint, Note
from traceability.policy import Policy, Trusted, TrustedLog
from traceability.proofs import TlogProof
from traceability.stores import MemoryEntries, MemoryHead, MemoryTiles
from traceability.witness import (
    Contradiction,
    Witness,
    WitnessAway,
    WitnessClient,
    WitnessError,
    cosign,
    open_witness,
    post_to,
    serve,
)

LOG = SigningKey.new("log.example", random=lambda n: b"L" * n)
KEY = SigningKey.new("witness.example", KeyKind.COSIGNATURE, random=lambda n: b"W" * n)
POLICY = Policy((TrustedLog("log.example", Trusted(LOG.verifier)),), (Trusted(KEY.verifier),), quorum=1)
NOW = 1_800_000_000


def make_witness():
    return Witness(KEY, {"log.example": [LOG.verifier]}, lambda origin: MemoryHead(), seconds=lambda: NOW)


def make_ledger(events=()):
    ledger = Ledger(MemoryEntries(), MemoryTiles(), MemoryHead(), LOG)
    if events:
        ledger.append(events)
    return ledger


def client(witness):
    def send(body):
        answer = witness.add_checkpoint(body)
        return answer.status, answer.body.encode()

    return WitnessClient(KEY.verifier, send)


def ask(witness, old, proof, note):
    lines = [f"old {old}", *map(to_base64, proof), "", note]
    answer = witness.add_checkpoint("\n".join(lines).encode())
    return answer.status, answer.body


EVENTS = [b"%d" % n for n in range(40)]


def test_a_witness_follows_a_growing_log_and_its_signature_counts():
    witness, ledger = make_witness(), make_ledger()
    holder = client(witness)
    for n in range(0, 40, 7):
        ledger.append(EVENTS[n : n + 7])
        note = cosign(ledger, [holder]).note
        accepted = POLICY.accept(Note.parse(note.whole), now_ms=NOW * 1000)
        assert accepted.witnesses == (("witness.example", NOW * 1000),)
    proof = ledger.prove(3)
    text = TlogProof(3, proof.hashes, note.whole, extra=b"hello").text
    assert TlogProof.parse(text).text == text
    TlogProof.parse(text).verify(leaf_hash(EVENTS[3]), POLICY, now_ms=NOW * 1000)


def test_each_answer_is_the_one_the_protocol_prescribes():
    ledger = make_ledger(EVENTS[:10])
    early = ledger.checkpoint()
    ledger.append(EVENTS)
    late = ledger.checkpoint()
    witness = make_witness()
    assert ask(witness, 0, [], Checkpoint("other.example", 1, b"r" * 32).sign(LOG).whole)[0] == 404
    assert ask(witness, 0, [], Checkpoint("log.example", 1, b"r" * 32).sign(KEY).whole)[0] == 403
    assert ask(witness, 0, [], early.replace("\n10\n", "\n11\n"))[0] == 403
    assert ask(witness, 11, [], early)[0] == 400
    assert ask(witness, 5, [], early) == (409, "0\n")
    assert ask(witness, 0, [b"r" * 32], early)[0] == 422
    assert ask(witness, 0, [], early)[0] == 200
    assert ask(witness, 10, [], early)[0] == 200
    assert ask(witness, 0, [], late) == (409, "10\n")
    assert ask(witness, 10, ledger.consistency(9, 40), late)[0] == 422
    assert ask(witness, 10, [], Checkpoint("log.example", 10, b"r" * 32).sign(LOG).whole) == (409, "10\n")
    assert ask(witness, 10, ledger.consistency(10, 40), late)[0] == 200
    assert ask(witness, 10, [], early) == (409, "40\n")


@pytest.mark.parametrize("body", [b"", b"\xff", b"old 01\n\nx", b"old 0\nAA\n\nx\n", b"old 0\n" + b"A\n" * 64 + b"\nx"])
def test_what_is_no_request_is_400(body):
    assert make_witness().add_checkpoint(body).status == 400


def test_a_log_that_was_rolled_back_finds_no_witness():
    witness = make_witness()
    cosign(make_ledger(EVENTS), [client(witness)])
    missing = cosign(make_ledger(EVENTS[:30]), [client(witness)]).missing
    assert missing["witness.example"].code == "rolled_back"


def test_a_log_that_was_rewritten_and_signed_again_finds_no_witness():
    witness = make_witness()
    cosign(make_ledger(EVENTS), [client(witness)])
    for other in ([b"x", *EVENTS[1:]], [b"x", *EVENTS]):
        with pytest.raises(Contradiction) as told:
            client(witness).cosign(Note.parse((ledger := make_ledger(other)).checkpoint()), ledger)
        assert told.value.code == "forked"


def test_of_many_askers_at_once_none_moves_a_witness_back():
    witness, ledger = make_witness(), make_ledger()
    notes = [Note.parse(ledger.append([event])[0].checkpoint) for event in EVENTS]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda note: _cosigned(client(witness), note, ledger), notes * 3))
    assert any(answers)
    client(witness).cosign(Note.parse(ledger.checkpoint()), ledger)
    assert ask(witness, 0, [], ledger.checkpoint()) == (409, "40\n")


def _cosigned(holder, note, ledger):
    try:
        return holder.cosign(note, ledger)
    except WitnessError:
        return None


def test_a_witness_remembers_through_a_restart(tmp_path):
    ledger = make_ledger(EVENTS[:10])
    witness = open_witness(tmp_path, KEY, POLICY, seconds=lambda: NOW)
    assert ask(witness, 0, [], ledger.checkpoint())[0] == 200
    again = open_witness(tmp_path, KEY, POLICY, seconds=lambda: NOW)
    assert ask(again, 0, [], ledger.checkpoint()) == (409, "10\n")


def test_a_witness_that_cannot_keep_what_it_signs_does_not_sign():
    class Full(MemoryHead):
        def replace(self, old, new):
            raise OSError("no space")

    witness = Witness(KEY, {"log.example": [LOG.verifier]}, lambda origin: Full(), seconds=lambda: NOW)
    with pytest.raises(OSError, match="no space"):
        ask(witness, 0, [], make_ledger(EVENTS).checkpoint())


def test_a_witness_answers_over_http():
    ledger = make_ledger(EVENTS)
    with serve(make_witness(), ("127.0.0.1", 0)) as server:
        running = threading.Thread(target=server.serve_forever)
        running.start()
        try:
            holder = WitnessClient(KEY.verifier, post_to(f"http://127.0.0.1:{server.server_port}/w"))
            note = cosign(ledger, [holder]).note
            stranger = make_ledger([b"x", *EVENTS])
            missing = cosign(stranger, [WitnessClient(KEY.verifier, holder.send)]).missing
        finally:
            server.shutdown()
            running.join()
    assert POLICY.accept(note, now_ms=NOW * 1000).seen_ms == NOW * 1000
    assert isinstance(missing["witness.example"], Contradiction)
    with pytest.raises(WitnessAway):
        holder.cosign(note, ledger)
    with pytest.raises(WitnessError, match="http"):
        post_to("file:///etc")


def test_a_witness_that_signs_with_another_key_does_not_count():
    other = SigningKey.new("witness.example", KeyKind.COSIGNATURE)
    witness = Witness(other, {"log.example": [LOG.verifier]}, lambda origin: MemoryHead(), seconds=lambda: NOW)
    assert "another key" in str(cosign(make_ledger(EVENTS), [client(witness)]).missing["witness.example"])
