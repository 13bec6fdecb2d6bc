"""How much the cloud can take in, keep and answer, and how near that is to what broker and client alone can do.

Ingest: prepared messages (10 readings, then 1) from a raw socket through mosquitto into `tianmai-cloud serve` with
authorisation, series, DuckDB commits, watermarks and the default alarm rules; counted by the watermarks that the public
API shows. The limit is the same messages received and acknowledged at once by a bare paho client. Store: `DuckReadings`
and `InfluxReadings` through their common protocol, DuckDB from `--points` on. HTTP: wrk with 20 connections against the
same server over that store, while 17,000 readings a second come in.
"""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
from influx import Influx
from measuring import ROOT, bench
from mqtt_load import prepare
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pondlog import get, sign_in
from processes import Child, ProcessError, console, free_port, wait_until
from services import Mosquitto, find_program

from cloud.database import open_database
from cloud.migrations import migrate
from cloud.telemetry.duckdb_readings import DuckReadings
from cloud.telemetry.opening import open_readings
from cloud.telemetry.registry import Registry
from cloud.telemetry.store import Arrival, PackKey, Points
from edge.farms import load_farm
from edge.wire import Pack, Reading, encode_pack

EPOCH = "beefbeef"
LIVE_EPOCH = "cafecafe"  # the store holds the other one's numbers: used again they would all be refused
MINUTE = 60_000
HOUR = 60 * MINUTE
GATEWAYS = 200
SERIES = 10_000
FARM = load_farm("fish_pond")


def arguments(parser):
    parser.add_argument(
        "--messages", type=int, default=40_000, help="of 10 readings; a quarter with 1 (default: 40000)"
    )
    parser.add_argument("--only", choices=("ingest", "store", "http"), help="one part (http: over a store of its own)")
    parser.add_argument("--points", type=float, default=10e6, help="in the store when it is measured (default: 10e6)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of load for each HTTP figure (default: 8)")


# --- ingest -------------------------------------------------------------------------------------------------------


def readings_at(at, count):
    """Readings as a pond sends them, all of them normal; more sensors than the farm type knows fill the message."""
    rows = [(one.name, one.simulate.base, one.unit) for one in FARM.series.values()][:count]
    rows += [(f"extra{n}/water_temperature", 21.0, "Cel") for n in range(count - len(rows))]
    return tuple(
        Reading(name, at + n, value + at // MINUTE % 7 * 0.01, unit) for n, (name, value, unit) in enumerate(rows)
    )


def messages(count, size, start_seq, now, epoch=EPOCH):
    """(topic, payload): gateways in turn, one minute of event time per message of each."""
    rounds = -(-count // GATEWAYS)
    for n in range(count):
        turn, gateway = divmod(n, GATEWAYS)
        at = now - (rounds - turn) * MINUTE
        name = f"gw-{gateway}"
        payload = encode_pack(Pack(name, readings_at(at, size)), deflate=False)
        yield f"tm/1/{name}/data/{epoch}/{start_seq + turn}", payload


def register(var):
    """The gateways, in the service's own database."""
    engine = open_database(f"sqlite:///{var / 'tianmai.db'}")
    migrate(engine)
    registry = Registry(engine)
    for n in range(GATEWAYS):
        registry.add_gateway(f"gw-{n}", farm="fish_pond", region="500108")
    engine.dispose()


def bare_limit(file, port, count):
    """Messages a second that a paho client receives and acknowledges when it does nothing with them."""
    seen = 0
    first = last = 0.0

    def on_message(client, _data, message):
        nonlocal seen, first, last
        seen += 1
        last = time.monotonic()
        first = first or last
        client.ack(message.mid, message.qos)

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, manual_ack=True)
    client.on_message = on_message
    properties = Properties(PacketTypes.CONNECT)
    properties.ReceiveMaximum = 4000
    client.connect("127.0.0.1", port, clean_start=True, properties=properties)
    client.subscribe("tm/1/+/data/#", 1)
    client.loop_start()
    time.sleep(0.5)
    load(file, port)
    wait_until(lambda: seen >= count, f"only {seen} of {count} messages came through", within_s=120)
    client.disconnect()
    client.loop_stop()
    return seen / (last - first)


def load(file, port, rate=None):
    """Run the load generator to its end."""
    command = [sys.executable, str(ROOT / "tests" / "harness" / "mqtt_load.py"), str(file), str(port)]
    command += ["--rate", str(rate)] if rate else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProcessError(f"the load generator failed:\n{done.stderr[-1000:]}")
    return json.loads(done.stdout)


def committed(client, file, port, last_seq):
    """Messages a second from the first sent to the last watermark."""
    began = time.monotonic()
    sender = threading.Thread(target=load, args=(file, port))
    sender.start()

    def all_there():
        # The last gateway in turn is the last to be whole: asking for all of them all the time would be a load itself.
        time.sleep(0.1)
        last = get(client, f"/api/v1/gateways/gw-{GATEWAYS - 1}")["epochs"]
        return (
            bool(last)
            and last[0]["watermark"] >= last_seq
            and all(epoch["watermark"] >= last_seq for row in epochs(client) for epoch in row[:1] or [{"watermark": 0}])
        )

    wait_until(all_there, "the watermark never arrived", within_s=600)
    took = time.monotonic() - began
    sender.join()
    return took


def epochs(client):
    return [row["epochs"] for row in get(client, "/api/v1/gateways")["items"]]


def measure_ingest(args, report, folder):
    var = folder / "var"
    var.mkdir()
    register(var)
    now = time.time_ns() // 1_000_000
    per_gateway = args.messages // GATEWAYS
    ten, one = folder / "ten", folder / "one"
    few = args.messages // 4
    prepare(ten, messages(per_gateway * GATEWAYS, 10, 1, now))
    prepare(one, messages(few // GATEWAYS * GATEWAYS, 1, per_gateway + 1, now + 2 * MINUTE))
    (folder / "broker").mkdir()
    with Mosquitto(folder / "broker", settings="max_queued_messages 0\nmax_inflight_messages 0\n") as broker:
        limit = bare_limit(ten, broker.port, per_gateway * GATEWAYS)
        with serve(var, broker.port, folder / "serve.log") as (server, client):
            took = committed(client, ten, broker.port, per_gateway)
            rps = per_gateway * GATEWAYS * 10 / took
            took_one = committed(client, one, broker.port, per_gateway + few // GATEWAYS)
            report.figure("committed_rps_10", rps, at_least=60_000)
            report.figure("limit_rps_10", limit * 10)
            report.figure("limit_ratio", rps / (limit * 10), at_least=0.35)
            report.figure("committed_rps_1", few // GATEWAYS * GATEWAYS / took_one, at_least=8_000)
            report.figure("ingest_rss_mb", resident_mb(server.pid))


class serve:  # noqa: N801 - reads as a verb
    """`tianmai-cloud serve` over a folder, with a signed-in client."""

    def __init__(self, var, mqtt_port, log):
        self.port = free_port()
        command = [
            console("tianmai-cloud"),
            "serve",
            "--var",
            var,
            "--port",
            str(self.port),
            "--mqtt-port",
            str(mqtt_port),
        ]
        self.child, self.var = Child(command, log=log), var

    def __enter__(self):
        self.child.start().wait_for_port(self.port, within_s=120)
        return self.child, sign_in(f"http://127.0.0.1:{self.port}", self.var)

    def __exit__(self, *error):
        self.child.stop(within_s=60)


def resident_mb(pid):
    """Resident memory of a process, in MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) / 1024 if found else None


# --- store --------------------------------------------------------------------------------------------------------


def batches(rounds, start_ms, first_seq=1, seed=7):
    """Batches of 20,400: two minutes of 10,000 series, 3 % of them late, then 2 % duplicates and 1 % conflicts."""
    chance = np.random.default_rng(seed)
    ids = np.arange(1, SERIES + 1)
    level = chance.normal(20, 3, SERIES)
    seq = first_seq
    for turn in range(rounds):
        minutes = (2 * turn, 2 * turn + 1)
        series = np.tile(ids, 2)
        at = np.concatenate([start_ms + minute * MINUTE + ids * 3 for minute in minutes])
        daily = np.concatenate([np.sin(minute / 1440 * 2 * np.pi) + level for minute in minutes])
        value = np.round(daily + chance.normal(0, 0.1, len(series)), 1)
        late = chance.choice(len(series), len(series) * 3 // 100, replace=False)
        at[late] -= chance.integers(1, 6 * 3600, len(late)) * 1000 + 1
        twice = chance.choice(len(series), len(series) * 2 // 100, replace=False)
        clash = chance.choice(len(series), len(series) // 100, replace=False)
        series = np.concatenate([series, series[twice], series[clash]])
        at = np.concatenate([at, at[twice], at[clash]])
        value = np.concatenate([value, value[twice], value[clash] + 1])
        # What comes second comes in a later pack, as it would.
        quality = np.zeros(len(series), dtype=np.uint8)
        arrivals = []
        for part in np.array_split(np.arange(len(series)), 40):
            key = PackKey(f"gw-{seq % 40}", EPOCH, seq // 40 + 1)
            arrivals.append(
                Arrival(key, Points(series[part], at[part], value[part], quality[part]), seq.to_bytes(8, "big"))
            )
            seq += 1
        yield arrivals


def filled_store(args, folder):
    """A store of `--points` readings, when they begin (ms), and the rounds of two minutes they are."""
    rounds = int(args.points) // (SERIES * 2)
    # Everything lies in the past, and ends an hour ago.
    start = (time.time_ns() // 1_000_000 - (2 * rounds + 400) * MINUTE) // HOUR * HOUR
    store = DuckReadings(folder / "store" / "readings.duckdb")
    for arrivals in batches(rounds, start):
        store.append(arrivals)
    return store, start, rounds


def measure_store(args, report, folder):
    """Append speed from `--points` on, questions, size; leaves the store for the HTTP part."""
    store, start, rounds = filled_store(args, folder)
    per_batch = SERIES * 2
    fresh = list(batches(100, start + 2 * rounds * MINUTE, first_seq=40 * rounds + 1, seed=8))
    began = time.perf_counter()
    outcomes = [store.append(arrivals) for arrivals in fresh]
    seconds = time.perf_counter() - began
    sent = sum(len(one.points) for arrivals in fresh for one in arrivals)
    planted = 100 * (per_batch // 100)
    found = sum(one.conflicts for one in outcomes)
    duck = sent / seconds
    report.figure("append_pps", duck, at_least=200_000)
    report.figure("conflicts_missed", max(0, planted - found), exactly=0)
    store.roll_up(2**62)
    questions(report, store, start, start + (2 * rounds + 200) * MINUTE)
    store.compact()
    health = store.health()
    report.figure("points", health.readings, at_least=args.points)
    report.figure("bytes_per_point", health.bytes / health.readings, at_most=4)
    store.close()
    versus_influx(report, folder, fresh[:25], duck)
    return start, rounds


def questions(report, store, start, end):
    """p99 of three questions in the store itself."""
    thousand = np.arange(1, 1001)
    year = start // HOUR * HOUR - 8760 * HOUR
    day = max(start, end - 24 * HOUR) // HOUR * HOUR
    report.figure("last_1000_ms", p99(lambda _: store.last(thousand)), at_most=10)
    # A year in 487 buckets of 18 hours: what `max_points=500` comes down to.
    report.figure("year_500_ms", p99(lambda n: store.downsample(n * 7 + 1, year, end, 18 * HOUR)), at_most=30)
    report.figure("group_day_ms", p99(lambda _: store.group(thousand, thousand % 40, day, end)), at_most=60)


def p99(call, times=200):
    """The 99th percentile of a call, in ms."""
    took = []
    for n in range(times):
        began = time.perf_counter()
        call(n)
        took.append(time.perf_counter() - began)
    return float(np.quantile(took, 0.99) * 1000)


def versus_influx(report, folder, fresh, duck):
    """The same batches into a real InfluxDB."""
    (folder / "influx").mkdir()
    with Influx(folder / "influx") as server:
        engine = open_database(f"sqlite:///{folder / 'influx.db'}")
        store = open_readings(f"{server.url}/bench", database=engine)
        store.append(fresh[0])  # makes the series: not what is measured
        began = time.perf_counter()
        for arrivals in fresh[1:]:
            store.append(arrivals)
        seconds = time.perf_counter() - began
        influx = sum(len(one.points) for arrivals in fresh[1:] for one in arrivals) / seconds
        store.close()
        engine.dispose()
    report.figure("append_influx_pps", influx)
    report.figure("append_vs_influx", duck / influx, at_least=1.5)


# --- HTTP ---------------------------------------------------------------------------------------------------------


def measure_http(args, report, folder, start, rounds):
    """The same questions through HTTP, 20 clients, while 17,000 readings a second come in."""
    var = folder / "store"
    engine = open_database(f"sqlite:///{var / 'tianmai.db'}")
    migrate(engine)
    registry = Registry(engine)
    for n in range(SERIES // 500):
        registry.add_gateway(f"field-{n}", farm="none", region="500108")
        owner = registry.gateway(f"field-{n}")
        registry.ensure_series(owner, {f"s{k}/water_temperature": "Cel" for k in range(500)})
    engine.dispose()
    register(var)
    now = time.time_ns() // 1_000_000
    live = folder / "live"
    seconds = 4 * args.seconds + 20
    prepare(live, messages(int(1700 * seconds) // GATEWAYS * GATEWAYS, 10, 1, now, LIVE_EPOCH))
    (folder / "broker2").mkdir()
    end = start + (2 * rounds + 200) * MINUTE
    paths = {
        "last": "/api/v1/latest?gateway=field-1",
        "year": f"/api/v1/series/77/points?from={end - 8760 * HOUR}&to={end}&max_points=500",
        "day": f"/api/v1/statistics?quantity=water_temperature&from={end - 24 * HOUR}&to={end}",
    }
    with (
        Mosquitto(folder / "broker2", settings="max_queued_messages 0\n") as broker,
        serve(var, broker.port, folder / "serve2.log") as (server, client),
    ):
        threading.Thread(target=load, args=(live, broker.port, 1700), daemon=True).start()
        time.sleep(5)
        worst = [wrk(client, path, args.seconds) for path in paths.values()]
        for name, took in zip(paths, worst, strict=True):
            report.figure(f"http_{name}_p99_ms", took)
        report.figure("http_p99_ms", max(worst), at_most=200)
        report.figure("rss_mb", resident_mb(server.pid), at_most=600)


def wrk(client, path, seconds):
    """p99 of one address in ms, 20 connections."""
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    site = str(client.base_url).rstrip("/")
    command = [find_program("wrk"), "-t1", "-c20", f"-d{seconds:.0f}s", "--latency", "-H", f"Cookie: {cookie}"]
    out = subprocess.run([*command, site + path], capture_output=True, text=True, check=True).stdout
    print(out, flush=True)
    if "Non-2xx" in out:
        raise ProcessError(f"{path} answered with errors:\n{out}")
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", out).groups()
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def measure(args, report):
    report.environment["versions"]["farm"] = FARM.name
    with tempfile.TemporaryDirectory(prefix="tianmai-telemetry-") as name:
        folder = Path(name)
        if args.only in {None, "ingest"}:
            measure_ingest(args, report, folder)
        if args.only == "http":
            store, start, rounds = filled_store(args, folder)
            store.roll_up(2**62)
            store.compact()
            store.close()
            measure_http(args, report, folder, start, rounds)
        elif args.only != "ingest":
            start, rounds = measure_store(args, report, folder)
            if args.only is None:
                measure_http(args, report, folder, start, rounds)


if __name__ == "__main__":
    sys.exit(bench("telemetry", measure, arguments))
