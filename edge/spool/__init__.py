"""The durable store-and-forward queue: a reading is spooled first, sent later, and forgotten only when the
cloud says it is stored.

Two lanes share one sequence of numbers: ``d`` for readings, ``e`` for events and farm records, which may
overtake and own a tenth of the space. Each lane is a chain of segment files; each record has its own checksum;
a group of records becomes durable with one write and one sync. The oldest data go when the space is used up,
and every loss, by drop or by damage, comes out of ``take_gaps`` for the gateway to report.

Why not SQLite: on a full disk it cannot even delete, and a commit a second wears flash a hundred times more.
"""  # noqa: D205 - the first sentence is long on purpose

from __future__ import annotations

import errno
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import EdgeError
from edge.spool.disk import Disk, RealDisk
from edge.spool.lane import Item, Lane, epoch_of
from edge.spool.marks import Marks
from edge.spool.segment import Entry, Kind
from edge.spool.thin import Thinner, Thinning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Gap", "Item", "Kind", "Spool", "SpoolError", "SpoolSettings", "Stat", "Thinner"]

_DATA, _EVENT = "d", "e"
_ROOM_SEGMENTS = 2  # thinning begins when the data lane comes so near to its cap
_RESERVE = 10  # per cent of the space that only events and records may use


class SpoolError(EdgeError):
    """The spool cannot do what it should: ``disk_full``, ``disk_error``, ``in_use``, ``too_large``."""


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Space and time the spool may take.

    ``cap_bytes`` bounds all segments together, ``cap_days`` the age of the oldest (0 = any age),
    ``segment_bytes`` is the size of one file, ``pending_bytes`` what may wait in memory while the disk refuses.
    """

    cap_bytes: int = 512 * 1024 * 1024
    cap_days: float = 30.0
    segment_bytes: int = 1024 * 1024
    pending_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers ``first..last`` (both included) will never come; ``count`` readings were in them, None unknown."""

    first: int
    last: int
    count: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Stat:
    """Figures for ``status``: numbers are sequence numbers, sizes bytes."""

    epoch: str
    watermark: int
    last_seq: int
    bytes_used: int
    cap_bytes: int
    segments: int
    lost_readings: int
    written_bytes: int

    @property
    def backlog(self) -> int:
        """Messages the cloud has not confirmed (gaps included)."""
        return max(0, self.last_seq - self.watermark)


class Spool:
    """A durable queue in one directory; one process, one thread.

    ``put`` gives out a number and remembers the message; ``commit`` makes all remembered messages durable.
    Nothing can be read, hence sent, before it is durable: a number is never used for two contents. With a
    ``thinner`` the oldest data are thinned before any are dropped.
    """

    def __init__(
        self, where: Path | Disk, settings: SpoolSettings = SpoolSettings(), thinner: Thinner | None = None
    ) -> None:
        self._disk: Disk = _real_disk(where) if isinstance(where, Path) else where
        self._settings = settings
        marks = Marks(self._disk)
        self.epoch = epoch_of(self._disk, (_DATA, _EVENT)) or marks.epoch or secrets.token_hex(8)
        self._marks = marks
        self._lanes = {
            prefix: Lane(self._disk, prefix, self.epoch, settings.segment_bytes) for prefix in (_DATA, _EVENT)
        }
        self.watermark = marks.watermark if marks.epoch == self.epoch else 0
        self._saved_mark = self.watermark
        self._next = max(self.watermark, *(lane.last_seq for lane in self._lanes.values())) + 1
        self._pending: dict[str, list[Item]] = {_DATA: [], _EVENT: []}
        self._gaps: list[Gap] = []
        self._settled: list[tuple[int, int]] = [(a, b) for a, b in self._lanes[_EVENT].notes.get("gaps", [])]
        if self._settled:
            self._next = max(self._next, self._settled[-1][1] + 1)
        self._lost = int(self._lanes[_EVENT].notes.get("lost", 0))
        self._thinner, self._thinning = thinner, Thinning(0, [])

    # -- writing ---------------------------------------------------------------------------------------

    def put(self, kind: Kind, payload: bytes, *, count: int = 1, note: Mapping[str, Any] | None = None) -> int:
        """Remember a message of ``count`` readings and return its number; durable only after ``commit``.

        ``note`` (small, JSON) is kept under the same checksum and comes back from ``notes`` after a restart.
        """
        lane = _DATA if kind is Kind.DATA else _EVENT
        seq, self._next = self._next, self._next + 1
        self._pending[lane].append(Item(seq, kind, count, payload, dict(note) if note else None))
        return seq

    def commit(self, now_ms: int = 0) -> int:
        """Make everything put so far durable; returns the highest durable number.

        Makes room by dropping the oldest data where the cap or the disk demands it. Raises ``SpoolError``
        (``disk_full``, ``disk_error``) when the disk refuses; nothing is forgotten, call again later.
        """
        self._write_pending(now_ms)
        if self._thinner is not None:
            self._thin_a_little(self._thinner, now_ms)
        self._enforce_cap(now_ms)
        return self._next - 1

    def _write_pending(self, now_ms: int) -> None:
        for prefix in (_EVENT, _DATA):
            while self._pending[prefix]:
                try:
                    self._lanes[prefix].write(self._pending[prefix], now_ms)
                except OSError as why:
                    self._make_room(why)
                    continue
                self._pending[prefix] = []

    def _make_room(self, why: OSError) -> None:
        if why.errno in {errno.ENOSPC, errno.EDQUOT} and self._lanes[_DATA].segments > 0:
            self._drop(_DATA, "disk_full")
            return
        self._bound_pending()
        code = "disk_full" if why.errno in {errno.ENOSPC, errno.EDQUOT} else "disk_error"
        raise SpoolError(code, f"spool cannot write: {why.strerror}") from why

    def _bound_pending(self) -> None:
        """Memory is bounded too: what cannot be written is given up oldest first, and reported."""
        waiting = self._pending[_DATA]
        while waiting and sum(len(item.payload) for item in waiting) > self._settings.pending_bytes:
            item = waiting.pop(0)
            self._report([Entry(item.seq, item.kind, item.count, 0, 0)], "disk_refuses")

    def _room_for_data(self) -> int:
        """Bytes the data lane may still take: nine tenths of the cap, less where events need more than theirs."""
        cap, used = self._settings.cap_bytes, self._lanes[_DATA].bytes_used
        return min(cap * (100 - _RESERVE) // 100, cap - self._lanes[_EVENT].bytes_used) - used

    def _thin_a_little(self, thinner: Thinner, now_ms: int) -> None:
        """While the last segments before the cap are filled, go through the oldest one."""
        lane = self._lanes[_DATA]
        if lane.segments <= _ROOM_SEGMENTS or self._room_for_data() > _ROOM_SEGMENTS * self._settings.segment_bytes:
            return
        if self._thinning.first != lane.first:
            waiting = [entry for entry in lane.oldest() if entry.seq > self.watermark]
            self._thinning = Thinning(lane.first, waiting)
        work = self._thinning
        if not work.worth:
            return
        self._put_again(work.step(thinner, [(entry, lane.load(entry).payload) for entry in work.few()]))
        if work.lost and not work.waiting:
            self._put_again(thinner.rest())
            self._write_pending(now_ms)
            if lane.first == work.first:  # a full disk may have taken it meanwhile
                self._drop(_DATA, "thinned")

    def _put_again(self, packs: list[tuple[bytes, int]]) -> None:
        for payload, count in packs:
            self.put(Kind.DATA, payload, count=count)

    def _enforce_cap(self, now_ms: int) -> None:
        cap = self._settings.cap_bytes
        data, events = self._lanes[_DATA], self._lanes[_EVENT]
        while data.segments > 1 and self._room_for_data() < 0:
            self._drop(_DATA, "cap")
        while events.segments > 1 and data.bytes_used + events.bytes_used > cap:
            self._drop(_EVENT, "cap")
        if self._settings.cap_days and now_ms:
            limit_ms = now_ms - int(self._settings.cap_days * 86_400_000)
            while data.segments > 1 and 0 < data.oldest_created_ms() < limit_ms:
                self._drop(_DATA, "age")

    def _drop(self, prefix: str, reason: str) -> None:
        self._save_mark()  # else a restart would report as lost what was merely trimmed
        first = self._lanes[prefix].first
        lost = [e for e in self._lanes[prefix].drop_oldest() if e.seq > self.watermark]
        if prefix == _DATA and self._thinner is not None and self._thinning.first == first:
            lost = self._thinning.really_lost(lost)
            self._put_again(self._thinner.rest())
        self._report(lost, reason)

    def _report(self, lost: list[Entry], reason: str) -> None:
        for run in _runs(lost):
            count = sum(entry.count for entry in run if entry.kind is Kind.DATA)
            self._lost += count
            self._gaps.append(Gap(run[0].seq, run[-1].seq, count, reason))
            self._settled = _merged([*self._settled, (run[0].seq, run[-1].seq)], self.watermark)

    # -- reading ---------------------------------------------------------------------------------------

    def read(self, after: int, *, events: bool, limit: int = 64) -> list[Item]:
        """Up to ``limit`` durable messages of one lane with numbers above ``after``, in order."""
        return list(_first(self._items(after, _EVENT if events else _DATA), limit))

    def _items(self, after: int, prefix: str) -> Iterator[Item]:
        lane = self._lanes[prefix]
        before = max(after, self.watermark)
        for entry in lane.after(before):
            if prefix == _DATA and entry.seq > before + 1:
                self._find_holes(before + 1, entry.seq - 1)
            before = entry.seq
            yield lane.load(entry)

    def _find_holes(self, first: int, last: int) -> None:
        """Numbers that neither lane holds, that no gap explains: damage ate them."""
        known = {item.seq for items in self._pending.values() for item in items}
        for entry in self._lanes[_EVENT].after(first - 1):
            if entry.seq > last:
                break
            known.add(entry.seq)
        at = first
        for a, b in [*((a, b) for a, b in self._settled if b >= first), (last + 1, last + 1)]:
            missing = [n for n in range(at, min(a, last + 1)) if n not in known]
            for run in _number_runs(missing):
                self._gaps.append(Gap(run[0], run[-1], None, "damaged"))
                self._settled = _merged([*self._settled, (run[0], run[-1])], self.watermark)
            at = max(at, b + 1)

    def take_gaps(self) -> list[Gap]:
        """Losses not reported yet. The caller puts one event each, with ``gap_note`` on the last."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def gap_note(self) -> dict[str, Any]:
        """What must be noted with the gap events, so that a restart does not report them again."""
        return {"gaps": [list(pair) for pair in self._settled], "lost": self._lost}

    @property
    def notes(self) -> dict[str, Any]:
        """The last durable values given as ``note``."""
        return {**self._lanes[_EVENT].notes, **self._lanes[_DATA].notes}

    # -- forgetting ------------------------------------------------------------------------------------

    def settle(self, epoch: str, watermark: int) -> bool:
        """Forget up to the cloud's watermark; False where it is not about this spool or says nothing new.

        Raises ``SpoolError`` where the disk refuses; the watermark then stays, and the next ack tries again.
        """
        if epoch != self.epoch or watermark <= self.watermark:
            return False
        if watermark >= self._next:
            self._renumber(watermark)
        self.watermark = watermark
        self._settled = _merged(self._settled, watermark)
        if any(lane.segments > 1 for lane in self._lanes.values()):
            self._save_mark()
            for lane in self._lanes.values():
                lane.trim(watermark)
        return True

    def _renumber(self, watermark: int) -> None:
        """The cloud knows numbers we have not given out: this spool is a restored copy, or lost its end.

        What we hold above our old watermark may stand under numbers that meant something else to the cloud, which
        would absorb it unread. So all of it goes out again under new numbers; readings it has already do no harm.
        """
        self.commit()
        after, last = self.watermark, self._next - 1
        self._next = watermark + 1
        while True:
            page = self.read(after, events=False) + self.read(after, events=True)
            page = sorted((item for item in page if item.seq <= last), key=lambda item: item.seq)[:64]
            if not page:
                return
            for item in page:
                self.put(item.kind, item.payload, count=item.count)
            self.commit()
            after = page[-1].seq

    def save_mark(self) -> None:
        """Write the watermark down; losing it only costs sending again. Call about once a minute and at the end."""
        self._save_mark()

    def _save_mark(self) -> None:
        if self._saved_mark == self.watermark:
            return
        try:
            self._marks.save(self.epoch, self.watermark)
        except OSError as why:
            raise SpoolError("disk_error", f"cannot write the watermark: {why.strerror}") from why
        self._saved_mark = self.watermark

    # -- looking ---------------------------------------------------------------------------------------

    def stat(self) -> Stat:
        """Figures as of now."""
        return Stat(
            epoch=self.epoch,
            watermark=self.watermark,
            last_seq=self._next - 1,
            bytes_used=sum(lane.bytes_used for lane in self._lanes.values()),
            cap_bytes=self._settings.cap_bytes,
            segments=sum(lane.segments for lane in self._lanes.values()),
            lost_readings=self._lost,
            written_bytes=getattr(self._disk, "written_bytes", 0),
        )

    @property
    def settled(self) -> bool:
        """Whether the cloud has confirmed everything that was ever put."""
        return self.watermark >= self._next - 1

    def close(self) -> None:
        """Commit, note the watermark, let go of the files."""
        try:
            self.commit()
            self._save_mark()
        finally:
            if isinstance(self._disk, RealDisk):
                self._disk.close()


def _real_disk(where: Path) -> RealDisk:
    try:
        disk = RealDisk(where)
        if not disk.lock():
            raise SpoolError("in_use", f"{where}: another process is using this spool")
    except OSError as why:
        raise SpoolError("disk_error", f"{where}: cannot open the spool: {why.strerror}") from why
    return disk


def _first(items: Iterator[Item], limit: int) -> Iterator[Item]:
    for _, item in zip(range(limit), items, strict=False):
        yield item


def _runs(entries: list[Entry]) -> list[list[Entry]]:
    """Entries cut where their numbers are not consecutive."""
    runs: list[list[Entry]] = []
    for entry in entries:
        if runs and runs[-1][-1].seq + 1 == entry.seq:
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return runs


def _number_runs(numbers: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _merged(pairs: list[tuple[int, int]], watermark: int) -> list[tuple[int, int]]:
    """Ranges sorted, joined where they touch, without those the watermark has passed."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(pair for pair in pairs if pair[1] > watermark):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined
