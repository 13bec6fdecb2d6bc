"""A gateway that wakes up in 1970 keeps what it measures on disk, and dates it when somebody knows the time."""

import threading
import time

from edge.agent import Agent
from edge.clock import SOFTWARE_BORN_MS, Clock
from edge.drivers import DriverHealth, Sample
from edge.held import Held
from edge.settings import load_settings
from edge.spool import Kind, Spool, SpoolSettings
from edge.spool.tool import messages
from edge.wire import Event, decode_pack

NOW = SOFTWARE_BORN_MS + 10**10


def sample(stamp, value=20.5):
    return Sample("pond1/water_temperature", value, "Cel", stamp=stamp)


def test_what_was_flushed_survives_a_kill_and_is_dated_by_the_same_boot_only(tmp_path):
    held = Held(tmp_path / "held.jsonl", "boot-a")
    for stamp in range(450):
        held.add(sample(stamp), 0.0)
    survivors = Held(tmp_path / "held.jsonl", "boot-a")
    assert (survivors.count, survivors.lost) == (400, 0), "two full groups of 200 were synced"
    assert [one.time_ms for one in survivors.dated(NOW)] == [NOW + stamp for stamp in range(400)]
    stranger = Held(tmp_path / "held.jsonl", "boot-b")
    assert (stranger.count, stranger.lost) == (0, 400)


def test_a_crash_while_dating_gives_the_very_same_times_again(tmp_path):
    held = Held(tmp_path / "held.jsonl", "boot-a")
    held.add(sample(5), 0.0)
    assert [one.time_ms for one in held.dated(NOW)] == [NOW + 5]
    again = Held(tmp_path / "held.jsonl", "boot-a")
    assert [one.time_ms for one in again.dated(NOW + 7)] == [NOW + 5]
    again.forget()
    assert Held(tmp_path / "held.jsonl", "boot-a").count == 0


def test_a_torn_line_costs_only_itself_and_a_dead_disk_is_counted(tmp_path):
    held = Held(tmp_path / "held.jsonl", "a")
    held.add(sample(1), 0.0)
    held.flush_if_old(4.0, 5.0)
    assert not (tmp_path / "held.jsonl").exists()
    held.flush_if_old(5.0, 5.0)
    with (tmp_path / "held.jsonl").open("ab") as out:
        out.write(b'["a", "pond1/wat')
    assert Held(tmp_path / "held.jsonl", "a").count == 1
    nowhere = Held(tmp_path / "no" / "held.jsonl", "a")
    nowhere.add(sample(1), 0.0)
    nowhere.flush()
    assert (nowhere.count, nowhere.lost) == (0, 1)


class Times:
    """A machine that woke up in 1970."""

    wall = 3_600_000

    def boot_ms(self):
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self):
        return self.wall


class Once:
    """Gives ten samples."""

    name, health = "probe", DriverHealth()

    def __init__(self, clock):
        self._clock, self.stamps = clock, []

    def run(self, emit, stop):
        self.stamps = [self._clock.stamp() + n for n in range(10)]
        emit([sample(stamp) for stamp in self.stamps])
        stop.wait()


def run_for(agent, seconds):
    stop = threading.Event()
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    time.sleep(seconds)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_the_agent_keeps_undated_samples_over_a_restart_and_never_spools_1970(tmp_path):
    (tmp_path / "secret").write_text("0123456789abcdef0123456789abcdef")
    path = tmp_path / "gateway.toml"
    path.write_text("""
[gateway]
id = "pond-1"
farm = "fish_pond"
secret_file = "secret"
[uplink]
url = "mqtt://127.0.0.1:9"
[spool]
dir = "spool"
""")
    settings, times = load_settings(path), Times()
    first = Agent(settings, spool=Spool(settings.spool_dir, settings.spool), clock=Clock(times))
    probe = Once(first.clock)
    first.add_driver(probe)
    run_for(first, 1.0)
    assert first.status().body["held"] == 10
    times.wall = NOW
    offset = NOW - times.boot_ms()
    second = Agent(settings, spool=Spool(settings.spool_dir, settings.spool), clock=Clock(times))
    run_for(second, 2.0)
    spool = Spool(settings.spool_dir, SpoolSettings())
    kept = list(messages(spool))
    spool.close()
    found = [reading for item in kept if item.kind is Kind.DATA for reading in decode_pack(item.payload).readings]
    assert len(found) == 10
    for reading, stamp in zip(found, probe.stamps, strict=True):
        assert abs(reading.time_ms - stamp - offset) < 3000
    assert "undated" not in {Event.decode(item.payload).kind for item in kept if item.kind is Kind.EVENT}
