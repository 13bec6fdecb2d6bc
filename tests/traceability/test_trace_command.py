"""A stranger's check: a separate process, keys from the policy only, no network, one clear answer."""

import json
import subprocess
import sys
import time

import pytest

from traceability.__main__ import main
from traceability.keys import KeyKind, SigningKey
from traceability.ledger import Ledger
from traceability.notes import Note
from traceability.packs import assemble, commit
from traceability.policy import Policy, Trusted, TrustedLog
from traceability.stores import MemoryEntries, MemoryHead, MemoryTiles

KEY, STRANGER = SigningKey.new("log.example"), SigningKey.new("log.example")
WITNESS = SigningKey.new("witness.example", KeyKind.COSIGNATURE)
SUBJECT = "https://t.example/01/06901234567892/10/L7"


def make_pack(key=KEY, who="王小明"):
    egg = commit({"when": 1000, "what": "collecting", "inputs": [], "outputs": ["lot:eggs"]}, {"who": who})
    box = commit(
        {"when": 2000, "what": "packing", "inputs": ["lot:eggs"], "outputs": [SUBJECT]}, {"who": "<李>", "tel": 1}
    )
    with Ledger(MemoryEntries(), MemoryTiles(), MemoryHead(), key) as ledger:
        places = [ledger.append([leaf.entry])[0].index for leaf in (egg, box)]
        note = Note.parse(ledger.checkpoint()).with_signature(WITNESS, seconds=int(time.time())).whole
        items = zip((egg, box.showing(["who"])), places, strict=True)
        return assemble(SUBJECT, items, checkpoint=note, prove=lambda i, n: ledger.prove(i, n).hashes).encode()


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.json"
    logs, witnesses = (TrustedLog("log.example", Trusted(KEY.verifier)),), (Trusted(WITNESS.verifier),)
    path.write_bytes(Policy(logs, witnesses, quorum=1).to_json())
    return path


@pytest.fixture
def pack(tmp_path):
    path = tmp_path / "box.json"
    path.write_bytes(make_pack())
    return path


def page_of(pack):
    return (
        '<!doctype html><html><script>let a = "<b>";</script><p>猪肉</p>\n'
        f'<SCRIPT id="pack" type="application/tianmai-pack+json">{pack.decode()}</SCRIPT></html>'
    ).encode()


def test_another_process_accepts_a_good_pack(pack, policy):
    run = [sys.executable, "-m", "traceability", "verify", str(pack), "--policy", str(policy)]
    done = subprocess.run(run, capture_output=True, text=True, encoding="utf-8", check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "已证实：2 条记录" in done.stdout
    assert "王小明" in done.stdout
    assert "tel" in done.stdout


def test_the_report_is_given_in_english_and_as_json(pack, policy, capsys):
    assert main(["verify", str(pack), "--policy", str(policy), "--lang", "en"]) == 0
    said = capsys.readouterr().out
    assert "Only claimed" in said
    assert "not shown (committed to, cannot change): tel" in said
    assert main(["verify", str(pack), "--policy", str(policy), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verified"] is True
    assert [event["disclosed"] for event in told["events"]] == [{"who": "王小明"}, {"who": "<李>"}]


def test_a_value_cannot_steer_the_terminal_nor_flood_it(tmp_path, policy, capsys):
    (tmp_path / "odd.json").write_bytes(make_pack(who="\x1b[2Jfine" + "x" * 999))
    assert main(["verify", str(tmp_path / "odd.json"), "--policy", str(policy)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\\x1b[2Jfine" in said
    assert max(map(len, said.splitlines())) < 250


def test_a_saved_page_is_checked_by_the_pack_in_it(tmp_path, policy, capsys):
    page = tmp_path / "page.html"
    page.write_bytes(page_of(make_pack()))
    assert main(["verify", str(page), "--policy", str(policy)]) == 0
    page.write_bytes(page_of(make_pack()).replace(b"collecting", b"collectinG"))
    capsys.readouterr()
    assert main(["verify", str(page), "--policy", str(policy)]) == 1
    assert "event 1" in capsys.readouterr().out
    assert main(["verify", str(page), "--policy", str(policy), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verified"] is False


def test_a_page_signed_again_by_another_key_is_refused(tmp_path, policy, capsys):
    page = tmp_path / "page.html"
    page.write_bytes(page_of(make_pack(STRANGER)))
    assert main(["verify", str(page), "--policy", str(policy)]) == 1
    assert "未通过核验" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "format = 1", "{}", '{"format":"tianmai-policy@1","logs":[]}', "\xff"])
def test_a_bad_policy_is_wrong_use_with_one_line(tmp_path, pack, text, capsys):
    path = tmp_path / "policy.toml"
    path.write_text(text, "latin-1")
    assert main(["verify", str(pack), "--policy", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert str(path) in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("data", [b"", b"\xff\x00\x01", b"{}", b'{"a":1}', b"<html></html>", None])
def test_what_is_no_pack_at_all_is_wrong_use_with_one_line(tmp_path, policy, data, capsys):
    file = tmp_path / "thing"
    if data is None:
        file.mkdir()
    else:
        file.write_bytes(data)
    assert main(["verify", str(file), "--policy", str(policy)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert str(file) in told
    assert told.count("\n") == 1


def test_a_pack_cut_short_or_changed_in_its_format_was_a_pack_and_is_not_verified(pack, policy, capsys):
    whole = pack.read_bytes()
    for data in (whole[: len(whole) // 2], whole[:-1], whole.replace(b"tianmai-pack@1", b"tianmai-pAck@1")):
        pack.write_bytes(data)
        assert main(["verify", str(pack), "--policy", str(policy)]) == 1
        assert capsys.readouterr().err == ""


def test_a_log_that_does_not_answer_a_single_look_is_an_error(tmp_path, policy, capsys):
    asked = ["monitor", "http://127.0.0.1:9", "--policy", str(policy), "--state", str(tmp_path / "head"), "--once"]
    assert main(asked) == 2
    assert capsys.readouterr().err.startswith("error: no answer from http://127.0.0.1:9/")


def test_a_key_file_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path, tmp_path / "file" / "log.key"):
        assert main(["keys", "new", "x", str(place)]) == 2
        told = capsys.readouterr().err
        assert str(place) in told
        assert told.count("\n") == 1


def test_a_missing_file_is_wrong_use(tmp_path, policy, capsys):
    assert main(["verify", str(tmp_path / "none"), "--policy", str(policy)]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_keys_are_made_once_and_shown(tmp_path, capsys):
    path = tmp_path / "log.key"
    assert main(["keys", "new", "trace.example/2026", str(path)]) == 0
    made = capsys.readouterr().out
    assert main(["keys", "show", str(path)]) == 0
    assert capsys.readouterr().out == made
    assert main(["keys", "new", "trace.example/2026", str(path)]) == 2
    assert "never overwritten" in capsys.readouterr().err
