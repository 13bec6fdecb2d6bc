"""Whoever reads the whole log notices what no single proof shows."""

import re
import signal
import subprocess
import sys

import pytest

from traceability.__main__ import main
from traceability.keys import KeyKind, SigningKey, save_key
from traceability.ledger import Ledger, open_ledger
from traceability.monitor import Contradiction, LogAway, Monitor, files_at
from traceability.policy import NotTrusted, Policy, Trusted, TrustedLog
from traceability.stores import MemoryEntries, MemoryHead, MemoryTiles
from traceability.witness import WitnessClient, cosign, post_to

LOG = SigningKey.new("log.example", random=lambda n: b"L" * n)
POLICY = Policy((TrustedLog("log.example", Trusted(LOG.verifier)),))
NOW = 1_800_000_000_000
EVENTS = [b"event %d" % n for n in range(900)]


class Log:
    """A log whose files can be read and tampered with."""

    def __init__(self, events=()):
        self.tiles, self.head = MemoryTiles(), MemoryHead()
        self.ledger = Ledger(MemoryEntries(), self.tiles, self.head, LOG)
        if events:
            self.ledger.append(events)

    def read(self, name):
        return self.head.read().encode() if name == "checkpoint" else self.tiles.read(name)


def follow(log, head=None):
    return Monitor(log.read, POLICY, head or MemoryHead())


def test_a_growing_log_is_followed_entry_by_entry():
    log, seen = Log(), []
    monitor = follow(log)
    for n in range(0, 900, 130):
        log.ledger.append(EVENTS[n : n + 130])
        step = monitor.step(now_ms=NOW, seen=lambda index, entry: seen.append((index, entry)))
        assert (step.old, step.new) == (n, min(n + 130, 900))
    assert seen == list(enumerate(EVENTS))
    assert monitor.step(now_ms=NOW).old == 900


def test_another_tiled_log_is_followed_too(shared_data):
    folder = shared_data / "traceability/tlog/tessera-testlog"
    vkey = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
    policy = f'format="tianmai-policy@1"\n[[logs]]\norigin="example.com/log/testdata"\nvkey="{vkey}"'
    seen = []
    monitor = Monitor(files_at(str(folder)), Policy.parse(policy.encode()), MemoryHead())
    assert monitor.step(now_ms=NOW, seen=lambda index, entry: seen.append(entry)).new == 15
    assert seen[:2] == [b"one", b"two"]


def refuse(monitor, code, act=None):
    with pytest.raises(Contradiction) as told:
        (act or monitor.step)(now_ms=NOW)
    assert told.value.code == code
    return told.value


def test_a_log_that_became_shorter_is_noticed_with_both_heads():
    head = MemoryHead()
    follow(Log(EVENTS), head).step(now_ms=NOW)
    told = refuse(follow(Log(EVENTS[:800]), head), "rolled_back")
    assert "\n900\n" in told.kept
    assert "\n800\n" in told.shown


@pytest.mark.parametrize("events", [[b"x", *EVENTS[1:]], [b"x", *EVENTS], [*EVENTS[:899], b"x", b"y"]])
def test_a_log_that_was_rewritten_is_noticed(events):
    head = MemoryHead()
    follow(Log(EVENTS), head).step(now_ms=NOW)
    refuse(follow(Log(events), head), "forked")


@pytest.mark.parametrize("name", ["tile/entries/001", "tile/entries/003.p/132"])
@pytest.mark.parametrize("data", [b"", b"\x00\x01x", None])
def test_entries_that_do_not_lead_to_the_head_are_noticed(name, data):
    log = Log(EVENTS)
    log.tiles.files[name] = log.tiles.files[name].replace(b"event", b"EVENT") if data is None else data
    refuse(follow(log), "damaged")


def test_two_readers_who_were_shown_different_logs_find_out_by_comparing_heads():
    one, other = Log(EVENTS), Log([*EVENTS[:700], b"other"])
    monitor = follow(one)
    monitor.step(now_ms=NOW)
    refuse(monitor, "forked", lambda now_ms: monitor.compare(other.head.read(), now_ms=now_ms))
    assert monitor.compare(Log(EVENTS[:700]).head.read(), now_ms=NOW).size == 700
    refuse(monitor, "rolled_back", lambda now_ms: monitor.compare(Log([*EVENTS, b"x"]).head.read(), now_ms=now_ms))


def test_a_head_by_another_key_or_none_is_not_followed():
    stranger = Ledger(MemoryEntries(), MemoryTiles(), head := MemoryHead(), SigningKey.new("log.example"))
    stranger.append([b"x"])
    with pytest.raises(NotTrusted):
        Monitor(lambda name: head.read().encode(), POLICY, MemoryHead()).step(now_ms=NOW)
    with pytest.raises(LogAway):
        Monitor(lambda name: None, POLICY, MemoryHead()).step(now_ms=NOW)
    with pytest.raises(LogAway):
        files_at("/no/such/folder")


def test_the_commands_follow_witness_and_compare(tmp_path, capsys):
    key = SigningKey.new("witness.example", KeyKind.COSIGNATURE)
    save_key(tmp_path / "witness.key", key)
    (tmp_path / "policy.json").write_bytes(POLICY.to_json())
    with open_ledger(tmp_path / "log", LOG) as ledger:
        ledger.append(EVENTS[:300])
        arguments = ["--policy", str(tmp_path / "policy.json")]
        monitor = ["monitor", str(tmp_path / "log/public"), *arguments, "--state", str(tmp_path / "seen"), "--once"]
        assert main([*monitor, "--find", "event 299"]) == 0
        said = capsys.readouterr().out
        assert "entry 299: event 299\n" in said
        assert "log.example: 300 entries (300 new)" in said
        witness = ["witness", "--key", str(tmp_path / "witness.key"), *arguments, "--state", str(tmp_path / "w")]
        run = [sys.executable, "-m", "traceability", *witness, "--listen", "127.0.0.1:0"]
        with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as server:
            url = re.search(r"http://\S+(?=/add-checkpoint)", server.stdout.readline())[0]
            cosigned = cosign(ledger, [WitnessClient(key.verifier, post_to(url))])
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) == 0
    assert not cosigned.missing
    (tmp_path / "head").write_text(cosigned.note.whole, "utf-8")
    assert main([*monitor, "--against", str(tmp_path / "head")]) == 0
    (tmp_path / "head").write_text(Log([b"x"]).head.read(), "utf-8")
    assert main([*monitor, "--against", str(tmp_path / "head")]) == 1
    assert "CONTRADICTION (forked)" in capsys.readouterr().out


def test_wrong_use_is_told_in_one_line(tmp_path, capsys):
    save_key(tmp_path / "log.key", LOG)
    (tmp_path / "policy.json").write_bytes(POLICY.to_json())
    arguments = ["--policy", str(tmp_path / "policy.json"), "--state", str(tmp_path / "w")]
    assert main(["witness", "--key", str(tmp_path / "log.key"), *arguments]) == 2
    assert main(["witness", "--key", str(tmp_path / "log.key"), *arguments, "--listen", "nowhere"]) == 2
    assert main(["monitor", str(tmp_path / "none"), *arguments, "--once"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in told] == [True] * 3
