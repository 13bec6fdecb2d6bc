"""A recorded pond log and what became of it: an own reading of the CSV, the store by its public API, the comparison.

Used by the programs `pond` and `chaos`, which differ in what they do to the processes in between.
"""

import contextlib
import csv
import math
import subprocess
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import httpx
from processes import Child, ProcessError, console, free_port
from services import Mosquitto, ProgramMissing

from cloud.broker import broker_command

GATEWAY = "pond-log"
SENSOR = "pond1"
_QUANTITIES = {"Temperature": "water_temperature", "pH": "ph", "Turbidity": "turbidity"}
_DECADE_MS = 10 * 365 * 86_400_000  # one question may span twenty years; a log with absurd times is still found whole
_EVER = range(0, 4_102_444_800_000, _DECADE_MS)
_PAGE = 5000


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
                for column, quantity in _QUANTITIES.items():
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


def broker(folder, kind="auto"):
    """A broker as a child process with a `port`: mosquitto, amqtt, or (auto) the first of them that is there."""
    folder.mkdir(parents=True)
    if kind != "amqtt":
        try:
            return Mosquitto(folder)
        except ProgramMissing:
            if kind == "mosquitto":
                raise
    port = free_port()
    child = Child(broker_command(folder, port, "amqtt"), log=folder / "amqtt.log")
    child.port = port
    return child


def add_gateway(var, folder):
    """Register the gateway that the log is sent as."""
    add = ["add-gateway", GATEWAY, "--farm", "fish_pond", "--region", "500108", "--secret-file", folder / "secret"]
    subprocess.run([console("tianmai-cloud"), *add, "--var", var], check=True, capture_output=True)


def replay_command(log, zone, port, folder, seconds, timeout_s):
    """`tianmai-edge replay`, stretched over so many seconds, until the cloud has confirmed everything."""
    speed = max(1.0, log_seconds(log, zone) / seconds)
    send = [console("tianmai-edge"), "replay", log, "--zone", zone, "--gateway", GATEWAY, "--sensor", SENSOR]
    send += ["--broker", f"127.0.0.1:{port}", "--spool", folder / "spool", "--speed", str(speed), "--pack", "50"]
    return [*send, "--wait", "--timeout", str(timeout_s)]


def read_back(var, mqtt_port, folder, env=None):
    """Start the API over the store and read everything: (rows, conflicts, dead letters)."""
    port = free_port()
    cloud = [console("tianmai-cloud"), "serve", "--var", var, "--port", str(port), "--mqtt-port", str(mqtt_port)]
    with Child(cloud, log=folder / "serve.log", env=env) as server:
        server.wait_for_port(port, within_s=90)
        client = sign_in(f"http://127.0.0.1:{port}", var)
        told = get(client, "/api/v1/conflicts", limit=_PAGE)["items"]
        letters = get(client, "/api/v1/dead-letters")["items"]
        return stored(client), told, sum(letter["count"] for letter in letters)


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
        for start in _EVER:
            found = raw_points(client, series["id"], start, start + _DECADE_MS)
            rows += [(series["name"], *point) for point in found]
    return rows


def raw_points(client, series, start, end):
    """All readings of a stretch; halves it where the answer would be buckets."""
    found = get(client, f"/api/v1/series/{series}/points", **{"from": start, "to": end, "max_points": _PAGE})
    if found["resolution"] == "raw":
        return [(point["time_ms"], point["value"]) for point in found["points"]]
    middle = (start + end) // 2
    return raw_points(client, series, start, middle) + raw_points(client, series, middle, end)


def get(client, path, **query):
    answer = client.get(path, params=query)
    answer.raise_for_status()
    return answer.json()


def compare(wanted, rows, told):
    """What is wrong with the store, given the log; prints conflicts and the first losses."""
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
    return {
        "sent": len(wanted),
        "lost": len(lost),
        "duplicated": sum(count - 1 for count in counts.values()),
        "strange": len(strange),
        "conflicts": len(on_record),
        "conflicts_swallowed": len(other - on_record),
    }
