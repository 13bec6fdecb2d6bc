import json
import threading
import time

import pytest

from cloud.problems import Conflict, Invalid
from cloud.provenance import LogBook, LogPlace, Provenance, announce_next_key, audit_log, read_witnesses
from cloud.provenance.store import metadata
from traceability import TraceError
from traceability.demo import demo_chains
from traceability.key_lists import follow_log
from traceability.keys import KeyKind, SigningKey, load_key
from traceability.monitor import files_at
from traceability.notes import Checkpoint, Note
from traceability.packs import Pack
from traceability.policy import NotTrusted, Policy, Trusted, TrustedLog
from traceability.witness import open_witness, serve

EGGS = next(chain for chain in demo_chains(1_795_300_000_000, domain="https://id.gs1.org") if chain.chain == "eggs")
PATH = EGGS.subject.removeprefix("https://id.gs1.org")


def now_ms():
    return time.time_ns() // 1_000_000


@pytest.fixture
def place(tmp_path):
    return LogPlace(tmp_path / "ledger", tmp_path / "log.key", "trace.example/log")


def opened(engine, place):
    metadata.create_all(engine)
    log = LogBook(engine, place, now_ms)
    return Provenance(engine, log, site="http://127.0.0.1:1", clock=now_ms)


@pytest.fixture
def witness(tmp_path, engine, place):
    """A real witness over HTTP that knows this log; its `VKEY=URL`."""
    log = opened(engine, place)
    policy = Policy.parse(log.policy_text.encode())
    log.close()
    key = SigningKey.new("bureau.example", KeyKind.COSIGNATURE)
    server = serve(open_witness(tmp_path / "heads", key, policy, seconds=lambda: int(time.time())), ("127.0.0.1", 0))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{key.verifier.vkey}=http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_pack_carries_the_witness_s_signature_and_the_policy_asks_for_it(engine, place, witness):
    seen = LogPlace(place.folder, place.key_file, place.origin, read_witnesses(witness), 1)
    service = opened(engine, seen)
    for event in EGGS.events:
        service.capture(event, chain="eggs", by="me")
    policy = Policy.parse(service.policy_text.encode())
    pack = Pack.parse(service.consumer(PATH).pack.encode())
    assert [name for name, _ in pack.verify(policy, now_ms=now_ms() + 2000).heads[0].witnesses] == ["bureau.example"]
    assert service.log_state().witnesses == ["bureau.example"]
    service.close()


def test_without_its_witness_a_pack_still_comes_and_the_policy_that_asks_for_one_refuses_it(engine, place, tmp_path):
    away = SigningKey.new("bureau.example", KeyKind.COSIGNATURE).verifier.vkey + "=http://127.0.0.1:9"
    service = opened(engine, LogPlace(place.folder, place.key_file, place.origin, read_witnesses(away), 1))
    for event in EGGS.events:
        service.capture(event, chain="eggs", by="me")
    state = service.log_state()
    assert (state.witnesses, list(state.missing)) == ([], ["bureau.example"])
    pack = Pack.parse(service.consumer(PATH).pack.encode())
    with pytest.raises(TraceError):
        pack.verify(Policy.parse(service.policy_text.encode()), now_ms=now_ms() + 2000)
    log_only = Policy(
        (TrustedLog(place.origin, Trusted(Policy.parse(service.policy_text.encode()).logs[0].trusted.key)),)
    )
    pack.verify(log_only, now_ms=now_ms() + 2000)
    service.close()


@pytest.mark.parametrize("text", ["nonsense", "a+b+c=http://127.0.0.1:1", "=http://127.0.0.1:1"])
def test_a_witness_that_is_none_is_refused_by_name(text):
    with pytest.raises(Invalid, match="witnesses"):
        read_witnesses(text)


def test_a_log_that_has_begun_gets_no_second_key(engine, place, tmp_path):
    opened(engine, place).close()
    place.key_file.unlink()
    with pytest.raises(Conflict, match="restore"):
        LogBook(engine, place, now_ms)
    assert not place.key_file.exists()
    elsewhere = LogPlace(tmp_path / "other", tmp_path / "other.key", place.origin)
    service = opened(engine, elsewhere)
    service.capture(EGGS.events[0], chain="eggs", by="me")
    service.close()
    with pytest.raises(Conflict, match="restore"):
        LogBook(engine, LogPlace(tmp_path / "third", tmp_path / "third.key", place.origin), now_ms)
    assert not (tmp_path / "third.key").exists()


def test_an_edited_event_is_found_and_named(engine, place):
    service = opened(engine, place)
    for event in EGGS.events:
        service.capture(event, chain="eggs", by="me")
    service.close()
    assert audit_log(engine, place) == ()
    with engine.begin() as db:
        row = db.exec_driver_sql("select entry from chain_entry where place = 2").scalar()
        changed = bytes(row).replace(b"eggs", b"Eggs", 1)
        table = metadata.tables["chain_entry"]
        db.execute(table.update().where(table.c.place == 2).values(entry=changed))
    first = audit_log(engine, place)[0]
    assert (first.code, first.index) == ("edited", 2)


@pytest.mark.parametrize(
    ("tampering", "index", "said"),
    [
        (
            "update chain_event set body = replace(body, 'Offset\":\"+08', 'Offset\":\"+09') where place = 2",
            2,
            "committed",
        ),
        ("update chain_event set when_ms = when_ms + 1 where place = 2", 2, "when_ms"),
        ("update chain_event set step = 'x' where place = 2", 2, "step"),
        ("update chain_event set kind = 'AggregationEvent' where place = 2", 2, "kind"),
        ("update chain_event set chain = 'other' where place = 2", 2, "chain"),
        ("update chain_event set event_id = 'x' where place = 2", 2, "event_id"),
        ("update chain_event set declares = 1 where place = 2", 2, "declares"),
        ("update chain_event set id_key = id_key + 1 where place = 2", 2, "id_key"),
        ("update chain_event set secrets = replace(secrets, 'eggs', 'Eggs') where place = 2", 2, "committed"),
        ("update chain_event set secrets = 'x' where place = 2", 2, "cannot be read"),
        ("update chain_event set captured_by = 'you' where place = 2", 2, "who sent it"),
        ("update chain_event set recorded_ms = recorded_ms - 1 where place = 2", 2, "when it was written down"),
        ("update chain_event set context = '[]' where place = 2", 2, "its context"),
        ("update chain_event set body = (select body from chain_event where place = 3) where place = 2", 2, "when"),
        ("update chain_thing set role = 0 where place = 2", 2, "things"),
        ("delete from chain_thing where place = 2", 2, "things"),
        ("insert into chain_thing (thing, place, role) values ('x', 2, 1)", 2, "things"),
        ("delete from chain_thing where place = 3; delete from chain_event where place = 3", 3, "gone"),
        ("update chain_ruled set chain = 'fish'", 2, "rules"),
        ("delete from chain_ruled", 2, "rules"),
        ("insert into chain_ruled (name, chain, place) values ('x', 'fish', 1)", 1, "does not name"),
    ],
)
def test_a_row_that_is_not_what_its_entry_says_is_found_and_named(engine, place, tampering, index, said):
    service = opened(engine, place)
    for event in EGGS.events:
        service.capture(event, chain="eggs", by="me")
    service.close()
    with engine.begin() as db:
        for statement in tampering.split(";"):
            assert db.exec_driver_sql(statement).rowcount > 0
    first = min(audit_log(engine, place), key=lambda finding: finding.index)
    assert (first.code, first.index) == ("row", index)
    assert said in first.message


def test_two_events_whose_rows_were_exchanged_are_both_found(engine, place):
    service = opened(engine, place)
    for event in EGGS.events:
        service.capture(event, chain="eggs", by="me")
    service.close()
    with engine.begin() as db:
        one, two = (
            db.exec_driver_sql(f"select body, secrets from chain_event where place = {n}").one() for n in (1, 2)
        )
        table = metadata.tables["chain_event"]
        for n, row in ((1, two), (2, one)):
            db.execute(table.update().where(table.c.place == n).values(body=row.body, secrets=row.secrets))
    assert [(found.code, found.index) for found in audit_log(engine, place)] == [("row", 1), ("row", 2)]


def test_an_event_put_in_beside_the_log_is_found(engine, place):
    service = opened(engine, place)
    for event in EGGS.events:
        service.capture(event, chain="eggs", by="me")
    service.close()
    with engine.begin() as db:
        table = metadata.tables["chain_event"]
        row = db.execute(table.select().where(table.c.place == 2)).mappings().one()
        new = len(EGGS.events)
        entry = metadata.tables["chain_entry"]
        db.execute(entry.insert().values(place=new, leaf=b"l" * 32, entry=b"not a leaf"))
        db.execute(table.insert().values({**row, "place": new, "event_id": "x"}))
    assert ("row", new) in [(found.code, found.index) for found in audit_log(engine, place)]


def test_a_secret_that_was_erased_is_no_finding(engine, place):
    service = opened(engine, place)
    service.capture(EGGS.events[0], chain="eggs", by="me")
    service.close()
    with engine.begin() as db:
        secrets = json.loads(db.exec_driver_sql("select secrets from chain_event").scalar())
        del secrets["who"]
        table = metadata.tables["chain_event"]
        db.execute(table.update().values(secrets=json.dumps(secrets)))
    assert audit_log(engine, place) == ()


def test_how_an_event_was_taken_is_not_checked_where_its_salt_was_erased_or_nothing_was_committed(engine, place):
    service = opened(engine, place)
    service.capture(EGGS.events[0], chain="eggs", by="me")
    service.close()
    with engine.begin() as db:
        secrets = json.loads(db.exec_driver_sql("select secrets from chain_event").scalar())
        assert secrets.pop("capture").keys() == {"salt"}  # the value stands in the row, not twice
        table = metadata.tables["chain_event"]
        db.execute(table.update().values(secrets=json.dumps(secrets), captured_by="nobody"))
    assert audit_log(engine, place) == ()


@pytest.fixture
def clock():
    """A clock that a test may push; it starts at the true time, since files and witnesses live in it."""
    return [now_ms()]


def kept(engine, place, clock):
    metadata.create_all(engine)
    log = LogBook(engine, place, lambda: clock[0])
    return log, Provenance(engine, log, site="http://127.0.0.1:1", clock=lambda: clock[0])


def published(log, place):
    """The log's files, once they show its newest head."""
    wanted, deadline = log.checkpoint().split("\n\n")[0], time.monotonic() + 20
    while wanted not in (place.public / "checkpoint").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    return files_at(str(place.public))


def test_the_next_key_is_announced_in_the_log_and_signs_from_its_hour_on(engine, place, clock):
    log, service = kept(engine, place, clock)
    before = Policy.parse(service.policy_text.encode())
    for event in EGGS.events[:-1]:
        service.capture(event, chain="eggs", by="me")
    change = clock[0] + 60_000
    fresh = announce_next_key(place.key_file, place.origin, from_ms=change)
    clock[0] += 2_000
    assert before.accept(Note.parse(log.checkpoint()), now_ms=clock[0]).log == before.logs[0].trusted.key
    early, _ = follow_log(before, published(log, place), now_ms=clock[0])
    keys = [before.logs[0].trusted.key, fresh.key]
    assert [(each.origin, each.trusted.key) for each in early.logs] == [
        (origin, key) for origin in dict.fromkeys(log.origin for log in before.logs) for key in keys
    ]
    clock[0] = change
    service.capture(EGGS.events[-1], chain="eggs", by="me")
    followed, refused = follow_log(before, published(log, place), now_ms=clock[0])
    assert (refused, followed) == ((), Policy.parse(service.policy_text.encode()))
    assert followed.accept(Note.parse(log.checkpoint()), now_ms=clock[0]).log == fresh.key
    with pytest.raises(TraceError):
        before.accept(Note.parse(log.checkpoint()), now_ms=clock[0])
    Pack.parse(service.consumer(PATH).pack.encode()).verify(followed, now_ms=clock[0] + 1_000)
    service.close()
    assert audit_log(engine, place) == ()
    assert not place.key_file.with_suffix(".next").exists()


def test_a_log_whose_key_changed_while_it_was_closed_opens_under_the_new_one(engine, place, clock):
    log, service = kept(engine, place, clock)
    service.capture(EGGS.events[0], chain="eggs", by="me")
    root = log.state().root
    service.close()
    fresh = announce_next_key(place.key_file, place.origin, from_ms=clock[0] + 1_000)
    clock[0] += 5_000
    log, service = kept(engine, place, clock)
    assert log.fingerprint == f"{fresh.key.key_id:08x}"
    assert (log.state().size, log.state().root == root) == (2, False)
    assert service.capture(EGGS.events[0], chain="eggs", by="me")[0].index == 0
    service.close()


def test_what_a_revoked_key_signs_after_its_end_is_refused_and_what_a_witness_saw_before_is_good(
    engine, place, clock, witness
):
    seen = LogPlace(place.folder, place.key_file, place.origin, read_witnesses(witness), 1)
    stolen = load_key(place.key_file)
    log, service = kept(engine, seen, clock)
    for event in EGGS.events:
        service.capture(event, chain="eggs", by="me")
    old = Pack.parse(service.consumer(PATH).pack.encode())
    announce_next_key(place.key_file, place.origin, from_ms=now_ms() + 1_500)
    time.sleep(2)
    clock[0] = now_ms()
    state = log.state()
    policy = Policy.parse(service.policy_text.encode())
    old.verify(policy, now_ms=now_ms() + 2_000)
    forged = Checkpoint(place.origin, state.size, bytes.fromhex(state.root)).sign(stolen)
    with pytest.raises(NotTrusted, match="not valid at the time"):
        Policy(policy.logs).accept(forged, now_ms=now_ms())
    service.close()


def test_a_second_next_key_is_refused_while_one_waits(engine, place, clock):
    _, service = kept(engine, place, clock)
    announce_next_key(place.key_file, place.origin, from_ms=clock[0] + 60_000)
    with pytest.raises(Conflict, match="announced already"):
        announce_next_key(place.key_file, place.origin, from_ms=clock[0] + 90_000)
    service.close()


def test_keys_follow_one_another_twice_and_all_stand_in_the_list(engine, place, clock):
    log, service = kept(engine, place, clock)
    for _ in range(2):
        announce_next_key(place.key_file, place.origin, from_ms=clock[0] + 1_000)
        clock[0] += 2_000
        log.state()
    logs = [each for each in Policy.parse(service.policy_text.encode()).logs if each.origin == place.origin]
    assert len({each.trusted.key for each in logs}) == 3
    assert [each.trusted.until_ms for each in logs[:-1]] == [each.trusted.from_ms for each in logs[1:]]
    assert log.state().size == 2
    service.close()
