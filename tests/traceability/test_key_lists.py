"""A log changes its key in the open, and whoever has the old one can follow."""

import json

import pytest

from traceability.__main__ import main
from traceability.key_lists import BadKeyList, follow, key_list
from traceability.keys import KeyKind, SigningKey
from traceability.ledger import BadLedger, open_ledger
from traceability.notes import Checkpoint, Note
from traceability.policy import NotTrusted, Policy, Trusted, TrustedLog

ORIGIN = "log.example"
OLD, NEW, NEXT = (SigningKey.new(ORIGIN, random=lambda n, seed=seed: seed * n) for seed in (b"o", b"n", b"x"))
WITNESS = SigningKey.new("witness.example", KeyKind.COSIGNATURE)
POLICY = Policy((TrustedLog(ORIGIN, Trusted(OLD.verifier)),), (Trusted(WITNESS.verifier),), quorum=0)
CHANGE_MS = 1_700_000_000_000
LIST = [Trusted(OLD.verifier, until_ms=CHANGE_MS), Trusted(NEW.verifier, from_ms=CHANGE_MS)]


def test_a_policy_grows_by_a_list_that_an_old_key_and_the_new_one_signed():
    grown = follow(POLICY, key_list(ORIGIN, LIST, [OLD, NEW]))
    assert [log.trusted for log in grown.logs] == LIST
    assert grown.witnesses == POLICY.witnesses
    head = Checkpoint(ORIGIN, 0, b"r" * 32).sign(NEW)
    assert grown.accept(head, now_ms=CHANGE_MS).log == NEW.verifier
    with pytest.raises(NotTrusted):
        grown.accept(head, now_ms=CHANGE_MS - 1)


@pytest.mark.parametrize(
    ("signers", "said"),
    [([NEW], "no key that is trusted"), ([OLD], "did not sign the list itself"), ([NEXT], "no key")],
)
def test_a_list_without_the_needed_signatures_is_not_followed(signers, said):
    with pytest.raises(BadKeyList, match=said):
        follow(POLICY, key_list(ORIGIN, LIST, signers))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(str(CHANGE_MS), str(CHANGE_MS + 1)),
        lambda text: text.replace(ORIGIN, "other.example"),
        lambda text: text.replace("keys@1", "keys@2"),
        lambda text: text.replace(" - ", " soon "),
        lambda text: text[:90],
        lambda text: text[text.index("\n\n") - 3 :],
        lambda text: text.replace(OLD.verifier.vkey, WITNESS.verifier.vkey),
    ],
)
def test_a_changed_list_is_not_followed(change):
    with pytest.raises(BadKeyList):
        follow(POLICY, change(key_list(ORIGIN, LIST, [OLD, NEW]).decode()).encode())


def test_the_whole_change_from_announcement_to_a_followed_policy(tmp_path, capsys):
    with open_ledger(tmp_path / "log", OLD) as ledger:
        ledger.append([b"before", key_list(ORIGIN, LIST, [OLD, NEW]), key_list(ORIGIN, LIST, [NEXT])])
        before = ledger.checkpoint()
    with pytest.raises(BadLedger, match="not signed by"):
        open_ledger(tmp_path / "log", NEW)
    with open_ledger(tmp_path / "log", NEW, former=[OLD.verifier]) as ledger:
        assert Note.parse(ledger.checkpoint()).text == Note.parse(before).text
        ledger.append([b"after"])
    with open_ledger(tmp_path / "log", NEW) as ledger:
        assert ledger.size == 4
    (tmp_path / "policy.json").write_bytes(POLICY.to_json())
    public = str(tmp_path / "log" / "public")
    assert (
        main(["monitor", public, "--policy", str(tmp_path / "policy.json"), "--state", str(tmp_path / "s"), "--once"])
        == 2
    )
    assert main(["keys", "follow", public, "--policy", str(tmp_path / "policy.json")]) == 0
    told = capsys.readouterr()
    assert "not followed: entry 2" in told.err
    (tmp_path / "new.json").write_text(told.out, "utf-8")
    assert [log["vkey"] for log in json.loads(told.out)["logs"]] == [OLD.verifier.vkey, NEW.verifier.vkey]
    assert (
        main(["monitor", public, "--policy", str(tmp_path / "new.json"), "--state", str(tmp_path / "s"), "--once"]) == 0
    )
