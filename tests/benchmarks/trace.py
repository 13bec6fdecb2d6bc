"""How fast events become provable, and whether any acknowledged one is ever lost.

Library: documents through `cloud.provenance` on SQLite (WAL, FULL) or, with --database, another store, in a process
that is settled as the server is (`cloud.processes.settle`); every event is then proven under the log's own signed
checkpoint. HTTP: `tianmai-cloud api` as a process, asked over raw sockets; what it holds afterwards is counted by
`GET /epcis/v2/events`, and a monitor reads all of the log's static files. The same process is then killed with SIGKILL
again and again while it captures. Proofs are timed on a log of a million entries.
"""

import asyncio
import collections
import contextlib
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from measuring import bench
from processes import Child, ProcessError, console, free_port
from services import postgres

from cloud.database import open_database
from cloud.processes import settle, unsettle
from cloud.provenance import LogBook, LogPlace, Provenance
from cloud.provenance.store import metadata
from traceability.events import CONTEXT, object_event
from traceability.keys import SigningKey, load_key
from traceability.ledger import open_ledger
from traceability.merkle import leaf_hash, node_hash, verify_inclusion
from traceability.monitor import Monitor, files_at
from traceability.notes import Checkpoint, Note
from traceability.policy import Policy, Trusted, TrustedLog
from traceability.stores import MemoryHead

SITE = "https://trace.example.cn"
START_MS = 1_780_000_000_000
IN_FLIGHT = 8  # documents, as many as the HTTP part has clients


def arguments(parser):
    parser.add_argument("--events", type=int, default=20_000, help="events for the library (default: 20000)")
    parser.add_argument("--http-events", type=int, default=10_000, help="events over HTTP, each way (default: 10000)")
    parser.add_argument("--entries", type=int, default=1_000_000, help="size of the log proofs are made of")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs during capture (default: 20)")
    parser.add_argument("--database", help="URL of an empty relational store for one part (see --only)")
    parser.add_argument("--postgres", action="store_true", help="library, http, kills on a fresh PostgreSQL (fsync on)")
    parser.add_argument("--only", choices=("library", "http", "kills", "proofs", "events"), help="one part alone")


def measure(args, report):
    parts = {
        "library": measure_library,
        "http": measure_http,
        "kills": measure_kills,
        "proofs": measure_proofs,
        "events": measure_events,
    }
    for name, part in parts.items():
        if args.only in (None, name):
            with tempfile.TemporaryDirectory(prefix=f"trace-{name}-") as folder, store(args) as args.database:
                report.environment["database"] = (args.database or "sqlite").partition(":")[0]
                part(args, report, Path(folder))


def store(args):
    """The URL of the relational store of a part; None where it is to be SQLite in the part's own folder."""
    return postgres(durable=True) if args.postgres else contextlib.nullcontext(args.database)


def measure_events(args, report, _folder):
    path = Path(__file__).with_name("trace_events.py")
    if path.exists():
        spec = importlib.util.spec_from_file_location("trace_events", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.measure(args, report)


# -- input ----------------------------------------------------------


def make_event(number):
    """An egg lot seen at a house: of the size and shape of what a farm sends."""
    lot = f"https://id.gs1.org/01/02011700010006/10/E{number // 500:06d}"
    unit = f"https://id.gs1.org/01/02011700010006/21/{number:012d}"
    event = object_event(
        "OBSERVE",
        "inspecting",
        START_MS + number * 1000,
        epcs=[unit],
        lots={lot: (number % 90 + 1, None)},
        place="urn:tianmai:place:500117-house-3",
        **{"tm:signer": {"zh": "合川某蛋鸡场", "en": "a layer farm in Hechuan"}, "eventID": f"urn:uuid:{uuid.uuid4()}"},
    )
    return {name: value for name, value in event.items() if name != "@context"}


def make_document(events):
    return {
        "@context": CONTEXT,
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-11-01T00:00:00.000Z",
        "epcisBody": {"eventList": events},
    }


def make_documents(count, of):
    """Bytes of documents of so many events each, and the ids in them."""
    events = [make_event(number) for number in range(count)]
    documents = [make_document(events[at : at + of]) for at in range(0, count, of)]
    return [json.dumps(document).encode() for document in documents], {event["eventID"] for event in events}


# -- library ----------------------------------------------------------


def measure_library(args, report, folder):
    engine = open_database(args.database or f"sqlite:///{folder / 'tianmai.db'}")
    metadata.create_all(engine)
    book = LogBook(engine, LogPlace(folder / "ledger", folder / "log.key", "log.example"), now_ms)
    provenance = Provenance(engine, book, site=SITE, clock=now_ms)
    documents, ids = make_documents(args.events, 100)
    settle()
    try:
        started = time.perf_counter()
        receipts = list(capture_all(provenance, documents))
        seconds = time.perf_counter() - started
        proven = provable(folder / "ledger" / "public", book, [receipt.index for receipt in receipts])
        report.figure("library_lost", len(ids - {receipt.event_id for receipt in receipts}), exactly=0)
        report.figure("library_unproven", len(receipts) - proven, exactly=0)
        report.figure("capture_eps", args.events / seconds, at_least=8_000)
        report_sizes(report, folder / "ledger" / "public", args.events)
        report.figure("one_at_a_time_eps", one_at_a_time_rate(provenance))
        report.figure("provable_p50_ms", 1000 * statistics.median(times_to_proof(provenance, book)), at_most=50)
        report.figure("library_single_64_eps", single_rate(provenance, 64, 3_000))
    finally:
        unsettle()
        provenance.close()
        engine.dispose()


def now_ms():
    return time.time_ns() // 1_000_000


def capture(provenance, document):
    return provenance.capture(json.loads(document), chain=None, by="bench")


def capture_all(provenance, documents):
    """Receipts of every document, as a server takes them from several senders: one is sealed while others wait."""
    waiting = collections.deque()
    for document in documents:
        waiting.append(provenance.hand_in(json.loads(document), chain=None, by="bench"))
        if len(waiting) > IN_FLIGHT:
            yield from received(waiting.popleft())
    while waiting:
        yield from received(waiting.popleft())


def received(pending):
    return pending.receipts(pending.places.result())


def one_at_a_time_rate(provenance):
    """Events a second of a caller who waits for each document of a hundred before he sends the next."""
    events = [make_event(3 * 10**9 + n) for n in range(2_000)]
    documents = [json.dumps(make_document(events[at : at + 100])).encode() for at in range(0, len(events), 100)]
    started = time.perf_counter()
    for document in documents:
        capture(provenance, document)
    return len(events) / (time.perf_counter() - started)


def provable(public, book, indexes):
    """How many entries of the log's files verify under its own signed checkpoint, each by the log's own proof."""
    checkpoint = Checkpoint.parse(Note.parse(book.checkpoint()).text)
    entries = entries_of(public, checkpoint.size)
    for index in indexes:
        proof = book.prove(index, checkpoint.size)
        verify_inclusion(leaf_hash(entries[index]), index, checkpoint.size, proof, checkpoint.root)
    return len(set(indexes))


def entries_of(public, size):
    """Every entry of a folder of static files, read by a monitor that checks their root."""
    origin = (public / "checkpoint").read_text("utf-8").split("\n", 1)[0]
    key = load_key(public.parent.parent / "log.key").verifier
    entries = []
    monitor = Monitor(files_at(str(public)), Policy((TrustedLog(origin, Trusted(key)),)), MemoryHead())
    until_covers(monitor, size, lambda _, entry: entries.append(entry))
    return entries


def until_covers(monitor, size, seen=lambda _index, _entry: None):
    """Follow a log until its public files, which may come a moment after an answer, cover `size` entries."""
    deadline = time.monotonic() + 30
    while (step := monitor.step(now_ms=now_ms(), seen=seen)).new < size and time.monotonic() < deadline:
        time.sleep(0.1)
    return step


def report_sizes(report, public, events):
    files = [path for path in public.rglob("*") if path.is_file()]
    entries = sum(path.stat().st_size for path in files if "entries" in path.parts)
    report.figure("entry_bytes_per_event", entries / events)
    report.figure("small_log_proof_bytes_per_event", (sum(path.stat().st_size for path in files) - entries) / events)


def times_to_proof(provenance, book):
    """Seconds from handing in one event to holding a proof of it that verifies."""
    for number in range(200):
        document = json.dumps(make_document([make_event(10**9 + number)])).encode()
        started = time.perf_counter()
        (receipt,) = capture(provenance, document)
        checkpoint = Checkpoint.parse(Note.parse(book.checkpoint()).text)
        book.prove(receipt.index, checkpoint.size)
        yield time.perf_counter() - started


def single_rate(provenance, callers, count):
    documents = [json.dumps(make_document([make_event(2 * 10**9 + n)])).encode() for n in range(count)]
    with ThreadPoolExecutor(callers) as pool:
        started = time.perf_counter()
        list(pool.map(lambda document: capture(provenance, document), documents))
        return count / (time.perf_counter() - started)


# -- over HTTP ----------------------------------------------------------


def measure_http(args, report, folder):
    port = free_port()
    with Child(api_command(folder, port), log=folder / "api.log", env=settings(args)) as api:
        token = start(api, folder, port, settings(args))
        documents, sent = make_documents(args.http_events, 100)
        seconds, _, answers = asyncio.run(post_all(port, token, documents, clients=8))
        report.figure("capture_http_eps", len(answers) / seconds, at_least=3_500)
        singles, more = make_documents(args.http_events, 1)
        seconds, latencies, single_answers = asyncio.run(post_all(port, token, singles, clients=64))
        report.figure("single_http_eps", len(single_answers) / seconds, at_least=1_500)
        report.figure("single_http_p99_ms", 1000 * statistics.quantiles(latencies, n=100)[98], at_most=150)
        report.figure("single_http_p50_ms", 1000 * statistics.median(latencies))
        judge_stored(report, "http", port, token, sent | more, answers | single_answers)


def api_command(folder, port):
    return [console("tianmai-cloud"), "api", "--var", str(folder / "var"), "--port", str(port)]


def settings(args):
    """What the service finds in its environment."""
    return {"TIANMAI_DATABASE": args.database} if args.database else {}


def start(api, folder, port, environment):
    """Wait for the door, and sign in once; the token of the session."""
    api.wait_for_port(port, within_s=120)
    command = [console("tianmai-cloud"), "sign-in", "--var", str(folder / "var")]
    surroundings = os.environ | environment
    link = subprocess.run(command, capture_output=True, text=True, check=True, env=surroundings).stdout.split()[-1]
    answer = httpx.get(f"http://127.0.0.1:{port}/sign-in/{link.rpartition('/')[2]}", timeout=30)
    token = answer.cookies.get("tm_session")
    if token is None:
        raise ProcessError(f"the sign-in link was refused: {answer.status_code} {answer.text[:300]}")
    return token


async def post_all(port, token, documents, *, clients):
    """Post every document once over so many connections: seconds, seconds of each answer, {event id: index}."""
    waiting, latencies, answers = iter(documents), [], {}

    async def client():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for document in waiting:
            began = time.perf_counter()
            answers.update(await post(reader, writer, token, document))
            latencies.append(time.perf_counter() - began)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - started, latencies, answers


async def post(reader, writer, token, document):
    """One capture on an open connection; {event id: index}."""
    head = (
        f"POST /epcis/v2/capture HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json"
    )
    writer.write(f"{head}\r\nContent-Length: {len(document)}\r\n\r\n".encode() + document)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(answer.partition("content-length:")[2].split("\r\n", 1)[0])
    body = await reader.readexactly(length)
    if not answer.startswith("http/1.1 20"):
        raise ProcessError(f"capture was refused: {answer[:60]} {body[:300]!r}")
    return {each["eventID"]: each["index"] for each in json.loads(body)["events"]}


def judge_stored(report, name, port, token, sent, answers):
    """What was acknowledged against what the API and the log's own files hold."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}) as client:
        held = list(events_held(client))
        policy = Policy.parse(client.get("/api/v1/trace/policy").content)
    log = until_covers(
        Monitor(files_at(f"http://127.0.0.1:{port}/log"), policy, MemoryHead()), 1 + max(answers.values(), default=-1)
    )
    report.figure(f"{name}_lost", len(answers.keys() - set(held)), exactly=0)
    report.figure(f"{name}_twice", len(held) - len(set(held)), exactly=0)
    report.figure(f"{name}_strange", len(set(held) - sent), exactly=0)
    unproven = sum(index >= log.new for index in answers.values()) + len(answers) - len(set(answers.values()))
    report.figure(f"{name}_unproven", unproven, exactly=0)


def events_held(client):
    """Ids of all events, by the paging of the API."""
    address = "/epcis/v2/events?perPage=1000"
    while address is not None:
        answer = client.get(address, timeout=60).raise_for_status()
        for event in answer.json()["epcisBody"]["queryResults"]["resultsBody"]["eventList"]:
            yield event["eventID"]
        address = answer.links.get("next", {}).get("url")


# -- killed while it captures ----------------------------------------------------------


def measure_kills(args, report, folder):
    """SIGKILL at random moments; every client repeats what was not answered, so some events arrive twice."""
    port, chance = free_port(), random.Random()
    documents, sent = make_documents(4_000 * max(1, args.kills // 4), 20)
    with Child(api_command(folder, port), log=folder / "api.log", env=settings(args)) as api:
        token = start(api, folder, port, settings(args))
        answers, left = {}, list(documents)
        for _ in range(args.kills):
            asyncio.run(post_until_killed(port, token, left, answers, api, chance.uniform(0.05, 0.8)))
            api.start()
            api.wait_for_port(port, within_s=120)
        _, _, more = asyncio.run(post_all(port, token, left[:50], clients=8))
        report.figure("kills", api.kills, at_least=args.kills)
        report.figure("acknowledged", len(answers))
        judge_stored(report, "killed", port, token, sent, answers | more)


async def post_until_killed(port, token, left, answers, api, after_s):
    """Capture over 8 connections, kill after its first answer; `left` keeps what is open."""
    answered = asyncio.Event()

    async def client():
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while left:
                document = left.pop()
                try:
                    answers.update(await post(reader, writer, token, document))
                    answered.set()
                except (OSError, asyncio.IncompleteReadError):
                    left.append(document)
                    raise

    clients = [asyncio.create_task(client()) for _ in range(8)]
    await asyncio.wait_for(answered.wait(), 60)
    await asyncio.sleep(after_s)
    api.kill()
    await asyncio.gather(*clients)


# -- proofs ----------------------------------------------------------


def measure_proofs(args, report, folder):
    """Inclusion proofs of random entries in a large log: from files just opened, and once all tiles are unfolded."""
    key = SigningKey.new("log.example")
    with open_ledger(folder, key) as ledger:
        for at in range(0, args.entries, 2_000):
            ledger.append([b"entry %d of a log that is large" % n for n in range(at, min(args.entries, at + 2_000))])
    hashes = sum(
        path.stat().st_size
        for path in (folder / "public").rglob("*")
        if not {"entries"} & set(path.parts) and path.is_file()
    )
    report.figure("machine_node_hashes_ps", node_hash_rate())
    report.figure("proof_bytes_per_event", hashes / args.entries, at_most=40)
    chance = random.Random(6962)
    with open_ledger(folder, key) as ledger:
        report.figure(
            "proofs_cold_ps", proof_rate(ledger, [chance.randrange(args.entries) for _ in range(2_000)]), at_least=3_000
        )
        for index in range(0, args.entries, 256):
            ledger.prove(index)
        report.figure(
            "proofs_warm_ps",
            proof_rate(ledger, [chance.randrange(args.entries) for _ in range(40_000)]),
            at_least=20_000,
        )
        root = Checkpoint.parse(Note.parse(ledger.checkpoint()).text).root
        for index in (chance.randrange(args.entries) for _ in range(2_000)):
            proof = ledger.prove(index)
            verify_inclusion(
                leaf_hash(b"entry %d of a log that is large" % index), index, proof.size, proof.hashes, root
            )


def node_hash_rate():
    """What the machine gives at this moment: a figure to scale the others by (about a million on a quiet core)."""
    started = time.perf_counter()
    for _ in range(200_000):
        node_hash(b"l" * 32, b"r" * 32)
    return 200_000 / (time.perf_counter() - started)


def proof_rate(ledger, indexes):
    started = time.perf_counter()
    for index in indexes:
        ledger.prove(index)
    return len(indexes) / (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(bench("trace", measure, arguments))
