"""The cloud's log over the turn of a year: captured, proven, followed, checked, and crashed at every step of it."""

import json
import random
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import event as sql_event
from sqlalchemy import text

from cloud.database import open_database
from cloud.problems import Unavailable
from cloud.provenance import (
    LogBook,
    LogPlace,
    Provenance,
    announce_next_key,
    audit_log,
    log_policy,
    read_witnesses,
    restore_log,
)
from cloud.provenance.journal import SqlJournal
from cloud.provenance.store import metadata
from cloud.provenance.years import SqlYears
from traceability import TraceError
from traceability.__main__ import main
from traceability.demo import demo_chains
from traceability.key_lists import follow_log
from traceability.keys import KeyKind, SigningKey, load_key
from traceability.ledger import open_ledger
from traceability.merkle import EMPTY_ROOT
from traceability.monitor import Contradiction, LogAway, Monitor, files_at
from traceability.notes import Checkpoint, Note
from traceability.packs import BadPack, Pack
from traceability.policy import NotTrusted, Policy
from traceability.shard_monitor import YearlyMonitor
from traceability.shards import previous_head
from traceability.stores import MemoryHead, StoreError
from traceability.witness import open_witness, serve

ORIGIN = "trace.example/log"
NEW_YEAR = int(datetime.fromisoformat("2027-01-01T00:00:00+08:00").timestamp() * 1000)
YEAR_MS = 365 * 86_400_000
EGGS = next(chain for chain in demo_chains(NEW_YEAR - 86_400_000, domain="https://id.gs1.org") if chain.chain == "eggs")
PATH = EGGS.subject.removeprefix("https://id.gs1.org")
HALF = len(EGGS.events) // 2


class Clock:
    def __init__(self, ms):
        self.ms = ms

    def __call__(self):
        return self.ms


@pytest.fixture
def clock():
    """The last minute of the year."""
    return Clock(NEW_YEAR - 60_000)


@pytest.fixture
def place(tmp_path):
    return LogPlace(tmp_path / "ledger", tmp_path / "log.key", ORIGIN)


def opened(engine, place, clock):
    metadata.create_all(engine)
    log = LogBook(engine, place, clock)
    return log, Provenance(engine, log, site="http://127.0.0.1:1", clock=clock)


def capture(service, events):
    return [receipt.index for one in events for receipt in service.capture(one, chain="eggs", by="me")]


def over_the_year(engine, place, clock):
    """A lot whose story began in the old year and ends in the new one; the log is closed again."""
    log, service = opened(engine, place, clock)
    places = capture(service, EGGS.events[:HALF])
    clock.ms = NEW_YEAR + 60_000
    places += capture(service, EGGS.events[HALF:])
    return log, service, places


def published(log, place):
    """Reads the log's files, once they show this year's newest head."""
    file = place.public / (
        "checkpoint" if len(log.state().shards) == 1 else f"{log.state().shards[-1].folder}/checkpoint"
    )
    wanted, deadline = log.checkpoint().split("\n\n")[0], time.monotonic() + 20
    while wanted not in file.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return files_at(str(place.public))


def head_of(place, folder=""):
    return Checkpoint.parse(Note.parse((place.public / folder / "checkpoint").read_text()).text)


def test_the_new_year_s_log_begins_with_the_last_head_of_the_old_one(engine, place, clock):
    log, service, places = over_the_year(engine, place, clock)
    assert places == [*range(HALF), *range(HALF + 1, len(EGGS.events) + 1)]  # the joint has a place of its own
    state = service.log_state()
    assert (state.origin, state.size) == (f"{ORIGIN}/2027", len(EGGS.events) - HALF + 1)
    assert [(each.folder, each.first, each.last) for each in state.shards] == [("", 0, HALF - 1), ("2027", HALF, None)]
    seen = []
    YearlyMonitor(published(log, place), Policy.parse(service.policy_text.encode()), lambda _: MemoryHead()).step(
        now_ms=clock.ms, seen=lambda index, entry: seen.append((index, entry))
    )
    joint = previous_head(seen[HALF][1])
    assert (seen[HALF][0], Checkpoint.parse(joint.text)) == (0, head_of(place))
    assert len(seen) == len(EGGS.events) + 1
    service.close()
    assert audit_log(engine, place) == ()


def test_a_pack_over_the_turn_is_good_by_the_policy_and_by_the_one_of_the_year_before(engine, place, clock):
    _, service = opened(engine, place, clock)
    of_old_year = Policy.parse(service.policy_text.encode())
    service.close()
    _, service, places = over_the_year(engine, place, clock)
    pack = Pack.parse(service.consumer(PATH).pack.encode())
    for policy in (of_old_year, Policy.parse(service.policy_text.encode())):
        proven = pack.verify(policy, now_ms=clock.ms)
        assert [head.checkpoint.origin for head in proven.heads] == [ORIGIN, f"{ORIGIN}/2027"]
    assert len(proven.events) == len(places)
    first_only = Policy(tuple(log for log in of_old_year.logs if log.origin == ORIGIN))
    with pytest.raises(BadPack, match="2027' is not in the policy"):
        pack.verify(first_only, now_ms=clock.ms)
    service.close()


def test_a_pack_of_one_year_keeps_its_form_before_and_after_the_turn(engine, place, clock):
    _, service = opened(engine, place, clock)
    capture(service, EGGS.events)
    before = json.loads(service.consumer(PATH).pack)
    clock.ms = NEW_YEAR
    after = json.loads(service.consumer(PATH).pack)
    assert before["format"] == after["format"] == "tianmai-pack@1"
    assert after["checkpoint"].startswith(f"{ORIGIN}\n")
    assert after == before
    service.close()


def test_the_turn_happens_while_everybody_captures_and_nobody_loses_an_event(engine, place, clock):
    log, service = opened(engine, place, clock)
    taken, refused = [], []

    def one(number):
        if number == 60:
            clock.ms = NEW_YEAR
        event = json.loads(json.dumps(EGGS.events[0]).replace("urn:tianmai:", f"urn:tianmai:{number}:"))
        event["eventID"] = f"urn:uuid:00000000-0000-4000-8000-{number:012d}"
        try:
            taken.append((number, service.capture(event, chain=None, by="me")[0].index))
        except Exception as why:  # noqa: BLE001 - told below
            refused.append(why)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(120)))
    assert refused == []
    joint = log.state().shards[-1].first
    assert sorted(place for _, place in taken) == [n for n in range(121) if n != joint]
    head = Checkpoint.parse(Note.parse(log.checkpoint()).text)
    assert head.size == 121 - joint
    for _, at in taken:
        assert log.prove(at, head.size if at > joint else joint)
    service.close()
    assert audit_log(engine, place) == ()


def test_a_log_that_was_closed_over_the_turn_opens_in_the_new_year_and_stays_there(engine, place, clock):
    _, service = opened(engine, place, clock)
    capture(service, EGGS.events[:HALF])
    service.close()
    clock.ms = NEW_YEAR + YEAR_MS
    _, service = opened(engine, place, clock)
    assert service.log_state().origin == f"{ORIGIN}/2028"
    service.close()
    clock.ms = NEW_YEAR
    _, service = opened(engine, place, clock)
    assert service.log_state().origin == f"{ORIGIN}/2028"
    assert capture(service, EGGS.events[:1]) == [0]  # the same event again has its old receipt
    service.close()
    assert audit_log(engine, place) == ()


def test_a_log_from_before_there_were_shards_goes_on_as_the_first_of_them(engine, place, clock):
    _, service = opened(engine, place, clock)
    capture(service, EGGS.events[:HALF])
    service.close()
    with engine.begin() as db:
        db.exec_driver_sql("delete from chain_shard")
    assert audit_log(engine, place) == ()
    _, service, _ = over_the_year(engine, place, clock)
    assert [each.origin for each in service.log_state().shards] == [ORIGIN, f"{ORIGIN}/2027"]
    assert len(Pack.parse(service.consumer(PATH).pack.encode()).checkpoints) == 2
    service.close()
    assert audit_log(engine, place) == ()


def test_the_key_changes_and_every_year_is_signed_by_the_new_one(engine, place, clock):
    log, service = opened(engine, place, clock)
    before = Policy.parse(service.policy_text.encode())
    capture(service, EGGS.events[:HALF])
    announce_next_key(place.key_file, ORIGIN, from_ms=NEW_YEAR + 120_000)
    clock.ms = NEW_YEAR + 60_000
    capture(service, EGGS.events[HALF:])
    clock.ms = NEW_YEAR + 180_000
    policy = Policy.parse(service.policy_text.encode())
    pack = Pack.parse(service.consumer(PATH).pack.encode())
    proven = pack.verify(policy, now_ms=clock.ms)
    assert {f"{head.log.key_id:08x}" for head in proven.heads} == {log.fingerprint}
    followed, refused = follow_log(before, published(log, place), now_ms=clock.ms)
    assert refused == ()
    assert set(followed.logs) == {each for each in policy.logs if each.origin != f"{ORIGIN}/2028"}
    service.close()
    assert audit_log(engine, place) == ()


@pytest.fixture
def witness(tmp_path, engine, place, clock):
    """A real witness over HTTP that was told of the log before the turn; its `VKEY=URL`."""
    log, service = opened(engine, place, clock)
    policy = Policy.parse(log.policy_text.encode())
    service.close()
    key = SigningKey.new("bureau.example", KeyKind.COSIGNATURE)
    heads = open_witness(tmp_path / "heads", key, policy, seconds=lambda: clock.ms // 1000)
    server = serve(heads, ("127.0.0.1", 0))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{key.verifier.vkey}=http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_witness_remembers_each_year_by_itself_and_cosigns_both_heads_of_a_pack(engine, place, clock, witness):
    seen = LogPlace(place.folder, place.key_file, ORIGIN, read_witnesses(witness), 1)
    _, service = opened(engine, seen, clock)
    policy = Policy.parse(service.policy_text.encode())
    capture(service, EGGS.events[:HALF])
    assert service.log_state().witnesses == ["bureau.example"]
    clock.ms = NEW_YEAR + 1_000
    capture(service, EGGS.events[HALF:])
    proven = Pack.parse(service.consumer(PATH).pack.encode()).verify(policy, now_ms=clock.ms)
    assert [[name for name, _ in head.witnesses] for head in proven.heads] == [["bureau.example"]] * 2
    service.close()
    _, service = opened(engine, seen, clock)  # a restart: the old year's head is cosigned once more
    Pack.parse(service.consumer(PATH).pack.encode()).verify(policy, now_ms=clock.ms)
    service.close()


def test_who_does_not_own_the_log_is_told_the_same_policy(engine, place, clock):
    fresh = log_policy(engine, place, clock.ms)
    _, service, _ = over_the_year(engine, place, clock)
    origins = [log.origin for log in Policy.parse(service.policy_text.encode()).logs]
    assert origins == [ORIGIN, f"{ORIGIN}/2027", f"{ORIGIN}/2028"]
    assert log_policy(engine, place, clock.ms) == service.policy_text
    assert [log.origin for log in Policy.parse(fresh.encode()).logs] == origins[:2]
    service.close()


def test_the_policy_file_follows_years_and_keys_while_the_service_runs(engine, place, clock, tmp_path):
    file = tmp_path / "policy.toml"
    log, service = opened(engine, replace(place, policy_file=file), clock)
    assert file.read_text() == log.policy_text
    clock.ms = NEW_YEAR
    service.log_state()
    assert file.read_text() == log.policy_text
    assert f"{ORIGIN}/2028" in file.read_text()
    fresh = announce_next_key(place.key_file, ORIGIN, from_ms=NEW_YEAR + 60_000)
    clock.ms += 2_000
    service.log_state()
    assert fresh.key.vkey in file.read_text()
    service.close()


def test_every_year_s_files_are_served_and_no_name_leads_elsewhere(engine, place, clock):
    log, service, _ = over_the_year(engine, place, clock)
    published(log, place)
    assert service.log_file("shards") == f"tianmai-shards@1\n{ORIGIN}\n{ORIGIN}/2027\n".encode()
    assert service.log_file("2027/checkpoint").startswith(f"{ORIGIN}/2027\n".encode())
    assert service.log_file("checkpoint").startswith(f"{ORIGIN}\n{HALF}\n".encode())
    assert len(service.log_file(f"tile/0/000.p/{HALF}")) == 32 * HALF
    for name in ("2027/shards", "2027/../checkpoint", "27/checkpoint", "2027/2027/checkpoint", "2028/checkpoint"):
        with pytest.raises(Exception, match="no file"):
            log.file(name)
    service.close()


WRITER = """
import sys
from pathlib import Path
from cloud.database import open_database
from cloud.provenance import LogBook, LogPlace
from cloud.provenance.journal import Companion
from cloud.provenance.store import metadata

folder, life, new_year = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
engine = open_database(f"sqlite:///{folder / 'log.db'}")
metadata.create_all(engine)
done = [0]
clock = lambda: new_year + (int(life) - 1) * 31_536_000_000 + (0 if done[0] > 40 else -1)
log = LogBook(engine, LogPlace(folder / "ledger", folder / "log.key", "trace.example/log"), clock)
print("open", flush=True)
while True:
    receipts = log.submit([f"{life}/{done[0]}/{n}".encode() for n in range(5)], Companion(())).result()
    print(done[0], receipts[0].place, flush=True)
    done[0] += 1
"""


def test_a_kill_at_the_turn_loses_nothing_that_was_acknowledged(tmp_path):
    chance, acknowledged = random.Random(), []
    for life in (1, 2):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(life), str(NEW_YEAR)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            lines = [writer.stdout.readline()]
            while lines[-1] and not lines[-1].startswith("38 "):
                lines.append(writer.stdout.readline())
            time.sleep(chance.uniform(0.0, 0.06))  # the turn comes three groups later
            writer.kill()
            lines += writer.stdout.read().splitlines(keepends=True)
        whole = [line.split() for line in lines if line.endswith("\n") and line != "open\n"]
        acknowledged += [(life, int(number), int(place)) for number, place in whole]
    engine = open_database(f"sqlite:///{tmp_path / 'log.db'}")
    place = LogPlace(tmp_path / "ledger", tmp_path / "log.key", ORIGIN)
    log = LogBook(engine, place, lambda: NEW_YEAR + 2 * YEAR_MS)
    journal = SqlJournal(engine)
    for life, number, at in acknowledged:
        assert journal.read(at, at + 5) == [b"%d/%d/%d" % (life, number, n) for n in range(5)]
    policy = Policy.parse(log.policy_text.encode())
    log.close()
    assert audit_log(engine, place) == ()
    assert len(follow(place, policy, now_ms=NEW_YEAR + 4 * YEAR_MS)) >= 2
    engine.dispose()


def test_the_commands_follow_a_log_from_year_to_year(place, three_years, tmp_path, capsys):
    _, first = three_years
    (tmp_path / "first.json").write_bytes(first.to_json())
    monitor = ["monitor", str(place.public), "--state", str(tmp_path / "head"), "--once", "--policy"]
    assert main([*monitor, str(tmp_path / "first.json")]) == 2
    assert "goes on as 'trace.example/log/2028', which is not in the policy" in capsys.readouterr().err
    assert main(["keys", "follow", str(place.public), "--policy", str(tmp_path / "first.json")]) == 0
    (tmp_path / "followed.json").write_text(capsys.readouterr().out)
    assert main([*monitor, str(tmp_path / "followed.json"), "--find", "tianmai-shard@1"]) == 0
    said = capsys.readouterr().out
    assert f"{ORIGIN}/2028: 1 entries (1 new)" in said
    assert "(0 new)" not in said
    assert (tmp_path / "head").exists()
    assert (tmp_path / "head.2028").read_text().startswith(f"{ORIGIN}/2028\n1\n")
    (tmp_path / "other").write_bytes((place.public / "2027" / "checkpoint").read_bytes())
    assert main([*monitor, str(tmp_path / "followed.json"), "--against", str(tmp_path / "other")]) == 0
    assert f"is of this log: {ORIGIN}/2027" in capsys.readouterr().out


# -- crashes -----------------------------------------------------------------------------------------------------------


class Disk:
    """Lets so many statements and commits of a database pass; the next one fails, before the deed or after it."""

    def __init__(self, engine, fails_at=0, *, after=False):
        self.engine, self.left, self.after, self.done = engine, fails_at, after, 0
        self.hooks = [
            (engine, "after_cursor_execute" if after else "before_cursor_execute", self._statement),
            (engine, "commit", self._commit),
        ]

    def __enter__(self):
        for hook in self.hooks:
            sql_event.listen(*hook)
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            sql_event.remove(*hook)

    def _statement(self, *_):
        self._count()

    def _commit(self, connection):
        if self.after and self.left == 1:
            connection.connection.commit()  # it is on the disk, and nobody is told
        self._count()

    def _count(self):
        self.done += 1
        self.left -= 1
        if self.left == 0:
            raise StoreError("the database said no")


def turned(engine, place, clock, disk):
    """A log that turns to the new year on this disk, however often it must be asked; what was captured around it."""
    metadata.drop_all(engine)
    log, service = opened(engine, place, clock)
    places = capture(service, EGGS.events[:HALF])
    clock.ms = NEW_YEAR
    with disk:
        for _ in range(3):
            try:
                log.state()
                break
            except TraceError:
                continue
    places += capture(service, EGGS.events[HALF:])
    service.close()
    return places


@pytest.mark.parametrize("after", [False, True], ids=["fails", "fails-but-persisted"])
def test_whatever_statement_fails_at_the_turn_the_next_call_makes_it_good(engine, tmp_path, after):
    fails_at, total = 0, 1
    while fails_at <= total:
        folder, clock = tmp_path / str(fails_at), Clock(NEW_YEAR - 60_000)
        place, disk = LogPlace(folder / "ledger", folder / "log.key", ORIGIN), Disk(engine, fails_at, after=after)
        assert turned(engine, place, clock, disk) == [*range(HALF), *range(HALF + 1, len(EGGS.events) + 1)]
        assert audit_log(engine, place) == ()
        _, service = opened(engine, place, clock)
        policy = Policy.parse(service.policy_text.encode())
        assert len(Pack.parse(service.consumer(PATH).pack.encode()).verify(policy, now_ms=clock.ms).heads) == 2
        service.close()
        fails_at, total = fails_at + 1, max(total, disk.done if fails_at == 0 else 0)
    assert total > 5


# -- what a reader of the whole log finds ------------------------------------------------------------------------------


def follow(place, policy, heads=None, now_ms=NEW_YEAR + YEAR_MS):
    kept = {} if heads is None else heads
    monitor = YearlyMonitor(files_at(str(place.public)), policy, lambda name: kept.setdefault(name, MemoryHead()))
    return monitor.step(now_ms=now_ms)


@pytest.fixture
def three_years(engine, place, clock):
    """A log of three years, closed; its policy, and that of its first year."""
    _, service = opened(engine, place, clock)
    first = Policy.parse(service.policy_text.encode())
    service.close()
    _, service, _ = over_the_year(engine, place, clock)
    clock.ms = NEW_YEAR + YEAR_MS
    service.log_state()
    policy = Policy.parse(service.policy_text.encode())
    service.close()
    return policy, first


def test_public_files_that_are_gone_or_damaged_are_restored_from_the_journal(engine, place, three_years):
    files = [file for file in place.public.rglob("*") if file.is_file() and "tile" in file.parts]
    before = {file: file.read_bytes() for file in files}
    assert restore_log(engine, place) == ()
    files[0].write_bytes(b"damaged")
    for file in files[1:]:
        file.unlink()
    assert {finding.code for finding in audit_log(engine, place)} == {"tile", "bundle"}
    restored = restore_log(engine, place)
    assert {name.partition("tile/")[0] for name in restored} == {"", "2027/", "2028/"}
    for name in restored:  # partial files of smaller trees are needed by nobody
        assert (place.public / name).read_bytes() == before[place.public / name]
    assert audit_log(engine, place) == ()


def test_nothing_is_restored_from_a_journal_that_was_changed(engine, place, three_years):
    files = [file for file in (place.public / "2027").rglob("*") if file.is_file() and "tile" in file.parts]
    first = SqlYears(engine).begun()[1][1]
    with engine.begin() as db:
        db.execute(text("update chain_entry set entry = :entry where place = :place"), {"entry": b"x", "place": first})
    for file in files:
        file.unlink()
    assert restore_log(engine, place) == ()
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize("lost", [["2028"], ["2027"], ["2027", "2028"], ["2026"], ["2026", "2027", "2028"]])
def test_a_log_that_lost_the_row_of_a_year_is_refused_before_anything_is_written(
    engine, place, clock, three_years, lost
):
    with engine.begin() as db:
        for year in lost:
            assert db.execute(text("delete from chain_shard where year = :year"), {"year": int(year)}).rowcount == 1
    before = SqlYears(engine).begun(), SqlJournal(engine).count()
    heads = {file: file.read_bytes() for file in place.public.rglob("checkpoint")}
    with pytest.raises(TraceError, match="year"):
        opened(engine, place, clock)
    assert (SqlYears(engine).begun(), SqlJournal(engine).count()) == before
    assert {file: file.read_bytes() for file in place.public.rglob("checkpoint")} == heads


def test_files_are_not_restored_under_a_service_that_writes_them(engine, place, clock):
    _, service = opened(engine, place, clock)
    with pytest.raises(Unavailable):
        restore_log(engine, place)
    service.close()


def test_a_monitor_follows_from_year_to_year(place, three_years):
    heads = {}
    steps = follow(place, three_years[0], heads)
    assert [step.accepted.checkpoint.origin for step in steps] == [ORIGIN, f"{ORIGIN}/2027", f"{ORIGIN}/2028"]
    assert [(step.old, step.new) for step in follow(place, three_years[0], heads)] == [(s.new, s.new) for s in steps]


def test_each_year_is_a_log_of_its_own_to_any_monitor(place, three_years):
    for folder, size in (("", HALF), ("2027", len(EGGS.events) - HALF + 1), ("2028", 1)):
        monitor = Monitor(files_at(str(place.public / folder)), three_years[0], MemoryHead())
        assert monitor.step(now_ms=NEW_YEAR + YEAR_MS).new == size


def test_a_year_that_begins_with_anything_but_a_head_is_noticed(place, three_years):
    with open_ledger(place.folder.parent / "forged", load_key(place.key_file), origin=f"{ORIGIN}/2028") as ledger:
        ledger.append([b"no head"])
    for file in (place.folder.parent / "forged" / "public").rglob("*"):
        if file.is_file():
            (place.public / "2028" / file.relative_to(place.folder.parent / "forged" / "public")).write_bytes(
                file.read_bytes()
            )
    with pytest.raises(Contradiction, match=r"2028 does not begin with the last head") as told:
        follow(place, three_years[0])
    assert told.value.code == "broken_chain"


def test_a_monitor_stops_where_the_log_goes_on_under_a_name_that_its_policy_does_not_know(place, three_years):
    policy, first = three_years
    with pytest.raises(NotTrusted, match=r"goes on as '.*2028'.*keys follow"):
        follow(place, first)
    followed, refused = follow_log(first, files_at(str(place.public)), now_ms=NEW_YEAR + YEAR_MS)
    assert refused == ()
    assert len(follow(place, followed)) == 3
    assert {log.origin for log in followed.logs} == {log.origin for log in policy.logs} - {f"{ORIGIN}/2029"}


def test_a_year_that_was_dropped_is_noticed_by_who_never_saw_it(place, three_years):
    (place.public / "2027").rename(place.public / "gone")
    (place.public / "shards").write_text(f"tianmai-shards@1\n{ORIGIN}\n{ORIGIN}/2028\n")
    with pytest.raises(Contradiction, match=r"2028 goes on where .*2027 ended, which is not shown"):
        follow(place, three_years[0])


def test_a_closed_year_that_shows_another_head_is_noticed(engine, place, clock, three_years):
    longer = LogPlace(place.folder.parent / "other", place.key_file, ORIGIN)
    metadata.drop_all(engine)
    _, service = opened(engine, longer, Clock(NEW_YEAR - 60_000))
    capture(service, EGGS.events[: HALF + 1])
    service.close()
    for file in longer.public.rglob("*"):
        if file.is_file():
            target = place.public / file.relative_to(longer.public)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    (place.public / "shards").write_text(f"tianmai-shards@1\n{ORIGIN}\n{ORIGIN}/2027\n{ORIGIN}/2028\n")
    with pytest.raises(Contradiction, match="it shows another head") as told:
        follow(place, three_years[0])
    assert told.value.code == "broken_chain"


def test_a_closed_year_whose_files_lag_is_no_contradiction(place, three_years):
    empty = Checkpoint(ORIGIN, 0, EMPTY_ROOT).sign(load_key(place.key_file))
    (place.public / "checkpoint").write_text(empty.whole)
    with pytest.raises(LogAway, match="shows 0 of them"):
        follow(place, three_years[0])


@pytest.mark.parametrize("list_text", ["", "rubbish\n", "<html>", "tianmai-shards@1\n../../etc\nother/2027\n"])
def test_the_list_of_shards_is_only_a_hint(place, three_years, list_text):
    (place.public / "shards").write_text(list_text)
    assert len(follow(place, three_years[0])) == 3


# -- fsck --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tampering", "code", "index", "said"),
    [
        (f"update chain_entry set entry = 'x' where place = {HALF + 2}", "edited", HALF + 2, "in .*/2027: event 2 was"),
        ("update chain_entry set entry = 'x' where place = 1", "edited", 1, "^event 1 was"),
        ("delete from chain_shard where year = 2028", "joint", None, "begins a year where no year begins"),
        ("update chain_shard set first_place = first_place - 1 where year = 2027", "joint", HALF - 1, "does not begin"),
        (f"update chain_entry set entry = 'x' where place = {HALF}", "joint", HALF, "does not begin"),
    ],
)
def test_fsck_names_the_first_event_that_differs_by_its_place_and_its_year(
    engine, place, three_years, tampering, code, index, said
):
    assert audit_log(engine, place) == ()
    with engine.begin() as db:
        if "entry = 'x'" in tampering and engine.dialect.name == "postgresql":
            tampering = tampering.replace("'x'", "'x'::bytea")
        assert db.exec_driver_sql(tampering).rowcount == 1
    found = [finding for finding in audit_log(engine, place) if finding.code == code]
    assert found
    assert index is None or found[0].index == index
    assert re.search(said, found[0].message)


def test_fsck_finds_a_year_that_was_written_anew_and_signed_again(engine, place, clock, three_years):
    with engine.begin() as db:
        table = metadata.tables["chain_entry"]
        db.execute(table.update().where(table.c.place == 0).values(entry=b"other"))
    entries = SqlJournal(engine).read(0, HALF)
    forged = place.folder.parent / "forged"
    with open_ledger(forged, load_key(place.key_file), origin=ORIGIN) as ledger:
        ledger.append(entries)
    for file in (forged / "public").rglob("*"):
        if file.is_file():
            (place.public / file.relative_to(forged / "public")).write_bytes(file.read_bytes())
    found = audit_log(engine, place)[0]
    assert (found.code, found.index) == ("forked", 0)
