"""Reading a recorded log: CSV rows -> readings with the log's own times.

Columns are ``Date`` (local in the given zone) and any of ``Temperature``, ``pH``, ``Turbidity``; what else there
is is named once and left out. Rows that cannot be read are named by their line, counted and left out.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edge import EdgeError
from edge.quality import judge
from edge.quantities import QUANTITIES
from edge.rules import Sample
from edge.wire import Reading, WireError

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path

_COLUMNS = {"Temperature": "water_temperature", "pH": "ph", "Turbidity": "turbidity"}
_DATE = "Date"
_NAMED_ROWS = 10  # bad rows named one by one; more are only counted


class LogError(EdgeError):
    """The log cannot be read at all: ``no_file``, ``no_columns``, ``no_rows``."""


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
    """Rows in the order of the file; bad ones are named, counted and left out. Raises ``LogError``."""
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
        raise LogError("no_file", f"{path}: cannot read: {why.strerror}") from None
    except csv.Error as why:
        raise LogError("no_rows", f"{path}: not a CSV file: {why}") from None


def _known_columns(header: list[str], path: Path, report: Report, warn: Callable[[str], None]) -> dict[str, int]:
    known = {name: at for at, name in enumerate(header) if name in _COLUMNS or name == _DATE}
    report.unknown_columns = [name for name in header if name not in known]
    if report.unknown_columns:
        warn(f"columns left out: {', '.join(repr(name) for name in report.unknown_columns)}")
    if _DATE not in known or len(known) == 1:
        raise LogError("no_columns", f"{path}: needs a column {_DATE} and one of {', '.join(_COLUMNS)}")
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
        return judge(f"{sensor}/{quantity.name}", time_ms, value, quantity.unit)
    except (ValueError, WireError):
        return None


def parse_local(text: str, zone: tzinfo) -> int:
    """``2020-01-15 16:00:35`` (or with T, fractions, an offset) in the zone -> UTC ms; raises ``ValueError``."""
    local = datetime.fromisoformat(text)
    if local.tzinfo is None:
        local = local.replace(tzinfo=zone)
    since = local - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def read_samples(path: Path) -> list[Sample]:
    """A CSV with columns ``time`` (UTC ms), ``series``, ``value`` as samples; an empty value is a bad one.

    Raises ``LogError`` naming the first line that cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            rows = csv.DictReader(text)
            samples = []
            for row in rows:
                try:
                    value = float(row["value"]) if row["value"].strip() else None
                    samples.append(Sample(row["series"].strip(), int(row["time"]), value))
                except (KeyError, ValueError, TypeError, AttributeError):
                    raise LogError("no_rows", f"{path}: line {rows.line_num}: needs time, series, value") from None
    except OSError as why:
        raise LogError("no_file", f"{path}: cannot read: {why.strerror}") from None
    if not samples:
        raise LogError("no_rows", f"{path}: holds no samples")
    return samples


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
