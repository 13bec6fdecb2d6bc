"""The agent: drivers in their threads, the network in its own, and one loop that owns everything else.

All that happens comes through one inbox: samples, receipts, watermarks, commands. The loop judges samples,
closes packs (200 readings or 5 s), commits them to the spool, feeds the uplink and reports health. Only this
thread touches the spool, so there is no lock to forget.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import EdgeError
from edge.about import sensor_notes
from edge.clock import Clock, ClockQuality, Step, SystemTime, boot_id
from edge.commands import Desk
from edge.drivers import Driver, DriverHealth, Report, Sample
from edge.guard import Guard
from edge.health import disk_free_bytes, rss_bytes
from edge.held import Held
from edge.page import Page, Snapshot
from edge.quality import Doubt, judge
from edge.recent import Recent
from edge.rules import Sample as RuleSample
from edge.settings import notify_address
from edge.silence import Silence
from edge.spool import Kind as SpoolKind
from edge.spool import Spool, SpoolError
from edge.uplink import Connected, Disconnected, Message, Notice, Uplink
from edge.watchdog import Watchdog
from edge.wire import (
    Ack,
    Event,
    Kind,
    Pack,
    Quality,
    Reading,
    Record,
    Result,
    Status,
    Topic,
    WireError,
    encode_pack,
)

if TYPE_CHECKING:
    from edge.outputs import Output
    from edge.remote import Slots
    from edge.settings import Settings

_BATCHES = 64  # batches of samples waiting; when they are used up the drivers wait, not the network
_TICK_S = 0.2
_LINGER_S, _FEW = 0.1, 8  # drops that fall fast are taken by the handful: a turn costs as much as ten readings


@dataclass(frozen=True, slots=True)
class _Batch:
    samples: Sequence[Sample]
    reports: Sequence[Report]


_Item = _Batch | Notice | Record


class Agent:
    """One gateway. ``run`` works until ``stop`` is set; everything it needs is given."""

    def __init__(
        self, settings: Settings, *, spool: Spool, clock: Clock | None = None, slots: Slots | None = None
    ) -> None:
        self._settings, self._spool, self._slots = settings, spool, slots
        self._again = self._applied_told = self._sensors_told = False
        self.clock = clock or Clock(SystemTime())
        self.boot = secrets.token_hex(8)
        # Never full: paho holds a lock while it calls back, and we hold none while we publish.
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._room = threading.Semaphore(_BATCHES)
        will = Status("offline", 0, self.boot, "", {}).sign(settings.secret)
        self._uplink = Uplink(settings.gateway, settings.uplink, self._inbox.put, will=will)
        self._drivers: list[Driver] = []
        self._threads: list[threading.Thread] = []
        self._stop_drivers = threading.Event()
        self._open: list[Reading] = []
        self._opened = 0.0
        self._held = Held(settings.spool_dir / "held.jsonl", boot_id())
        self._trouble = ""
        self._turned, self._born = 0.0, self.clock.stamp()
        self._next_status = self._next_tick = self._next_save = 0.0  # seconds as of `_now`
        self._rejected = 0
        self._guard = Guard(settings, self.clock, report=self.report)
        self._desk = Desk(settings.spool_dir / "commands.log", settings.gateway, settings.secret)
        self._new: list[RuleSample] = []
        self._watchdog = Watchdog(notify_address())
        self._doubt = Doubt()
        self._recent = Recent(settings.farm.series)
        self._silence = Silence(settings.farm.series)
        self._page: Page | None = None
        if (page := settings.page) is not None:
            self._page = Page(page.host, page.port, page.pin, settings.zone, self._inbox.put)

    def add_driver(self, driver: Driver) -> None:
        """Have this driver run beside the loop."""
        self._drivers.append(driver)

    def add_output(self, actuator: str, output: Output, *, manual: str = "") -> None:
        """Have this actuator of the farm driven for real; those without an output are not controlled.

        ``manual``: the series of its hand switch (0 automatic, 1 on, 2 off).
        """
        self._guard.add_output(actuator, output, manual=manual)

    # -- the loop --------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> bool:
        """Work until ``stop`` is set, then leave in order: everything taken is durable.

        Returns True where it left because it is to start again with other settings.
        """
        if self._page is not None:
            self._page.start()  # may fail: before anything else runs
        for driver in self._drivers:
            name = f"driver-{driver.name}"
            thread = threading.Thread(target=self._drive, args=(driver, name), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._guard.start()
        for result in self._desk.interrupted(self.clock.now_ms() or 0):
            self._answer(result)
        self._uplink.start()
        self._watchdog.ready()
        while not stop.is_set() and not self._again:
            self._turn()
        if not self._again:
            self._watchdog.stopping()
        self._leave()
        return self._again

    def _drive(self, driver: Driver, name: str) -> None:
        with contextlib.suppress(OSError):  # so that `top -H` says which driver is busy; the kernel keeps 15 letters
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name[:15], "ascii")
        driver.run(self._emit, self._stop_drivers)

    def _emit(self, samples: Sequence[Sample], reports: Sequence[Report] = ()) -> None:
        while not self._stop_drivers.is_set():
            if self._room.acquire(timeout=0.5):
                self._inbox.put(_Batch(samples, reports))
                return

    def _now(self) -> float:
        """Seconds on the clock that never jumps, the injected one where there is one."""
        return self.clock.stamp() / 1000

    def _turn(self) -> None:
        """Wait for something to happen, take all that has happened, then do what is due."""
        now = self._now()
        deadline = min(self._next_tick, self._opened + self._settings.pack_age_s if self._open else now + _TICK_S)
        for item in self._arrivals(max(0.0, deadline - now)):
            self._take(item)
        now = self._now()
        if now >= self._next_tick:
            self._tick(now)
        if self._open and now - self._opened >= self._settings.pack_age_s:
            self._close_pack()
        self._uplink.pump(self._spool, now=now)

    def _arrivals(self, patience_s: float) -> list[_Item]:
        arrived: list[_Item] = []
        with contextlib.suppress(queue.Empty):
            arrived.append(self._inbox.get(timeout=max(0.001, min(patience_s, _TICK_S))))
            if self._now() - self._turned < 2 * _LINGER_S and self._inbox.qsize() < _FEW:
                time.sleep(_LINGER_S)
            self._turned = self._now()
            while len(arrived) < 500:  # noqa: PLR2004 - then pump again before taking more
                arrived.append(self._inbox.get_nowait())
        return arrived

    def _take(self, item: _Item) -> None:
        if isinstance(item, _Batch):
            self._room.release()
            for sample in item.samples:
                self._take_sample(sample)
            for kind, body, time_ms in item.reports:
                self.report(kind, body, time_ms=time_ms)
        elif isinstance(item, Message):
            self._take_message(item)
        elif isinstance(item, Record):
            self._spool.put(SpoolKind.RECORD, item.sign(self._settings.secret))
            self._commit()
        else:
            self._uplink.hear(item, now=self._now())
            if isinstance(item, Connected):
                self._next_status = 0.0
                self._applied_told = self._sensors_told = False
            elif isinstance(item, Disconnected) and item.duplicate:
                self.report("duplicate_id", {"reason": item.reason})

    # -- samples ---------------------------------------------------------------------------------------

    def _take_sample(self, sample: Sample) -> None:
        time_ms = sample.time_ms
        if time_ms is None and sample.stamp is not None:
            time_ms = self.clock.wall_of(sample.stamp)
        if time_ms is None:
            self._held.add(sample, self._now())
            return
        try:
            reading = judge(sample.name, time_ms, sample.value, sample.unit, sample.quality, sample.calibration)
            reading = self._doubt.look(reading)
        except WireError:
            self._rejected += 1
            return
        if sample.stamp is not None:  # a recorded log that ends is no sensor that fell silent
            self._silence.heard(reading.name, sample.stamp)
        self._keep(reading)

    def _keep(self, reading: Reading) -> None:
        self._recent.note(reading)
        if reading.name in self._guard.heard:
            good = reading.quality < Quality.DEVICE_ERROR
            self._new.append(RuleSample(reading.name, reading.time_ms, reading.value if good else None))
        if not self._open:
            self._opened = self._now()
        self._open.append(reading)
        if len(self._open) >= self._settings.pack_readings:
            self._close_pack()

    def _close_pack(self) -> None:
        if self._open:
            pack = Pack(self._settings.gateway, tuple(self._open))
            self._spool.put(SpoolKind.DATA, encode_pack(pack), count=len(self._open))
            self._open = []
        self._commit()

    def _commit(self) -> None:
        try:
            self._spool.commit(self.clock.now_ms() or 0)
            self._trouble = ""
        except SpoolError as why:
            self._trouble = why.code
        self._report_gaps()

    def _report_gaps(self) -> None:
        gaps = self._spool.take_gaps()
        for nth, gap in enumerate(gaps, 1):
            event = Event(
                "gap",
                self.clock.now_ms() or 0,
                {"first": gap.first, "last": gap.last, "count": gap.count, "reason": gap.reason},
            )
            note = self._spool.gap_note() if nth == len(gaps) else None
            self._spool.put(SpoolKind.EVENT, event.encode(), note=note)
        if gaps:
            with contextlib.suppress(SpoolError):
                self._spool.commit(self.clock.now_ms() or 0)

    def report(self, kind: str, body: dict[str, Any], *, time_ms: int | None = None) -> None:
        """Spool an event and make it durable at once: alarms do not wait for a pack to fill."""
        now_ms = time_ms if time_ms is not None else self.clock.now_ms()
        self._spool.put(SpoolKind.EVENT, Event(kind, now_ms or 0, body).encode())
        self._commit()

    # -- the cloud -------------------------------------------------------------------------------------

    def _take_message(self, message: Message) -> None:
        if message.topic.kind is Kind.ACK:
            with contextlib.suppress(WireError, SpoolError):
                ack = Ack.decode(message.payload)
                moved = self._spool.settle(ack.epoch, ack.watermark)
                self._uplink.confirmed(moved=moved, now=self._now(), again=ack.again)
                if not message.retained:  # a retained one may be a year old
                    self._clock_moved(self.clock.hear_cloud(ack.time_ms))
        elif message.topic.kind is Kind.COMMAND:
            now_ms, quality, target = self.clock.now_ms(), self.clock.quality, message.topic.name or ""
            for result in self._desk.receive(
                message.payload, target, retained=message.retained, now_ms=now_ms, quality=quality, act=self._guard.act
            ):
                self._answer(result)
        elif message.topic.kind is Kind.CONFIG_WANTED and self._slots is not None:
            # The trial itself begins with the next agent; this one only leaves in order.
            self._again = self._slots.receive(message.payload, self._healths(), self._spool.watermark)

    def _healths(self) -> dict[str, DriverHealth]:
        return {driver.name: driver.health for driver in self._drivers}

    def _look_after_settings(self, slots: Slots) -> None:
        """Judge a trial, and tell what became of it: as an event, which cannot get lost, and on its topic."""
        self._again |= slots.judge(self.clock.stamp(), self._healths(), self._spool.watermark)
        applied = slots.applied(self.clock.now_ms() or 0)
        if applied is None:
            return
        if slots.untold:
            body = {"revision": applied.revision, "outcome": applied.outcome, "reason": applied.reason}
            self.report("config", body)
            slots.told()
            self._applied_told = False
        if not self._applied_told:
            topic = Topic(self._settings.gateway, Kind.CONFIG_APPLIED)
            self._applied_told = self._uplink.send(topic, applied.sign(self._settings.secret), retain=True)

    def _answer(self, result: Result) -> None:
        """Tell the cloud now if it listens, and keep the outcome as an event: that one cannot get lost."""
        self._uplink.send(Topic(self._settings.gateway, Kind.RESULT), result.sign(self._settings.secret))
        if result.outcome != "accepted":
            body = {"id": result.id, "outcome": result.outcome, "reason": result.reason, **result.body}
            self.report("command", body)

    def _clock_moved(self, step: Step | None) -> None:
        if step is not None:
            self.report("clock", {"moved_ms": step.moved_ms, "quality": step.quality.value}, time_ms=step.at_ms)
            self._guard.clock_stepped()
        now_ms = self.clock.now_ms()
        if now_ms is None:
            self._held.flush_if_old(self._now(), self._settings.pack_age_s)
        elif (self._held.count or self._held.lost) and not self._trouble:
            self._date_held(now_ms)

    def _date_held(self, now_ms: int) -> None:
        """Somebody knows the time at last: what was taken before gets its own."""
        self._held.flush()
        if lost := self._held.lost:
            self._held.lost = 0
            self.report("undated", {"count": lost})
        with contextlib.suppress(OSError):
            for sample in self._held.dated(now_ms - self.clock.stamp()):
                self._take_sample(sample)
            self._close_pack()
            if not self._trouble:
                self._held.forget()

    # -- the second hand -------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._next_tick = now + 1.0
        self._clock_moved(self.clock.check())
        if (now_ms := self.clock.now_ms()) is not None:
            for stale in self._silence.fallen(self.clock.stamp(), now_ms):
                self._keep(stale)
        fresh, self._new = self._new, []
        self._guard.tick(fresh)
        self._feed_watchdog(now)
        if self._slots is not None:
            self._look_after_settings(self._slots)
        if self._page is not None:
            self._page.snapshot = self._snapshot()
        if self._trouble:
            self._commit()
        if now >= self._next_save:
            self._next_save = now + 60.0
            self._desk.forget(self.clock.now_ms() or 0)
            with contextlib.suppress(SpoolError):
                self._spool.save_mark()
        if now >= self._next_status:
            sent = self._uplink.send(
                Topic(self._settings.gateway, Kind.STATUS), self.status().sign(self._settings.secret), retain=True
            )
            self._next_status = now + (self._settings.status_s if sent else 1.0)
            if sent and not self._sensors_told:
                notes = sensor_notes(self._settings.gateway, self._settings.farm)
                self._sensors_told = all(self._uplink.send(topic, body, retain=True) for topic, body in notes)

    def _feed_watchdog(self, now: float) -> None:
        """Fed by real progress: this loop turned, and each driver's thread lives and reads or rests on purpose.

        A quiet device is no reason to restart the agent; a dead thread is.
        """
        self._watchdog.progress("loop", now)
        for driver, thread in zip(self._drivers, self._threads, strict=True):
            health = driver.health
            if health.resting or thread.is_alive():
                self._watchdog.progress(driver.name, now)
        self._watchdog.feed(now)

    def _snapshot(self) -> Snapshot:
        farm = self._settings.farm
        return Snapshot(
            title=f"{farm.zh} {self._settings.gateway}",
            alarms=self._guard.alarms(),
            readings=self._recent.view(),
            names={name: series.zh for name, series in farm.series.items()},
            actuators=self._guard.actuators(),
            backlog=self._spool.stat().backlog,
            connected=self._uplink.connected,
            trouble=self._trouble,
            now_ms=self.clock.now_ms(),
        )

    def status(self) -> Status:
        """The gateway's health as of now."""
        stat = self._spool.stat()
        body = {
            "spool": {
                "epoch": stat.epoch,
                "first": stat.watermark + 1,  # below this everything was confirmed or is in a reported gap
                "last": stat.last_seq,
                "backlog": stat.backlog,
                "bytes": stat.bytes_used,
                "cap_bytes": stat.cap_bytes,
                "lost_readings": stat.lost_readings,
                "written_bytes": stat.written_bytes,
                # What wears the card out; of the first minute nothing can be said.
                "written_bytes_a_day": round(
                    stat.written_bytes * 86_400_000 / max(60_000, self.clock.stamp() - self._born)
                ),
            },
            "clock": self.clock.quality.value,
            "held": self._held.count,
            "rejected": self._rejected,
            "trouble": self._trouble,
            "rss_bytes": rss_bytes(),
            "disk_free_bytes": disk_free_bytes(self._settings.spool_dir),
            "drivers": {
                driver.name: {"ok": driver.health.ok, "failed": driver.health.failed, "error": driver.health.last_error}
                for driver in self._drivers
            },
            "farm": self._settings.farm.name,
            "begun_ms": self._settings.begun_ms,
            "config": self._slots.revision if self._slots else 0,
            **self._guard.status(),
        }
        state = "degraded" if self._trouble or self.clock.quality is ClockQuality.NONE else "online"
        return Status(state, self.clock.now_ms() or 0, self.boot, agent_version(), body)

    def _leave(self) -> None:
        self._stop_drivers.set()
        if self._page is not None:
            self._page.close()
        for thread in self._threads:
            thread.join(2.0)
        for item in self._arrivals(0.0):
            self._take(item)
        self._close_pack()
        self._held.flush()
        self._guard.save()
        goodbye = Status("offline", self.clock.now_ms() or 0, self.boot, agent_version(), {})
        self._uplink.close(goodbye.sign(self._settings.secret))
        if self._slots is not None:
            self._slots.left()
        with contextlib.suppress(EdgeError):
            self._spool.close()


@cache
def agent_version() -> str:
    """The installed version; ``0`` in a bare checkout."""
    try:
        return version("tianmai")
    except PackageNotFoundError:
        return "0"
