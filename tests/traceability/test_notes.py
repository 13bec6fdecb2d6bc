"""Notes and keys: published vectors, odd signatures, and files that keep a secret."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceability import TraceError
from traceability.keys import BadKey, BadSignature, KeyKind, SigningKey, VerifierKey, load_key, save_key, verify_ed25519
from traceability.notes import BadNote, Checkpoint, Note

LOG = SigningKey.new("log.example", random=lambda n: b"L" * n)
WITNESS = SigningKey.new("witness.example", KeyKind.COSIGNATURE, random=lambda n: b"W" * n)
CHECKPOINT = Checkpoint("log.example", 7, b"r" * 32)


@given(name=st.from_regex(r"[^\s+\x00-\x1f]{1,20}", fullmatch=True), seed=st.binary(min_size=32, max_size=32))
def test_keys_keep_their_form(name, seed):
    for kind in KeyKind:
        key = SigningKey.new(name, kind, random=lambda n: seed)
        assert SigningKey.parse(key.text) == key
        assert VerifierKey.parse(key.verifier.vkey) == key.verifier


def test_a_note_carries_the_log_and_its_witness():
    note = CHECKPOINT.sign(LOG).with_signature(WITNESS, seconds=1234)
    again = Note.parse(note.whole)
    assert again == note
    assert again.signed_by([LOG.verifier, WITNESS.verifier]) == {LOG.verifier: None, WITNESS.verifier: 1234}
    assert Checkpoint.parse(again.text) == CHECKPOINT


def test_lines_by_unknown_keys_are_ignored_and_bad_lines_by_known_ones_are_not():
    note = CHECKPOINT.sign(LOG, SigningKey.new("stranger.example"))
    assert list(note.signed_by([LOG.verifier])) == [LOG.verifier]
    other = Checkpoint("log.example", 8, b"r" * 32)
    with pytest.raises(BadSignature):
        Note(other.text, note.signatures).signed_by([LOG.verifier])
    assert note.signed_by([WITNESS.verifier]) == {}


@pytest.mark.parametrize(
    "note",
    ["", "text\n", "text\n\n", "text\n\n— a QUFBQUE=", "text\n\n- a QUFBQUE=\n", "text\n\n— a+b QUFBQUE=\n",
     "text\n\n— a QUFBQQ==\n", "te\rxt\n\n— a QUFBQUE=\n", "text\n\n— a QUFBQUF=\n", "text\n\n— a QUFBQUE=\n\n"],
)  # fmt: skip
def test_what_is_not_a_note_is_refused(note):
    with pytest.raises(BadNote):
        Note.parse(note)


@pytest.mark.parametrize(
    "text", ["a\n1\n", "a\n01\nAAAA\n", "a\n-1\nAAAA\n", "a\n1\nAAAA\n", "a\n1\n" + "A" * 43 + "=", "\n1\n"]
)
def test_what_is_not_a_checkpoint_is_refused(text):
    with pytest.raises(BadNote):
        Checkpoint.parse(text)


def test_a_key_file_is_for_its_owner_only_and_never_overwritten(tmp_path):
    path = tmp_path / "keys" / "log.key"
    save_key(path, LOG)
    assert load_key(path) == LOG
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadKey, match="exists"):
        save_key(path, LOG)
    path.chmod(0o644)
    with pytest.raises(BadKey, match="chmod 600"):
        load_key(path)
    with pytest.raises(BadKey, match="cannot read"):
        load_key(tmp_path / "none")


def test_a_secret_is_not_shown_by_accident():
    assert LOG.text.rsplit("+", 1)[1] not in repr(LOG)
    assert "LLLL" not in repr(LOG)


def test_an_honest_signature_passes_the_strict_rule():
    assert verify_ed25519(LOG.verifier.public, LOG.sign(b"x"), b"x")
    assert not verify_ed25519(LOG.verifier.public, LOG.sign(b"x"), b"y")


def test_odd_signatures_are_judged_by_one_strict_rule(shared_data):
    low = {"low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R"}
    for case in json.loads((shared_data / "traceability/ed25519/edge-cases.json").read_text()):
        key, signature = bytes.fromhex(case["key"]), bytes.fromhex(case["sig"])
        accepted = verify_ed25519(key, signature, case["msg"].encode())
        fair = case["accepted_by_openssl_backed_cryptography_50"] and not low & set(case["flags"] or ())
        assert accepted == fair, case


def test_published_notes_and_keys(shared_data):
    folder = shared_data / "traceability" / "tlog"
    cases = json.loads((folder / "signed-notes.json").read_text())
    for case in cases["vkeys"]:
        if case["valid"]:
            assert VerifierKey.parse(case["vkey"]).kind == case["alg"]
        else:
            with pytest.raises(BadKey):
                VerifierKey.parse(case["vkey"])
    for case in cases["vectors"]:
        note = Note.parse(case["note"] if "note" in case else (folder / case["file"]).read_text("utf-8"))
        try:
            good = bool(note.signed_by([VerifierKey.parse(case["vkey"])]))
        except TraceError:
            good = False
        assert good == case["valid"], case["desc"]
