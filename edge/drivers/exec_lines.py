"""Any other language: a program that prints SenML lines, one pack or record per line, run and restarted for ever.

Heavy or foreign drivers live in their own process: an isolation boundary and the plug-in interface at once. A line
may be a JSON array (a pack) or one record; ``bn`` and ``bt`` may be left out, then the time is now.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from edge.drivers import DriverHealth, Emit, Sample
from edge.settings import Table
from edge.wire import Quality

if TYPE_CHECKING:
    from threading import Event

    from edge.clock import Clock
    from edge.settings import DriverSettings, Settings

_LONGEST_LINE = 64 * 1024
_RESTART_S = (1.0, 60.0)


class ExecDriver:
    """Runs ``command`` and takes its lines; restarted with back-off when it ends."""

    def __init__(self, name: str, command: tuple[str, ...], clock: Clock) -> None:
        self.name, self.health = name, DriverHealth()
        self._command, self._clock = command, clock

    def run(self, emit: Emit, stop: Event) -> None:
        """Take lines until told to stop."""
        pause = _RESTART_S[0]
        while not stop.is_set():
            began = time.monotonic()
            try:
                self._run_once(emit, stop)
                self.health.last_error = "the program ended"
            except OSError as why:
                self.health.last_error = f"{self._command[0]}: {why.strerror}"
            self.health.failed += 1
            pause = _RESTART_S[0] if time.monotonic() - began > _RESTART_S[1] else min(2 * pause, _RESTART_S[1])
            self.health.resting = True
            stop.wait(pause)
            self.health.resting = False

    def _run_once(self, emit: Emit, stop: Event) -> None:
        with subprocess.Popen(self._command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as program:  # noqa: S603 - the farm's own settings name it
            try:
                for line in _lines(program.stdout, stop):
                    samples = self._read(line)
                    if samples:
                        emit(samples)
                        self.health.ok += len(samples)
            finally:
                program.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    program.wait(2.0)
                program.kill()

    def _read(self, line: bytes) -> list[Sample]:
        try:
            return list(read_line(line, self._clock.stamp()))
        except (ValueError, KeyError, TypeError, RecursionError) as why:
            self.health.failed += 1
            self.health.last_error = f"line not understood: {why}"[:200]
            return []


def _lines(pipe: IO[bytes] | None, stop: Event) -> Iterator[bytes]:
    assert pipe is not None  # noqa: S101 - asked for above
    waiting = b""
    while not stop.is_set():
        if not select.select([pipe], [], [], 0.2)[0]:
            continue
        piece = os.read(pipe.fileno(), 1 << 16)
        if not piece:
            return
        *whole, waiting = (waiting + piece).split(b"\n")
        yield from (line for line in whole if line.strip())
        waiting = waiting[-_LONGEST_LINE:]


def read_line(line: bytes, stamp: int) -> Iterator[Sample]:
    """The samples of one line; raises ``ValueError``, ``KeyError`` or ``TypeError`` where it is not SenML."""
    document = json.loads(line)
    records = document if isinstance(document, list) else [document]
    base: dict[str, Any] = {"bt": 0.0, "bu": ""}
    for record in records:
        if not isinstance(record, Mapping):
            raise TypeError("a record is a JSON object")
        base.update({key: record[key] for key in ("bt", "bu") if key in record})
        if "n" in record:
            yield _sample(record, base, stamp)


def _sample(record: Mapping[str, Any], base: Mapping[str, Any], stamp: int) -> Sample:
    seconds = float(base["bt"]) + float(record.get("t", 0))
    value = record.get("v")
    number = None if value is None else float(value)
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{record['n']}: not a number")
    absolute = seconds >= 2**28
    return Sample(
        name=str(record["n"]),
        value=number,
        unit=str(record.get("u", base["bu"])),
        stamp=None if absolute else stamp + round(min(0.0, seconds) * 1000),
        time_ms=round(seconds * 1000) if absolute else None,
        quality=Quality(record.get("q", 0)),
        calibration=record.get("c"),
    )


def make_exec(row: DriverSettings, options: Table, settings: Settings, clock: Clock) -> ExecDriver:
    """From ``[[driver]] kind = "exec"``: ``command``, a list of texts."""
    del settings
    return ExecDriver(row.name, tuple(options.texts("command")), clock)
