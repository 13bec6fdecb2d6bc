"""A recorded pond log through agent, broker and ingest while both ends are killed again and again.

The CSV is replayed by `tianmai-edge replay` into `tianmai-cloud ingest` over a real broker (mosquitto, else amqtt).
Agent and ingest are killed with SIGKILL at random times. Afterwards the store is read through the public API of
`tianmai-cloud serve` and compared with what this program parsed from the CSV by itself: every distinct (series, ms)
must be there exactly once, with its first value; other values at the same time must be on record as conflicts.
"""

import contextlib
import csv
import math
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
from measuring import bench
from processes import Child, ProcessError, console, free_port
from services import Mosquitto, ProgramMissing

from cloud.broker import broker_command

GATEWAY = "pond-log"
SENSOR = "pond1"
QUANTITIES = {"Temperature": "water_temperature", "pH": "ph", "Turbidity": "turbidity"}
DECADE_MS = 10 * 365 * 86_400_000  # one question may span twenty years; a log with absurd times is still found whole
EVER = range(0, 4_102_444_800_000, DECADE_MS)
PAGE = 5000


def arguments(parser):
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE.csv", help="columns Date, Temperature, pH, ..."
    )
    parser.add_argument("--zone", required=True, help="time zone of the column Date, for example Asia/Shanghai")
    parser.add_argument("--kills", type=int, default=5, help="SIGKILLs of agent and of ingest, each (default: 5)")
    parser.add_argument("--seconds", type=float, default=75.0, help="how long the replay is stretched (default: 75)")
    parser.add_argument("--seed", type=int, default=None, help="of the times of the kills (default: a new one)")


def expected(path, zone):
    """{(series, ms): values in the order of the log}, by an own reading of the CSV."""
    found = defaultdict(list)
    with path.open(encoding="utf-8-sig", newline="") as text:
        for row in csv.DictReader(text, skipinitialspace=True):
            cells = {
                str(name).strip(): (cell or "").strip() for name, cell in row.items() if isinstance(cell, str | None)
            }
            with contextlib.suppress(ValueError):
                local = datetime.fromisoformat(cells["Date"])
                at = local if local.tzinfo else local.replace(tzinfo=ZoneInfo(zone))
                for column, quantity in QUANTITIES.items():
                    with contextlib.suppress(ValueError):
                        value = float(cells.get(column) or "nan")
                        if math.isfinite(value):
                            found[f"{SENSOR}/{quantity}", math.floor(at.timestamp() * 1000 + 1e-4)].append(value)
    return found


def log_seconds(path, zone):
    """Length of the log as the replay paces it: forward steps only, each at most an hour."""
    times = times_as_read(path, zone)
    return sum(min(max(0.0, after - before), 3600.0) for before, after in pairwise(times))


def times_as_read(path, zone):
    times = []
    with path.open(encoding="utf-8-sig", newline="") as text:
        for row in csv.DictReader(text):
            with contextlib.suppress(ValueError, KeyError, AttributeError):
                local = datetime.fromisoformat(row["Date"].strip())
                times.append((local if local.tzinfo else local.replace(tzinfo=ZoneInfo(zone))).timestamp())
    return times


@contextlib.contextmanager
def any_broker(folder, report):
    """mosquitto, else amqtt; yields its port."""
    folder.mkdir()
    try:
        broker = Mosquitto(folder)
        kind = "mosquitto"
    except ProgramMissing:
        port = free_port()
        broker = Child(broker_command(folder, port, "amqtt"), log=folder / "amqtt.log")
        broker.port, kind = port, "amqtt"
    report.environment["broker"] = kind
    with broker:
        broker.wait_for_port(broker.port)
        yield broker.port


def run_with_kills(agent, ingest, *, kills, seed, seconds):
    """Kill both at random until each had its share, then let the agent come to its end."""
    chance = random.Random(seed)
    started = {agent: time.monotonic(), ingest: time.monotonic()}
    left = {agent: kills, ingest: kills}
    pause = seconds / (2 * kills + 2)
    deadline = time.monotonic() + 4 * seconds + 300
    while agent.alive:
        if time.monotonic() > deadline:
            raise ProcessError("the agent never finished")
        time.sleep(chance.uniform(0.2, 1.4) * pause)
        victims = [child for child, count in left.items() if count > 0]
        if not victims or not agent.alive:
            break
        victim = chance.choice(victims)
        # A process that is only just importing its modules has nothing to lose: let it live for a moment.
        time.sleep(max(0.0, started[victim] + 2.5 - time.monotonic()))
        if not victim.alive:
            continue
        victim.kill()
        left[victim] -= 1
        time.sleep(chance.uniform(0.0, 1.0))
        victim.start()
        started[victim] = time.monotonic()
    return agent.wait(300)


def sign_in(site, var):
    """An HTTP client that has used a one-time link."""
    link = subprocess.run(
        [console("tianmai-cloud"), "sign-in", "--var", str(var)], capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    client = httpx.Client(base_url=site, timeout=60, follow_redirects=False)
    answer = client.get("/sign-in/" + link.rpartition("/")[2])
    if answer.is_error:
        raise ProcessError(f"the sign-in link was refused: {answer.status_code} {answer.text[:300]}")
    return client


def stored(client):
    """[(series, ms, value)] of everything in the store, by the public API."""
    rows = []
    for series in get(client, "/api/v1/series", gateway=GATEWAY)["items"]:
        for start in EVER:
            found = raw_points(client, series["id"], start, start + DECADE_MS)
            rows += [(series["name"], *point) for point in found]
    return rows


def raw_points(client, series, start, end):
    """All readings of a stretch; halves it where the answer would be buckets."""
    found = get(client, f"/api/v1/series/{series}/points", **{"from": start, "to": end, "max_points": PAGE})
    if found["resolution"] == "raw":
        return [(point["time_ms"], point["value"]) for point in found["points"]]
    middle = (start + end) // 2
    return raw_points(client, series, start, middle) + raw_points(client, series, middle, end)


def get(client, path, **query):
    answer = client.get(path, params=query)
    answer.raise_for_status()
    return answer.json()


def measure(args, report):
    wanted = expected(args.data, args.zone)
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    report.environment["seed"] = seed
    print(f"{args.data.name}: {len(wanted)} distinct (series, ms); seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tianmai-pond-") as name:
        folder = Path(name)
        var = folder / "var"
        with any_broker(folder / "broker", report) as mqtt_port:
            kills = replay(args, folder, var, mqtt_port, seed)
            port = free_port()
            cloud = [
                console("tianmai-cloud"),
                "serve",
                "--var",
                var,
                "--port",
                str(port),
                "--mqtt-port",
                str(mqtt_port),
            ]
            with Child(cloud, log=folder / "serve.log") as server:
                server.wait_for_port(port, within_s=60)
                client = sign_in(f"http://127.0.0.1:{port}", var)
                rows, told = stored(client), get(client, "/api/v1/conflicts", limit=PAGE)["items"]
                letters = get(client, "/api/v1/dead-letters")["items"]
    judge(report, wanted, rows, told)
    report.figure("dead_letters", sum(letter["count"] for letter in letters), exactly=0)
    report.figure("kills_agent", kills[0], at_least=args.kills)
    report.figure("kills_ingest", kills[1], at_least=args.kills)
    report.figure("kills", sum(kills), at_least=2 * args.kills)


def replay(args, folder, var, mqtt_port, seed):
    """The whole replay under kills; how often agent and ingest were killed."""
    add = ["add-gateway", GATEWAY, "--farm", "fish_pond", "--region", "500108", "--secret-file", folder / "secret"]
    subprocess.run([console("tianmai-cloud"), *add, "--var", var], check=True, capture_output=True)
    speed = max(1.0, log_seconds(args.data, args.zone) / args.seconds)
    send = [console("tianmai-edge"), "replay", args.data, "--zone", args.zone, "--gateway", GATEWAY, "--sensor", SENSOR]
    send += ["--broker", f"127.0.0.1:{mqtt_port}", "--spool", folder / "spool", "--speed", str(speed), "--pack", "50"]
    take = [console("tianmai-cloud"), "ingest", "--var", var, "--mqtt-port", str(mqtt_port)]
    with (
        Child(take, log=folder / "ingest.log") as ingest,
        Child([*send, "--wait", "--timeout", "300"], log=folder / "agent.log") as agent,
    ):
        code = run_with_kills(agent, ingest, kills=args.kills, seed=seed, seconds=args.seconds)
        if code != 0:
            raise ProcessError(f"the agent ended with {code}:\n{agent.log.read_text(errors='replace')[-2000:]}")
        ingest.stop()
        return agent.kills, ingest.kills


def judge(report, wanted, rows, told):
    """Compare the store with the log."""
    counts = Counter((series, at) for series, at, _ in rows)
    held = {(series, at): value for series, at, value in rows}
    lost = [place for place, values in wanted.items() if held.get(place) != values[0]]
    strange = [place for place in held if place not in wanted]
    other = {(place, value) for place, values in wanted.items() for value in values if value != values[0]}
    on_record = {((one["series"]["name"], one["time_ms"]), one["refused"]) for one in told}
    for place, value in sorted(other):
        print(f"conflict: {place[0]} at {place[1]} ms: kept {wanted[place][0]}, refused {value}")
    for place in lost[:10]:
        print(f"lost or changed: {place}, wanted {wanted[place]}, stored {held.get(place)}")
    report.figure("sent", len(wanted), at_least=1)
    report.figure("lost", len(lost), exactly=0)
    report.figure("duplicated", sum(count - 1 for count in counts.values()), exactly=0)
    report.figure("strange", len(strange), exactly=0)
    report.figure("conflicts", len(on_record))
    report.figure("conflicts_swallowed", len(other - on_record), exactly=0)


if __name__ == "__main__":
    sys.exit(bench("pond", measure, arguments))
