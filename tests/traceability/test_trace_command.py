"""A stranger's check: a separate process, keys from the policy only, no network, one clear answer."""

import json
import os
import subprocess
import sys
import time

import pytest

from traceability.__main__ import main
from traceability.canon import encode
from traceability.key_lists import key_list
from traceability.keys import KeyKind, SigningKey, VerifierKey
from traceability.ledger import Ledger, open_ledger
from traceability.notes import Note
from traceability.packs import assemble, commit
from traceability.policy import Policy, Trusted, TrustedLog
from traceability.report import TEXTS
from traceability.stores import MemoryEntries, MemoryHead, MemoryTiles
from traceability.witness import WitnessClient, cosign, post_to

KEY, STRANGER = SigningKey.new("log.example"), SigningKey.new("log.example")
WITNESS = SigningKey.new("witness.example", KeyKind.COSIGNATURE)
SUBJECT = "https://t.example/01/06901234567892/10/L7"


def make_pack(key=KEY, who="王小明", *, before=(), seconds=None):
    egg = commit({"when": 1000, "what": "collecting", "inputs": [], "outputs": ["lot:eggs"]}, {"who": who})
    box = commit(
        {"when": 2000, "what": "packing", "inputs": ["lot:eggs"], "outputs": [SUBJECT]}, {"who": "<李>", "tel": 1}
    )
    with Ledger(MemoryEntries(), MemoryTiles(), MemoryHead(), key) as ledger:
        ledger.append(list(before))
        places = [ledger.append([leaf.entry])[0].index for leaf in (egg, box)]
        note = Note.parse(ledger.checkpoint()).with_signature(WITNESS, seconds=seconds or int(time.time())).whole
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
    assert TEXTS["en"]["complete"] in said
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


def refused(pack_file, policy_file, capsys):
    """What `verify` says as it refuses, in one line of JSON."""
    assert main(["verify", str(pack_file), "--policy", str(policy_file), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verified"] is False
    return told["reason"]


def test_a_pack_of_another_log_is_refused(tmp_path, policy, capsys):
    file = tmp_path / "other.json"
    file.write_bytes(make_pack(SigningKey.new("other.example")))
    assert "'other.example' is not in the policy" in refused(file, policy, capsys)


def test_a_proof_out_of_another_log_of_the_same_key_is_refused(tmp_path, policy, capsys):
    mine, other = json.loads(make_pack()), json.loads(make_pack(before=[b"x", b"y"]))
    mine["events"][0]["proof"] = other["events"][0]["proof"]
    file = tmp_path / "mixed.json"
    file.write_bytes(encode(mine).replace(b"<", b"\\u003c"))
    assert refused(file, policy, capsys)


def test_a_checkpoint_from_the_future_is_refused(tmp_path, policy, capsys):
    file = tmp_path / "future.json"
    file.write_bytes(make_pack(seconds=int(time.time()) + 86_400))
    assert "in the future" in refused(file, policy, capsys)


def test_what_a_revoked_key_signed_is_refused_from_its_end_on_and_good_before(tmp_path, pack, capsys):
    now = int(time.time() * 1000)
    file = tmp_path / "revoked.json"
    for until_ms, verdict in ((now - 3_600_000, 1), (now + 3_600_000, 0)):
        logs = (TrustedLog("log.example", Trusted(KEY.verifier, until_ms=until_ms)),)
        file.write_bytes(Policy(logs, (Trusted(WITNESS.verifier),), quorum=1).to_json())
        assert main(["verify", str(pack), "--policy", str(file)]) == verdict
    assert "2 条记录" in capsys.readouterr().out


@pytest.fixture
def log(tmp_path):
    """A log's folder with three entries, and a policy that knows its key."""
    with open_ledger(tmp_path / "log", KEY) as ledger:
        ledger.append([b"one", b"two", b"three"])
    policy = tmp_path / "log-policy.json"
    policy.write_bytes(Policy((TrustedLog("log.example", Trusted(KEY.verifier)),)).to_json())
    return tmp_path / "log", policy


def look(log, policy, state):
    return main(["monitor", str(log / "public"), "--policy", str(policy), "--state", str(state), "--once"])


def test_a_monitor_reads_a_log_and_finds_it_rolled_back(tmp_path, log, capsys):
    folder, policy = log
    old = (folder / "public" / "checkpoint").read_text()
    with open_ledger(folder, KEY) as ledger:
        ledger.append([b"four"])
    assert look(folder, policy, tmp_path / "head") == 0
    assert "4 entries (4 new)" in capsys.readouterr().out
    (folder / "public" / "checkpoint").write_text(old)
    assert look(folder, policy, tmp_path / "head") == 1
    assert "CONTRADICTION" in capsys.readouterr().out


def test_a_monitor_refuses_a_head_that_no_key_of_its_policy_signed(tmp_path, log, capsys):
    folder, policy = log
    policy.write_bytes(Policy((TrustedLog("log.example", Trusted(STRANGER.verifier)),)).to_json())
    assert look(folder, policy, tmp_path / "head") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_keys_follow_prints_the_policy_with_the_key_that_the_log_announced(log, capsys):
    folder, policy = log
    following = SigningKey.new("log.example")
    listed = [Trusted(KEY.verifier, until_ms=9_000_000_000_000), Trusted(following.verifier, 9_000_000_000_000)]
    with open_ledger(folder, KEY) as ledger:
        ledger.append([key_list("log.example", listed, [KEY, following]), key_list("log.example", listed, [STRANGER])])
    assert main(["keys", "follow", str(folder / "public"), "--policy", str(policy)]) == 0
    told = capsys.readouterr()
    assert [each.trusted for each in Policy.parse(told.out.encode()).logs] == listed
    assert told.err.startswith("not followed: entry 4")


def test_a_witness_of_the_command_line_cosigns_a_head_and_ends_when_asked(tmp_path, log):
    folder, policy = log
    assert main(["keys", "new", "--witness", "w.example", str(tmp_path / "w.key")]) == 0
    run = [sys.executable, "-m", "traceability", "witness", "--key", str(tmp_path / "w.key"), "--policy", str(policy)]
    command = [*run, "--state", str(tmp_path / "heads"), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as witness:
        try:
            vkey, url = witness.stdout.readline().strip().split(" at ")
            send = post_to(url.removesuffix("/add-checkpoint"))
            with open_ledger(folder, KEY) as ledger:
                seen = cosign(ledger, [WitnessClient(VerifierKey.parse(vkey), send)])
            assert seen.missing == {}
            assert len(seen.note.signatures) == 2
        finally:
            witness.terminate()
    assert witness.returncode == 0


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:x", "127.0.0.1"])
def test_a_witness_without_a_port_or_with_a_log_s_key_is_wrong_use(tmp_path, log, listen, capsys):
    assert main(["keys", "new", "--witness", "w.example", str(tmp_path / "w.key")]) == 0
    assert main(["keys", "new", "log.example", str(tmp_path / "l.key")]) == 0
    for key in ("w.key", "l.key"):
        asked = ["witness", "--key", str(tmp_path / key), "--policy", str(log[1]), "--state", str(tmp_path / "heads")]
        assert main([*asked, "--listen", listen]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("width", ["nan", "inf", "-inf", "-5", "0", "1e9"])
def test_a_label_of_an_impossible_width_is_refused_in_one_line(tmp_path, capsys, width):
    (tmp_path / "serials").write_text("ABCDEF\n", encoding="ascii")
    given = ["--gtin", "02011700010006", "--lot", "L1", "--serials", str(tmp_path / "serials")]
    out = tmp_path / "labels"
    assert main(["labels", *given, str(out), "--format", "png", f"--width={width}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert not out.exists()


def test_who_reads_only_the_beginning_of_a_verdict_does_not_change_it(pack, policy):
    run = [sys.executable, "-m", "traceability", "verify", str(pack), "--policy", str(policy)]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(run, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_file_that_holds_no_head_is_named(tmp_path, log, capsys):
    folder, policy = log
    junk = tmp_path / "junk"
    junk.write_text("hello")
    asked = ["monitor", str(folder / "public"), "--policy", str(policy), "--once"]
    assert main([*asked, "--state", str(junk)]) == 2
    assert f"{junk} holds no head" in capsys.readouterr().err
    assert main([*asked, "--state", str(tmp_path / "head"), "--against", str(junk)]) == 2
    assert f"{junk} holds no head" in capsys.readouterr().err
    assert junk.read_text() == "hello"
