"""One log a year over one journal, chained: entry 0 of a year's log is the last head of the log before it.

A log that grows for ever can never be archived; a year's log can, and what it proved stays proven under its last head.
The journal keeps its one line of places. A year's log, a *shard*, is a range of them with an origin, a head and tiles
of its own, and counts its entries from 0. The first shard has the log's plain name, a later one the year behind it:

    trace.example/log        trace.example/log/2027        trace.example/log/2028

The turn of a year is one write: the entry that holds the old log's last head goes into the journal together with the
note that a year begins there. Before it the old year is open, after it it is closed for ever; a crash leaves one or the
other, and heads and tiles are made anew from the journal. A year cannot be dropped, because the next one's first entry
names it with its size and root.
"""

import re
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, Protocol

from traceability import TraceError
from traceability.ledger import BadLedger, Ledger
from traceability.notes import Note
from traceability.stores import Batch, Conflict, EntryStore, Stored, StoreError

TITLE: Final = "tianmai-shard@1"
_CHINA: Final = timezone(timedelta(hours=8))
_NAME: Final = re.compile(r"[0-9]{4}")
_CLOSED_AT_ONCE: Final = 4  # each remembers the tiles it was asked for


def year_of(time_ms: int) -> int:
    """The year (China's zone) whose log records at this time."""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).astimezone(_CHINA).year


def _begin_ms(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=_CHINA).timestamp() * 1000)


# -- names -------------------------------------------------------------------------------------------------------------


def shard_origin(log: str, name: str) -> str:
    """Origin of a log's shard by its name: the year, or nothing for the first."""
    return f"{log}/{name}" if name else log


def shard_name(origin: str, log: str) -> str | None:
    """Name of the shard of `log` that has this origin, which is also its folder beside the first one's files.

    None where it is no shard of it.
    """
    if origin == log:
        return ""
    start, _, name = origin.rpartition("/")
    return name if start == log and _NAME.fullmatch(name) else None


# -- the joint ---------------------------------------------------------------------------------------------------------


def joint(last_head: str) -> bytes:
    """Entry 0 of a year's log: the last head of the log before it."""
    return f"{TITLE}\n{last_head}".encode()


def previous_head(entry: bytes) -> Note | None:
    """The old log's last head in a log's entry 0, not yet verified; None where the log is the first of its kind."""
    title, _, note = entry.partition(b"\n")
    if title != TITLE.encode():
        return None
    try:
        return Note.parse(note.decode())
    except (TraceError, UnicodeDecodeError) as why:
        raise BadLedger(f"entry 0 holds no head: {why}", code="broken_chain") from why


# -- the journal's parts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """A shard's part of the journal: places from `first` to `end` - 1, up to the newest while `end` is None."""

    year: int
    first: int
    end: int | None = None
    name: str = ""

    def of(self, entries: EntryStore) -> EntryStore:
        """This part as a journal of its own."""
        return entries if self.first == 0 and self.end is None else Slice(entries, self.first, self.end)


def spans_of(begun: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
    """Shards of a journal in which years begin at these places, oldest first; none where no year has begun."""
    if not begun:
        return ()
    ends = [*(first for _, first in begun[1:]), None]
    named = ["", *(f"{year:04d}" for year, _ in begun[1:])]
    return tuple(Span(*each, end, name) for each, end, name in zip(begun, ends, named, strict=True))


class Years(Protocol):
    """Where in a journal its years begin; kept with the journal, in its transactions."""

    def begun(self) -> Sequence[tuple[int, int]]:
        """Each year that has begun, with the place of its first entry; oldest first."""
        ...

    def begin(self, year: int, first: int, entry: bytes | None) -> None:
        """A year begins at `first` with this entry, both durable in one step; without one the journal's own beginning.

        Raises `Conflict` unless `first` is the journal's next place.
        """
        ...


class MemoryYears:
    """Years of a journal in memory."""

    def __init__(self, entries: EntryStore) -> None:
        self._entries = entries
        self._begun: list[tuple[int, int]] = []

    def begun(self) -> Sequence[tuple[int, int]]:
        """See `Years`."""
        return tuple(self._begun)

    def begin(self, year: int, first: int, entry: bytes | None) -> None:
        """See `Years`."""
        if entry is not None:
            if self._entries.count() != first:
                raise Conflict(f"the journal's next place is {self._entries.count()}, not {first}")
            self._entries.append([Batch((entry,))])
        self._begun.append((year, first))


class Slice:
    """A range of another journal as an `EntryStore` that counts from 0; with an `end` nothing can be added.

    An entry that stands before the range already is not stored again: its index is negative.
    """

    def __init__(self, entries: EntryStore, first: int, end: int | None = None) -> None:
        self._entries, self._first, self._end = entries, first, end

    def append(self, batches: Sequence[Batch]) -> Sequence[Stored]:
        """See `EntryStore`."""
        if self._end is not None:
            raise StoreError("the year is over: its log is closed", code="closed")
        first = self._first
        stored = self._entries.append(batches)
        return [each if isinstance(each, TraceError) else tuple(place - first for place in each) for each in stored]

    def count(self) -> int:
        """See `EntryStore`."""
        whole = self._entries.count()
        return max(0, (whole if self._end is None else min(whole, self._end)) - self._first)

    def read(self, start: int, stop: int) -> Sequence[bytes]:
        """See `EntryStore`."""
        if not 0 <= start <= stop or (self._end is not None and self._first + stop > self._end):
            raise StoreError(f"no entries {start} to {stop} in this part of the journal")
        return self._entries.read(self._first + start, self._first + stop)

    def close(self) -> None:
        """See `EntryStore`; the journal belongs to whoever opened it."""


# -- the logs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shard:
    """One year's log, open."""

    span: Span
    ledger: Ledger


OpenShard = Callable[[Span, EntryStore], Ledger]
"""Opens, or founds, the ledger of a shard over its part of the journal."""


class YearlyLedgers:
    """The logs of one journal: the newest, which grows, and those before it, closed for ever.

    `at`, `reopen` and `close` are called by one thread at a time; the other doors are safe from any thread.
    """

    def __init__(self, entries: EntryStore, years: Years, open_shard: OpenShard, *, now_ms: int) -> None:
        self._entries, self._years, self._open_shard = entries, years, open_shard
        self._opening = threading.Lock()
        if not years.begun():  # a new journal, or one from before there were shards: its first year is the present one
            years.begin(year_of(now_ms), 0, None)
        self._settle()

    @property
    def spans(self) -> tuple[Span, ...]:
        """Every shard's part of the journal, oldest first."""
        return self._spans

    @property
    def newest(self) -> Shard:
        """The shard that grows."""
        return self._newest

    def at(self, now_ms: int) -> Shard:
        """The shard that records at this time; at its first use in a new year the old one is closed and linked.

        A clock that went back stays in the newer year. Whatever fails on the way is raised, nothing is half done, and
        the next call tries again.
        """
        if not self._settled:
            self._settle()
        if now_ms >= self._end_ms:
            self._turn(year_of(now_ms))
        return self._newest

    def holding(self, place: int) -> Shard:
        """The shard in which a place of the journal lies."""
        newest, spans = self._newest, self._spans
        if place >= newest.span.first:
            return newest
        return self.shard(spans[bisect_right([span.first for span in spans], place) - 1])

    def shard(self, span: Span) -> Shard:
        """A shard by its part of the journal; a closed one is opened when it is asked for, the last few stay open."""
        with self._opening:
            found = self._newest if span == self._newest.span else self._closed.pop(span, None)
            if found is None:
                found = Shard(span, self._open_shard(span, span.of(self._entries)))
            if span != self._newest.span:
                self._closed[span] = found
                if len(self._closed) > _CLOSED_AT_ONCE:
                    del self._closed[next(iter(self._closed))]
            return found

    def reopen(self) -> None:
        """Finish what was submitted, and open every shard anew (after a change of key)."""
        self._settled = False
        self._newest.ledger.close()
        self._settle()

    def close(self) -> None:
        """Finish what was submitted, then end."""
        self._newest.ledger.close()

    def _turn(self, year: int) -> None:
        self._settled = False
        self._newest.ledger.close()
        # Opened once more, the old log takes up what a failed write may have left in the journal: that is its own.
        last = replace(self._newest.span, end=self._entries.count())
        closed = self._open_shard(last, last.of(self._entries))
        self._years.begin(year, last.first + closed.size, joint(closed.checkpoint()))
        self._settle()

    def _settle(self) -> None:
        """Open the newest shard as the journal knows it."""
        spans = spans_of(self._years.begun())
        newest = Shard(spans[-1], self._open_shard(spans[-1], spans[-1].of(self._entries)))
        with self._opening:
            self._spans, self._newest = spans, newest
            self._closed: dict[Span, Shard] = {}  # the one asked for last stands last
        self._end_ms = _begin_ms(newest.span.year + 1)
        self._settled = True
