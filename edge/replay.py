"""A recorded pond log goes the whole way: CSV rows become readings, packs, messages, and wait for the watermark.

Columns are ``Date`` (local in the given zone) and any of ``Temperature``, ``pH``, ``Turbidity``; what else there
is is named once and left out. Times that go back, stand still or jump are sent as they are: the log is
evidence, and the cloud decides what a second value at the same time means.

The place in the file is noted in the spool under the same checksum as the pack it belongs to, so after a kill
the next run goes on with the first row that was not yet durable and no row gets two numbers.
"""

from __future__ import annotations

import csv
import math
import queue
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from edge import EdgeError
from edge.agent import judge
from edge.drivers import Sample
from edge.quantities import QUANTITIES
from edge.spool import Kind as SpoolKind
from edge.spool import Spool
from edge.uplink import Message, Notice, Uplink
from edge.wire import Ack, Kind, Pack, Reading, WireError, encode_pack

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path

    from edge.settings import UplinkSettings

_COLUMNS = {"Temperature": "water_temperature", "pH": "ph", "Turbidity": "turbidity"}
_DATE = "Date"
_BAR_S = 0.1
_NAMED_ROWS = 10  # bad rows named one by one; more are only counted


class ReplayError(EdgeError):
    """The log cannot be replayed at all: ``no_file``, ``no_columns``, ``no_rows``."""


@dataclass(slots=True)
class Report:
    """What became of the rows; counts are of this run unless said otherwise."""

    rows: int = 0
    readings: int = 0
    bad_rows: int = 0
    bad_cells: int = 0
    skipped_rows: int = 0  # already durable from an earlier run
    packs: int = 0
    settled: bool = False
    unknown_columns: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the log: its number in the file (the header is 1) and its readings."""

    line: int
    readings: tuple[Reading, ...]


def read_log(path: Path, zone: tzinfo, sensor: str, report: Report, warn: Callable[[str], None]) -> Iterator[Row]:
    """Rows in the order of the file; bad ones are named, counted and left out. Raises ``ReplayError``."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
            rows = csv.reader(text)
            header = [name.strip() for name in next(rows, [])]
            known = _known_columns(header, path, report, warn)
            for row in rows:
                line = rows.line_num
                if any(cell.strip() for cell in row):
                    yield _row(row, line, known, zone, sensor, report, warn)
    except OSError as why:
        raise ReplayError("no_file", f"{path}: cannot read: {why.strerror}") from None
    except csv.Error as why:
        raise ReplayError("no_rows", f"{path}: not a CSV file: {why}") from None


def _known_columns(header: list[str], path: Path, report: Report, warn: Callable[[str], None]) -> dict[str, int]:
    known = {name: at for at, name in enumerate(header) if name in _COLUMNS or name == _DATE}
    report.unknown_columns = [name for name in header if name not in known]
    if report.unknown_columns:
        warn(f"columns left out: {', '.join(repr(name) for name in report.unknown_columns)}")
    if _DATE not in known or len(known) == 1:
        raise ReplayError("no_columns", f"{path}: needs a column {_DATE} and one of {', '.join(_COLUMNS)}")
    return known


def _row(
    row: list[str],
    line: int,
    known: dict[str, int],
    zone: tzinfo,
    sensor: str,
    report: Report,
    warn: Callable[[str], None],
) -> Row:
    cells = {name: row[at].strip() for name, at in known.items() if at < len(row)}
    report.rows += 1
    try:
        time_ms = parse_local(cells.get(_DATE, ""), zone)
    except ValueError:
        report.bad_rows += 1
        _name_bad(report, warn, f"line {line}: no time in {cells.get(_DATE, '')[:40]!r}, row left out")
        return Row(line, ())
    readings = []
    for name, text in cells.items():
        if name == _DATE or not text:
            continue
        reading = _reading(name, text, time_ms, sensor)
        if reading is None:
            report.bad_cells += 1
            _name_bad(report, warn, f"line {line}: {name} {text[:40]!r} is not a number, value left out")
        else:
            readings.append(reading)
    return Row(line, tuple(readings))


def _name_bad(report: Report, warn: Callable[[str], None], text: str) -> None:
    seen = report.bad_rows + report.bad_cells
    if seen <= _NAMED_ROWS:
        warn(text)
    elif seen == _NAMED_ROWS + 1:
        warn("more bad rows are only counted")


def _reading(column: str, text: str, time_ms: int, sensor: str) -> Reading | None:
    quantity = QUANTITIES[_COLUMNS[column]]
    try:
        value = float(text)
        if not math.isfinite(value):
            return None
        return judge(Sample(f"{sensor}/{quantity.name}", value, quantity.unit, time_ms=time_ms), time_ms)
    except (ValueError, WireError):
        return None


def parse_local(text: str, zone: tzinfo) -> int:
    """``2020-01-15 16:00:35`` (or with T, fractions, an offset) in the zone -> UTC ms; raises ``ValueError``."""
    local = datetime.fromisoformat(text)
    if local.tzinfo is None:
        local = local.replace(tzinfo=zone)
    since = local - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


class Replay:
    """One run over one file. The caller owns the spool; ``speed`` 0 means as fast as the disk takes it."""

    def __init__(self, path: Path, spool: Spool, gateway: str, uplink: UplinkSettings) -> None:
        self._path, self._spool, self._gateway = path, spool, gateway
        self._inbox: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._uplink = Uplink(gateway, uplink, self._inbox.put)
        self._mark = f"replay:{_fingerprint(path)}"
        self.report = Report()

    def run(
        self, rows: Iterator[Row], *, speed: float, pack_readings: int, tick: Callable[[Report, Spool], None]
    ) -> None:
        """Spool every row that is not yet durable, sending meanwhile."""
        self._uplink.start()
        done = int(self._spool.notes.get(self._mark, 1))
        pace = Pace(speed)
        batch: list[Reading] = []
        last = done
        for row in rows:
            if row.line <= done:
                self.report.skipped_rows += 1
                continue
            if row.readings:
                while pace.early(row.readings[0].time_ms):
                    last = self._flush(batch, last)
                    self._serve(0.05)
            batch.extend(row.readings)
            last = row.line
            if len(batch) >= pack_readings:
                self._flush(batch, last)
                self._serve(0.0)
                tick(self.report, self._spool)
        self._flush(batch, last)

    def finish(self, *, wait: bool, timeout_s: float, tick: Callable[[Report, Spool], None]) -> None:
        """Send on until the cloud has confirmed all (``wait``), or until all went out once; then leave."""
        deadline = time.monotonic() + timeout_s
        quiet = 0.0
        while not self._spool.settled and time.monotonic() < deadline:
            sent = self._serve(0.2)
            tick(self.report, self._spool)
            quiet = 0.0 if sent or self._uplink.busy else quiet + 0.2
            if not wait and quiet > 2.0:  # noqa: PLR2004 - seconds without anything to send
                break
        self.report.settled = self._spool.settled
        self._uplink.close()

    def _flush(self, batch: list[Reading], line: int) -> int:
        if batch:
            pack = Pack(self._gateway, tuple(batch))
            self._spool.put(SpoolKind.DATA, encode_pack(pack), count=len(batch), note={self._mark: line})
            self._spool.commit(time.time_ns() // 1_000_000)
            self.report.readings += len(batch)
            self.report.packs += 1
            batch.clear()
        return line

    def _serve(self, patience_s: float) -> int:
        """Take what came from the network, then send; returns how many messages went out."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                notice = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()) or 0.0005)
            except queue.Empty:
                break
            self._hear(notice)
            if self._inbox.empty():
                break
        return self._uplink.pump(self._spool, now=time.monotonic())

    def _hear(self, notice: Notice) -> None:
        now = time.monotonic()
        if not isinstance(notice, Message):
            self._uplink.hear(notice, now=now)
        elif notice.topic.kind is Kind.ACK:
            try:
                ack = Ack.decode(notice.payload)
            except WireError:
                return
            self._uplink.confirmed(moved=self._spool.settle(ack.epoch, ack.watermark), now=now)


class Pace:
    """Follows the log's own clock, ``speed`` times as fast; steps backward and long gaps are not waited for."""

    def __init__(self, speed: float) -> None:
        self._speed, self._last_ms, self._due = speed, 0, time.monotonic()

    def early(self, time_ms: int) -> bool:
        """Whether it is too early for a row of that time."""
        if self._speed <= 0:
            return False
        if time_ms != self._last_ms:
            step_s = min(max(0, time_ms - self._last_ms) / 1000, 3600.0) if self._last_ms else 0.0
            self._last_ms, self._due = time_ms, self._due + step_s / self._speed
        return time.monotonic() < self._due


def _fingerprint(path: Path) -> str:
    digest = sha256()
    try:
        with path.open("rb") as log:
            while block := log.read(1 << 16):
                digest.update(block)
    except OSError as why:
        raise ReplayError("no_file", f"{path}: cannot read: {why.strerror}") from None
    return digest.hexdigest()[:16]


def progress_bar(total: int) -> Callable[[Report, Spool], None]:
    """A line on stderr that keeps itself up to date; silent where stderr is no terminal."""
    shown = [0.0]

    def show(report: Report, spool: Spool) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or now - shown[0] < _BAR_S:
            return
        shown[0] = now
        share = min(1.0, (report.rows / total) if total else 1.0)
        bar = "#" * round(30 * share)
        backlog = spool.stat().backlog
        sys.stderr.write(f"\r[{bar:<30}] {report.rows} rows, {backlog} packs not yet confirmed ")
        sys.stderr.flush()

    return show
