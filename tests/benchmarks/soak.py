"""A week without a broker, and a long soak: the agent under a hard limit of 96 MB of address space, on a turned clock.

`week`: 17 readings a second are spooled for --hours hours of the farm's time while nobody listens; the clock is turned
as fast as the agent can follow. Then the broker comes, and every reading must arrive once, with its value.
`soak`: the whole agent (simulated pond, Modbus bus, rules, control, page) lives --hours hours at 1,000 times the speed
of life; the broker is killed once a day. Memory must not grow, and every reading must arrive once.

The agent is the real one in a process of its own; only its clock is another, and the limit is set with RLIMIT_AS, which
counts more than memory really used. The cloud is a counting one, so that what is measured is the gateway.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from measuring import bench
from processes import Child, free_port, wait_until
from services import Mosquitto

from edge.agent import Agent
from edge.clock import Clock
from edge.drivers import DriverHealth, Sample
from edge.drivers.faulty_slave import FaultySlave
from edge.drivers.registry import make_driver
from edge.drivers.simulator import SimulatorDriver
from edge.loopback import LoopbackCloud
from edge.outputs import MemoryOutput
from edge.settings import load_settings
from edge.simulator import SimulatedFarm
from edge.spool import Spool
from edge.wire import Kind, Quality, decode_pack

HARNESS = Path(__file__).parents[1] / "harness"
LIMIT_MB = 96
RATE, STEP_S = 17, 5  # readings a second; seconds of farm time from one batch to the next
SPEED = 1000
DAY_S = 86_400
BORN_MS = 1_900_000_000_000


def arguments(parser):
    parser.add_argument("--hours", type=float, default=168.0, help="hours of the farm's time, each part (default: 168)")
    parser.add_argument("--only", choices=("week", "soak"), help="one part instead of both")


# -- the agent's process -----------------------------------------------------------------------------------------


class TurnedTime:
    """A clock that runs ``speed`` times as fast as life, and where told to, further."""

    def __init__(self, speed):
        self._speed, self._began, self._further_ms = speed, time.monotonic(), 0

    def boot_ms(self):
        return 5_000 + int((time.monotonic() - self._began) * 1000 * self._speed) + self._further_ms

    def wall_ms(self):
        return BORN_MS + self.boot_ms()

    def turn_ms(self, ms):
        self._further_ms += ms


def value_of(nth):
    """Hundredths of a degree that wander, the same for the same number."""
    return round(20 + nth % 977 / 100 + nth % 13 / 100, 2)


class WeekDriver:
    """``RATE`` readings a second of farm time, as fast as the agent takes them; it turns the clock itself."""

    name = "week"

    def __init__(self, times, hours):
        self.health, self._times, self._steps = DriverHealth(), times, int(hours * 3600 / STEP_S)

    def run(self, emit, stop):
        for step in range(self._steps):
            if stop.is_set():
                return
            self._times.turn_ms(STEP_S * 1000)
            stamp = self._times.boot_ms()
            numbers = range(step * RATE * STEP_S, (step + 1) * RATE * STEP_S)
            emit([Sample(f"load{n % 500}/air_temperature", value_of(n), "Cel", stamp=stamp) for n in numbers])


class Counted:
    """A driver that is stopped after a while and says what it gave out."""

    def __init__(self, driver, clock, until_ms):
        self.name, self.health, self.given = driver.name, driver.health, 0
        self._driver, self._clock, self._until_ms = driver, clock, until_ms
        self.ended = threading.Event()

    def run(self, emit, stop):
        enough = threading.Event()

        def counting(samples, reports=()):
            emit(samples, reports)
            self.given += len(samples)
            if stop.is_set() or self._clock.stamp() > self._until_ms:
                enough.set()

        self._driver.run(counting, enough)
        self.ended.set()
        stop.wait()


def live(part, folder, hours):
    """Be the agent until SIGTERM; ``given.json`` says what its drivers gave out once they have ended."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_MB * 2**20, LIMIT_MB * 2**20))
    threading.stack_size(1 << 20)
    times = TurnedTime(SPEED if part == "soak" else 1)
    clock, settings = Clock(times), load_settings(folder / f"{part}.toml")
    agent = Agent(settings, spool=Spool(settings.spool_dir, settings.spool), clock=clock)
    if part == "week":
        drivers, until_ms = [WeekDriver(times, hours)], float("inf")
    else:
        farm = SimulatedFarm(settings.farm, 1, settings.zone)
        drivers = [SimulatorDriver("farm", farm, speed=SPEED, wall_ms=clock.now_ms, stamp=clock.stamp)]
        for actuator in settings.farm.actuators:
            agent.add_output(actuator.name, MemoryOutput(drivers[0].outputs, actuator.name))
        drivers += [make_driver(row, settings, clock) for row in settings.drivers]
        until_ms = clock.stamp() + hours * 3_600_000
    counted = [Counted(driver, clock, until_ms) for driver in drivers]
    for driver in counted:
        agent.add_driver(driver)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=tell, args=(counted, folder / "given.json"), daemon=True).start()
    agent.run(stop)


def tell(drivers, path):
    for driver in drivers:
        driver.ended.wait()
    given = {"readings": sum(driver.given for driver in drivers)}
    path.with_suffix(".tmp").write_text(json.dumps(given))
    path.with_suffix(".tmp").rename(path)


# -- what is measured --------------------------------------------------------------------------------------------


class CountingCloud(LoopbackCloud):
    """Counts readings and adds them up instead of keeping them: ten millions would not fit."""

    def __init__(self, port):
        self.count = self.hundredths = 0
        super().__init__("127.0.0.1", port)

    def _keep(self, topic, payload, sequence):
        if topic.kind is not Kind.DATA:
            super()._keep(topic, payload, sequence)
            return
        for reading in decode_pack(payload).readings:
            if reading.quality is Quality.STALE:  # of the agent itself, once the drivers have ended
                continue
            self.count += 1
            self.hundredths += round((reading.value or 0.0) * 100)


def start_agent(part, folder, port, hours, extra=""):
    (folder / "secret").write_text("0123456789abcdef0123456789abcdef")
    head = f'[gateway]\nid = "{part}-1"\nfarm = "fish_pond"\nsecret_file = "secret"\n'
    stall_s = 3600 if part == "soak" else 5  # of the agent's own clock, which runs at SPEED while it soaks
    link = f'[uplink]\nurl = "mqtt://127.0.0.1:{port}"\nstall_s = {stall_s}\nbackoff_s = 1\n'
    (folder / f"{part}.toml").write_text(f'{head}{link}[spool]\ndir = "spool"\n{extra}')
    command = [sys.executable, "-P", __file__, "--live", part, folder, str(hours)]
    # One arena and small stacks: what the C library only reserves is no memory, but RLIMIT_AS counts it.
    return Child(command, log=folder / "agent.log", env={"MALLOC_ARENA_MAX": "1", "PYTHONPATH": str(HARNESS)})


def memory_mb(pid, key="VmRSS"):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(key))


def given(folder, agent, *, within_s):
    agent.wait_until((folder / "given.json").exists, "its drivers never ended", within_s=within_s)
    return json.loads((folder / "given.json").read_text())["readings"]


def week(args, report, folder):
    (folder / "broker").mkdir()
    broker = Mosquitto(folder / "broker")
    began = time.monotonic()
    with start_agent("week", folder, broker.port, args.hours) as agent:
        readings = given(folder, agent, within_s=60 + 60 * args.hours)
        report.figure("week_readings", readings, exactly=int(args.hours * 3600 / STEP_S) * STEP_S * RATE)
        report.figure("week_spooled_rps", readings / (time.monotonic() - began))
        report.figure("week_spool_mb", sum(path.stat().st_size for path in (folder / "spool").iterdir()) / 1e6)
        with broker:
            began, cloud = time.monotonic(), CountingCloud(broker.port)
            cloud.wait(lambda one: one.count >= readings, 60 + readings / 2000)
            report.figure("week_catchup_rps", cloud.count / (time.monotonic() - began))
            cloud.wait(lambda one: one.count > readings, 2.0)  # what comes twice
            report.figure("week_lost", max(0, readings - cloud.count), exactly=0)
            report.figure("week_doubled", max(0, cloud.count - readings), exactly=0)
            expected = sum(round(value_of(n) * 100) for n in range(readings))
            report.figure("week_values_differ_by", cloud.hundredths - expected, exactly=0)
            report.figure("week_rss_max_mb", memory_mb(agent.pid, "VmHWM"), at_most=40)
            cloud.close()
            report.figure("week_ended_with", agent.stop(within_s=30), exactly=0)


def soak(args, report, folder):
    (folder / "broker").mkdir()
    broker, slave, page = (
        Mosquitto(folder / "broker"),
        FaultySlave([382, 215, 411, 68, 12, 3, 40], tcp=True),
        free_port(),
    )
    bus = f'[[driver]]\nkind = "modbus"\nhost = "127.0.0.1"\ntcp_port = {slave.tcp_port}\n'
    bus += '[[driver.device]]\nname = "soil9"\nprofile = "soil-7in1-a"\ninterval_s = 1\n'
    extra = f'[page]\nlisten = "127.0.0.1:{page}"\npin = "2468"\n{bus}'
    seconds = args.hours * 3600 / SPEED
    with broker, start_agent("soak", folder, broker.port, args.hours, extra) as agent:
        cloud, seen, kills, began = CountingCloud(broker.port), [], 0, time.monotonic()
        wait_until(lambda: cloud.count > 0, "no reading arrives", within_s=60)
        while (passed := time.monotonic() - began) < seconds and agent.alive:
            time.sleep(min(0.5, seconds / 20))
            seen.append((passed * SPEED / DAY_S, memory_mb(agent.pid)))
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{page}/", timeout=5) as answer:
                answer.read()
            if passed * SPEED > (kills + 0.5) * min(DAY_S, args.hours * 3600):
                broker.kill()
                time.sleep(0.2)
                broker.start()
                kills += 1
        readings = given(folder, agent, within_s=60)
        cloud.wait(lambda one: one.count >= readings, 60)
        cloud.wait(lambda one: one.count > readings, 1.0)
        report.figure("soak_days", args.hours / 24)
        report.figure("soak_broker_kills", kills)
        report.figure("soak_readings", readings)
        report.figure("soak_lost", max(0, readings - cloud.count), exactly=0)
        report.figure("soak_doubled", max(0, cloud.count - readings), exactly=0)
        report.figure("soak_events", len(cloud.events))
        report.figure("soak_rss_max_mb", memory_mb(agent.pid, "VmHWM"), at_most=40)
        report.figure("soak_growth_mb_per_day", growth(seen), at_most=1.0 if args.hours >= 24 else None)
        cloud.close()
        report.figure("soak_ended_with", agent.stop(within_s=30), exactly=0)
    slave.close()


def growth(seen):
    """Megabytes a day of the farm's time from the second quarter to the last; None where there is too little."""
    quarter = len(seen) // 4
    if not quarter:
        return None
    early, late = seen[quarter : 2 * quarter], seen[-quarter:]
    days, rise = (statistics.median(one[at] for one in late) - statistics.median(o[at] for o in early) for at in (0, 1))
    return rise / days


def measure(args, report):
    report.figure("memory_limit_mb", LIMIT_MB)
    for name, part in (("week", week), ("soak", soak)):
        if args.only in {None, name}:
            with tempfile.TemporaryDirectory(prefix=f"tianmai-{name}-") as folder:
                part(args, report, Path(folder))


def main():
    if sys.argv[1:2] == ["--live"]:
        parser = argparse.ArgumentParser()
        parser.add_argument("--live")
        parser.add_argument("folder", type=Path)
        parser.add_argument("hours", type=float)
        own = parser.parse_args()
        live(own.live, own.folder, own.hours)
        os._exit(0)  # a paho thread may still linger
    return bench("soak", measure, arguments)


if __name__ == "__main__":
    sys.exit(main())
