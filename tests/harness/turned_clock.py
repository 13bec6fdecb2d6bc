"""An agent that lives on a clock which the test turns."""

import threading

from edge.agent import Agent
from edge.clock import Clock
from edge.drivers import DriverHealth
from edge.settings import load_settings
from edge.spool import Spool

SECRET = "0123456789abcdef0123456789abcdef"


class Times:
    """The clocks of a machine (and of its cloud), set by the test: ``boot`` never jumps, ``wall`` may."""

    def __init__(self, wall):
        self.boot, self.wall = 5_000, wall

    def boot_ms(self):
        return self.boot

    def wall_ms(self):
        return self.wall

    def pass_ms(self, ms):
        self.boot += ms
        self.wall += ms


class SteppedAgent(Agent):
    """Says when a second of its work is done, so that the clock waits for it."""

    ticked = None

    def _tick(self, now):
        super()._tick(now)
        if self.ticked is not None:
            self.ticked.release()


class Probe:
    """A driver that is fed by the test."""

    name, health = "probe", DriverHealth()

    def __init__(self):
        self.emit, self.ready = None, threading.Event()

    def run(self, emit, stop):
        self.emit = emit
        self.ready.set()
        stop.wait()


class SteppedGateway:
    """A gateway of a pond, running in its thread, one step of the clock at a time."""

    def __init__(self, folder, times, *, port=9, spool="pack_age_s = 5"):
        (folder / "secret").write_text(SECRET)
        path = folder / "gateway.toml"
        path.write_text(f"""
[gateway]
id = "pond-1"
farm = "fish_pond"
secret_file = "secret"
[uplink]
url = "mqtt://127.0.0.1:{port}"
backoff_s = 0.5
stall_s = 3600
[spool]
dir = "spool"
{spool}
""")
        settings = load_settings(path)
        self.times, self.probe = times, Probe()
        self.spool = Spool(settings.spool_dir, settings.spool)
        self.agent = SteppedAgent(settings, spool=self.spool, clock=Clock(times))
        self.agent.ticked = threading.Semaphore(0)
        self.agent.add_driver(self.probe)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.agent.run, args=(self._stop,))

    def __enter__(self):
        self._thread.start()
        assert self.probe.ready.wait(10)
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def pass_ms(self, ms, samples=()):
        """Let time pass; returns when the agent has done the work of that second."""
        while self.agent.ticked.acquire(blocking=False):
            pass
        self.times.pass_ms(ms)
        self.probe.emit(samples)
        assert self.agent.ticked.acquire(timeout=20)
