"""A pack over the turn of a year: two logs, two checkpoints, one story."""

import json
import random

import pytest
from packs_of_years import EVENTS, GOOD, KEY, NOW_MS, ONLY_FIRST, ORIGINS, POLICY, SUBJECT, WRONG, pack_of

from traceability.__main__ import main
from traceability.keys import KeyKind, SigningKey
from traceability.packs import BadPack, Pack
from traceability.policy import BadPolicy, Policy, Trusted, TrustedLog


def verify(data, policy=POLICY):
    return Pack.parse(data).verify(policy, now_ms=NOW_MS)


def test_events_of_two_logs_are_proven_each_under_its_own_checkpoint():
    proven = verify(GOOD)
    assert [head.checkpoint.origin for head in proven.heads] == list(ORIGINS)
    assert [(event.origin, event.index) for event in proven.events] == [
        (ORIGINS[0], 3),
        (ORIGINS[0], 4),
        (ORIGINS[1], 4),
        (ORIGINS[1], 5),
    ]
    assert [event.what for event in proven.events] == ["collecting", "storing", "packing", "shipping"]
    assert Pack.parse(GOOD).encode() == GOOD


def test_where_one_log_will_do_the_pack_keeps_its_first_form():
    assert json.loads(pack_of(1).encode())["format"] == "tianmai-pack@1"
    assert json.loads(GOOD)["format"] == "tianmai-pack@2"


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_two_logs_is_refused_in_one_line(case):
    text, said, _ = WRONG[case]
    with pytest.raises(BadPack) as told:
        verify(text)
    assert str(told.value).startswith(said)
    assert "\n" not in str(told.value)


def test_a_log_that_the_policy_does_not_name_is_refused_by_its_name():
    with pytest.raises(BadPack, match=r"checkpoint 2: log 'trace\.example/log/2027' is not in the policy"):
        verify(GOOD, ONLY_FIRST)
    assert verify(pack_of(0).encode().replace(SUBJECT.encode(), b"lot:eggs"), ONLY_FIRST).heads[0].log == KEY.verifier


def test_every_single_changed_byte_is_refused():
    chance = random.Random(9)
    for place in range(len(GOOD)):
        changed = bytearray(GOOD)
        changed[place] ^= chance.randrange(1, 256)
        with pytest.raises(BadPack):
            verify(bytes(changed))


def test_the_report_names_both_logs_and_which_event_lies_where(tmp_path, capsys):
    (tmp_path / "pack.json").write_bytes(GOOD)
    (tmp_path / "policy.json").write_bytes(POLICY.to_json())
    verified = ["verify", str(tmp_path / "pack.json"), "--policy", str(tmp_path / "policy.json")]
    assert main(verified) == 0
    said = capsys.readouterr().out
    assert "（日志 trace.example/log 第 3 条）" in said
    assert "（日志 trace.example/log/2027 第 5 条）" in said
    assert main([*verified, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [log["origin"] for log in told["logs"]] == list(ORIGINS)
    assert [event["log"] for event in told["events"]] == [ORIGINS[year] for year, _ in EVENTS]
    (tmp_path / "policy.json").write_bytes(ONLY_FIRST.to_json())
    assert main(verified) == 1
    assert "is not in the policy" in capsys.readouterr().out


def test_one_key_may_speak_for_several_logs_but_twice_for_none_and_never_as_a_witness():
    twice = TrustedLog(ORIGINS[0], Trusted(KEY.verifier))
    with pytest.raises(BadPolicy, match="twice"):
        Policy((twice, twice))
    witness = SigningKey.new("w.example", KeyKind.COSIGNATURE, random=lambda n: b"L" * n).verifier
    assert witness.public == KEY.verifier.public
    with pytest.raises(BadPolicy, match="twice"):
        Policy((twice,), (Trusted(witness),))
