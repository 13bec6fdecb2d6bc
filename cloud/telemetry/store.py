"""The readings store: one set of promises, kept by every adapter.

    DuckReadings    embedded default: readings, pack ledger and marks in one transaction; one process owns the file
    InfluxReadings  a server, needed as soon as ingest and API run apart; keeps the *last* of two values (see below)
    MemoryReadings  the promises in their plainest form: tests, and the oracle of the others' contract suite

Two identities carry everything. A **pack** is (gateway, epoch, seq): sent twice it is stored once. A **reading** is
(series, millisecond): an equal second value is absorbed, a different one is kept out, recorded as a conflict and
counted; the first write wins. InfluxDB overwrites instead, and says so in `capabilities`.

Columns, not objects, cross this border: a county sends 17,000 readings a second. All arrays of one call have equal
length; `time_ms` is int64 UTC, `value` float64 with NaN for "no value" (allowed only with quality >= 4), `quality`
uint8 as in `edge.wire.Quality`, `series` int64 ids given by the registry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from cloud.problems import Invalid, Unavailable
from cloud.telemetry.spans import Spans

__all__ = [
    "HOUR_MS",
    "NO_VALUE_QUALITY",
    "Appended",
    "Arrival",
    "Buckets",
    "Capabilities",
    "Conflicting",
    "Floats",
    "Groups",
    "Health",
    "Ints",
    "PackKey",
    "Points",
    "ReadingsStore",
    "StoreUnavailable",
    "Stored",
    "columns",
    "gather",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

HOUR_MS = 3_600_000
# From this quality on a reading does not speak for the world (edge.wire.Quality): kept and shown, never averaged.
NO_VALUE_QUALITY = 4


class StoreUnavailable(Unavailable):
    """The store cannot take or answer now. Nothing was acknowledged: keep the batch and try again."""

    code = "store_unavailable"


class PackKey(NamedTuple):
    """Identity of a pack on its way from one gateway. `seq` counts from 1 within an `epoch` (a spool's life)."""

    gateway: str
    epoch: str
    seq: int


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Readings as columns."""

    series: Ints
    time_ms: Ints
    value: Floats
    quality: Bytes

    def __len__(self) -> int:
        return len(self.series)

    @classmethod
    def none(cls) -> Self:
        """No readings at all."""
        return cls(*columns([], [], [], []))

    def take(self, index: NDArray[np.bool_] | NDArray[np.intp]) -> "Points":
        """The rows that a mask or an index picks."""
        return Points(self.series[index], self.time_ms[index], self.value[index], self.quality[index])


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """One message as the store takes it: its readings, and what it says about the sequence.

    `key` is None for a gateway that does not number its packs. A farm record or an event takes its place in the
    sequence with no readings; a reported gap accounts for `skips`, a closed range of numbers that will never come.
    `digest` are 8 bytes of a hash of the payload: a number used again for something else shows by it. `sender` is the
    gateway of readings without a key, where it is known.
    """

    key: PackKey | None
    points: Points
    digest: bytes = b"\0" * 8
    skips: tuple[int, int] | None = None
    received_ms: int = 0
    sender: str = ""


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of the arrivals of one `append`, counted in readings unless said otherwise."""

    stored: int = 0
    absorbed: int = 0  # equal to a reading already there, or of a pack already there
    conflicts: int = 0  # another value at an occupied (series, ms): kept out and recorded
    known: frozenset[PackKey] = frozenset()  # packs that were there already
    reused: frozenset[PackKey] = frozenset()  # of those, the ones whose content differs: an alarm, not stored
    rejected: tuple[tuple[int, int, str], ...] = ()  # (series, ms, why) that a server refuses for good: for people
    position: int = 0  # of this append in the order of storing; 0 where it stored nothing new


@dataclass(frozen=True, slots=True)
class Conflicting:
    """A second value that was kept out."""

    series: int
    time_ms: int
    kept: float | None
    refused: float | None
    received_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """One series in half-open buckets `[start, start + step)`; a bucket without a usable reading is absent."""

    start_ms: Ints
    n: Ints
    total: Floats
    low: Floats
    high: Floats
    first: Floats
    last: Floats

    @property
    def mean(self) -> Floats:
        """Arithmetic mean of the readings of each bucket."""
        return self.total / self.n


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Usable readings of many series taken together, one row per label."""

    label: Ints
    n: Ints
    total: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Where adapters honestly differ."""

    first_write_wins: bool = True
    records_conflicts: bool = True
    many_processes: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the store answers, and how big it is. `detail` is one sentence when it does not."""

    ok: bool
    readings: int = 0
    conflicts: int = 0
    bytes: int = 0
    detail: str = ""
    extra: Mapping[str, int] = field(default_factory=dict)


class Stored(NamedTuple):
    """Readings of one gateway (empty: of any) were stored whose times lie in `[first_ms, last_ms]`."""

    gateway: str
    first_ms: int
    last_ms: int


class ReadingsStore(Protocol):
    """Readings by series and time. Every method may be called from any thread."""

    @property
    def capabilities(self) -> Capabilities:
        """Which of the promises below this adapter keeps in a weaker form."""

    def append(self, arrivals: Sequence[Arrival]) -> Appended:
        """Store all arrivals or none; durable when it returns.

        Idempotent: a known pack adds nothing, a known reading adds nothing. Raises `StoreUnavailable` when nothing
        can be promised (call again with the same arrivals), `Invalid` when an array cannot be stored at all.
        """

    def last(self, series: Ints) -> Points:
        """The newest reading of each series that has one, in the order asked for."""

    def range(self, series: Ints, start_ms: int, end_ms: int, *, limit: int | None = None) -> Points:
        """Readings with `start_ms <= time < end_ms`, by (series, time); at most `limit` of them."""

    def downsample(self, series: int, start_ms: int, end_ms: int, step_ms: int) -> Buckets:
        """Statistics of usable readings in buckets of `step_ms` counted from `start_ms`, not from the epoch."""

    def group(self, series: Ints, label: Ints, start_ms: int, end_ms: int) -> Groups:
        """Statistics over `[start_ms, end_ms)` of all series that share a label; labels without readings absent."""

    def roll_up(self, before_ms: int) -> int:
        """Sum up anew every hour that ended by `before_ms` and received readings since; how many there were.

        Only makes `downsample` and `group` fast: their answers are the same before and after.
        """

    def delete_before(self, series: Ints, time_ms: int) -> int:
        """Forget readings of these series in all hours that ended by `time_ms`; the number forgotten.

        Conflicts stay on record, and an adapter may keep the hours' sums. A reading that comes later for a forgotten
        time is absorbed.
        """

    def count_by_hour(self, series: Ints) -> tuple[Ints, Ints]:
        """How many readings of these series together lie in each hour: (hours since 1970, rising; counts above 0)."""

    def compact(self) -> None:
        """Give back the space of what was forgotten, where a store can; slow, and writers may have to wait."""

    def conflicts(self, *, limit: int = 1000, upto_ms: int | None = None) -> list[Conflicting]:
        """Second values kept out, newest first, always in the same order; those received by `upto_ms` only."""

    def ledger(self, gateway: str) -> Mapping[str, Spans]:
        """Per epoch of this gateway the numbers accounted for, the epoch last heard of at the end; a copy."""

    def heard(self) -> Mapping[str, int]:
        """When something of each gateway last arrived (received ms UTC); a copy.

        A gateway that was not heard of lately may be absent, where a store shares its ledger between processes.
        """

    def position(self) -> int:
        """The position of the latest append that stored something, 0 before the first; positions rise by one each.

        All that stands at it or before it is readable. Raises `StoreUnavailable`.
        """

    def stored(self, after: int, upto: int) -> Sequence[Stored]:
        """Whose readings of which times were stored at the positions `(after, upto]`.

        Together the rows cover every reading stored there; they may cover more, of the same gateway and the day (ms
        // 86,400,000) in which a message's readings begin.
        """

    def health(self) -> Health:
        """Whether the store answers now. Never raises."""

    def close(self) -> None:
        """Finish what was promised and release the store."""


def columns(
    series: Sequence[int] | Ints,
    time_ms: Sequence[int] | Ints,
    value: Sequence[float] | Floats,
    quality: Sequence[int] | Bytes,
) -> tuple[Ints, Ints, Floats, Bytes]:
    """The four columns in their storage types."""
    return (
        np.asarray(series, dtype=np.int64),
        np.asarray(time_ms, dtype=np.int64),
        np.asarray(value, dtype=np.float64),
        np.asarray(quality, dtype=np.uint8),
    )


def gather(arrivals: Sequence[Arrival]) -> tuple[Points, Ints]:
    """All readings of the arrivals in one set of columns, and for each the time of its receipt.

    Raises `Invalid` for an infinite value, or for a missing one whose quality does not say that it is missing.
    """
    if not arrivals:
        return Points.none(), np.empty(0, dtype=np.int64)
    parts = [arrival.points for arrival in arrivals]
    points = Points(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.time_ms for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.quality for part in parts]),
    )
    missing = np.isnan(points.value) & (points.quality < NO_VALUE_QUALITY)
    if missing.any() or np.isinf(points.value).any():
        raise Invalid("a reading without a finite value needs a quality of 4 or more", code="not_finite")
    received = np.repeat([arrival.received_ms for arrival in arrivals], [len(part) for part in parts])
    return points, received.astype(np.int64)
