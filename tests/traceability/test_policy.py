"""A policy says whom to trust and until when; a file that does not say it clearly is refused."""

import pytest

from traceability import TraceError
from traceability.keys import KeyKind, SigningKey
from traceability.notes import Checkpoint
from traceability.policy import BadPolicy, NotTrusted, Policy, Trusted, TrustedLog

LOG = SigningKey.new("log.example", random=lambda n: b"L" * n)
NEXT = SigningKey.new("log.example", random=lambda n: b"N" * n)
WITNESS = SigningKey.new("witness.example", KeyKind.COSIGNATURE, random=lambda n: b"W" * n)
CHECKPOINT = Checkpoint("log.example", 7, b"r" * 32)
NOW = 1_800_000_000_000

TOML = f"""
format = "tianmai-policy@1"
quorum = 1

[[logs]]
origin = "log.example"
vkey = "{LOG.verifier.vkey}"
until = 2027-01-31T00:00:00+08:00

[[logs]]
origin = "log.example"
vkey = "{NEXT.verifier.vkey}"
from = "2027-01-01T00:00:00+08:00"

[[witnesses]]
vkey = "{WITNESS.verifier.vkey}"
"""


def test_toml_and_json_say_the_same():
    policy = Policy.parse(TOML.encode())
    assert Policy.parse(policy.to_json()) == policy
    assert policy.logs[0].trusted.until_ms == 1_801_324_800_000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("quorum = 1", "quorum = 2", "quorum 2 of 1"),
        ("quorum = 1", "quorum = true", "not a number"),
        ("quorum = 1", "quorum = 0x" + "f" * 9000, "beyond"),
        ("tianmai-policy@1", "tianmai-policy@2", "instead of"),
        ("quorum = 1", "threshold = 1", "unknown threshold"),
        (NEXT.verifier.vkey, LOG.verifier.vkey, "stands twice"),
        (LOG.verifier.vkey, WITNESS.verifier.vkey, "type byte"),
        (LOG.verifier.vkey, "log.example+00000000+AAAA", r"logs\[0\]"),
        ("T00:00:00+08:00\n", "T00:00:00\n", "lacks its zone"),
        ('"2027-01-01T00:00:00+08:00"', '"soon"', "not a time"),
        ('origin = "log.example"', "origin = 1", "origin is not text"),
        ("[[witnesses]]", "[witnesses]", "not a list"),
        ("format", "form", "format missing"),
    ],
)
def test_an_unclear_policy_is_refused_with_the_place(old, new, said):
    with pytest.raises(BadPolicy, match=said):
        Policy.parse(TOML.replace(old, new, 1).encode())


@pytest.mark.parametrize("text", [b"a=" + b"[" * 3000, b"a=" + b"9" * 5000, b"\xff", b"a=1\na=2"])
def test_a_text_that_overtaxes_the_reader_is_refused_too(text):
    with pytest.raises(BadPolicy, match="neither JSON nor TOML"):
        Policy.parse(text)


def test_a_key_counts_within_its_time_as_the_witness_dates_it():
    policy = Policy.parse(TOML.encode())
    january = 1_798_800_000
    for key, seconds, good in [(LOG, january, True), (LOG, january + 10**7, False), (NEXT, 1_790_000_000, False)]:
        note = CHECKPOINT.sign(key).with_signature(WITNESS, seconds=seconds)
        if good:
            assert policy.accept(note, now_ms=2 * NOW).log == key.verifier
        else:
            with pytest.raises(NotTrusted, match="not valid"):
                policy.accept(note, now_ms=2 * NOW)


def test_during_a_change_of_keys_both_signatures_may_stand():
    policy = Policy.parse(TOML.encode())
    note = CHECKPOINT.sign(LOG, NEXT).with_signature(WITNESS, seconds=1_790_000_000)
    assert policy.accept(note, now_ms=NOW).log == LOG.verifier
    assert policy.accept(note, now_ms=NOW, every_line=True).log == LOG.verifier


def test_without_witnesses_the_reader_s_clock_decides():
    policy = Policy((TrustedLog("log.example", Trusted(LOG.verifier, until_ms=NOW)),))
    assert policy.accept(CHECKPOINT.sign(LOG), now_ms=NOW - 1).seen_ms is None
    with pytest.raises(NotTrusted):
        policy.accept(CHECKPOINT.sign(LOG), now_ms=NOW)


def test_a_checkpoint_of_an_unknown_log_or_of_nobody_proves_nothing():
    policy = Policy((TrustedLog("log.example", Trusted(LOG.verifier)),))
    for note in (Checkpoint("other.example", 7, b"r" * 32).sign(LOG), CHECKPOINT.sign(NEXT)):
        with pytest.raises(TraceError):
            policy.accept(note, now_ms=NOW)
