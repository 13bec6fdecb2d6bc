"""One lane of the spool: a chain of segment files that only ever grows at its end and shrinks at its head."""

from __future__ import annotations

import bisect
import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.spool.segment import (
    HEADER_BYTES,
    RECORD_OVERHEAD,
    Entry,
    Header,
    Kind,
    decode_header,
    encode_record,
    scan,
    seed_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge.spool.disk import Disk


@dataclass(frozen=True, slots=True)
class Item:
    """A record about to be written, or one read back."""

    seq: int
    kind: Kind
    count: int
    payload: bytes
    note: dict[str, Any] | None = None


class Lane:
    """A segment chain named ``<prefix>-<first number in hex>.seg``.

    Reading shows only what a ``write`` that returned has made durable.
    """

    def __init__(self, disk: Disk, prefix: str, epoch: str, segment_bytes: int) -> None:
        self._disk, self._prefix, self._epoch, self._segment_bytes = disk, prefix, epoch, segment_bytes
        self._seed = seed_of(epoch)
        self.notes: dict[str, Any] = {}
        self._firsts = sorted(firsts_of(disk, prefix))
        self._sizes = {first: disk.size(self._name(first)) for first in self._firsts}
        self._active: list[Entry] | None = None  # entries of the last segment while it may still be written
        self._end = 0
        self._cached: tuple[int, list[Entry]] = (-1, [])
        self.last_seq = self._recover()

    def _recover(self) -> int:
        last = 0
        # Two suffice: a segment starts by repeating the notes, and it is made only after its forerunner is full.
        for first in self._firsts[-2:]:
            found = scan(self._disk.read(self._name(first)), self._seed)
            self.notes.update(found.notes)
            # Bytes that belong to no record may have been records, even sent ones: their numbers are not reused.
            eaten = 0 if found.clean else found.stray_bytes // RECORD_OVERHEAD + 1
            last = max(last, first - 1 + eaten, (found.entries[-1].seq if found.entries else 0) + eaten)
            if first == self._firsts[-1] and found.clean and found.entries:
                self._disk.sync(self._name(first))  # a kill may have come between write and sync
                self._active, self._end = found.entries, found.end
        return last

    @property
    def bytes_used(self) -> int:
        """Bytes of all segments, reserved ones included."""
        return sum(self._sizes.values())

    @property
    def segments(self) -> int:
        """How many files there are."""
        return len(self._firsts)

    @property
    def first(self) -> int:
        """The first number of the oldest segment; 0 where there is none."""
        return self._firsts[0] if self._firsts else 0

    def oldest(self) -> list[Entry]:
        """The entries of the oldest segment."""
        return list(self._entries(self._firsts[0])) if self._firsts else []

    def write(self, items: Sequence[Item], created_ms: int) -> None:
        """Make the items durable, in order. On ``OSError`` none counts as written and it may be called again."""
        try:
            self._write(items, created_ms)
        except OSError:
            self._abandon()
            raise

    def _write(self, items: Sequence[Item], created_ms: int) -> None:
        start, head = self._end, b""
        pieces = [encode_record(self._seed, i.seq, i.kind, i.count, i.payload, i.note) for i in items]
        notes = {**self.notes}
        for item in items:
            notes.update(item.note or {})
        if self._active is None or (self._active and start + sum(map(len, pieces)) > self._segment_bytes):
            self._begin(items[0].seq)
            start = 0
            head = Header(self._epoch, items[0].seq, created_ms).encode()
            if self.notes:
                head += encode_record(self._seed, items[0].seq, Kind.NOTE, 0, b"", self.notes)
        name, blob = self._name(self._firsts[-1]), head + b"".join(pieces)
        self._disk.write(name, start, blob)
        self._disk.sync(name)
        if start == 0:
            self._disk.sync_names()
        self._index(items, pieces, start + len(head))
        self._end = start + len(blob)
        self._sizes[self._firsts[-1]] = max(self._sizes[self._firsts[-1]], self._end)
        self.notes, self.last_seq = notes, items[-1].seq

    def _index(self, items: Sequence[Item], pieces: Sequence[bytes], at: int) -> None:
        assert self._active is not None  # noqa: S101 - `_begin` or `_recover` has set it
        for item, piece in zip(items, pieces, strict=True):
            at += len(piece)
            offset = at - len(item.payload)
            self._active.append(Entry(item.seq, item.kind, item.count, offset, len(item.payload)))

    def _begin(self, first: int) -> None:
        self.seal()
        self._disk.create(self._name(first), self._segment_bytes)
        if first not in self._sizes:
            bisect.insort(self._firsts, first)
        self._sizes[first] = self._segment_bytes
        self._active, self._end = [], 0

    def seal(self) -> None:
        """Write no more to the last segment and give back what it has reserved."""
        if self._active is None or not self._firsts:
            return
        first = self._firsts[-1]
        self._cached = (first, self._active)
        self._active = None
        self._disk.truncate(self._name(first), self._end)
        self._sizes[first] = self._end

    def _abandon(self) -> None:
        """After a failed write or sync nothing in the file's cache is to be trusted: go on in a new file."""
        if self._active is None:
            return
        first, entries, self._active = self._firsts[-1], self._active, None
        with contextlib.suppress(OSError):
            if entries:
                self._cached = (first, entries)
                self._disk.truncate(self._name(first), self._end)
                return
            self._disk.remove(self._name(first))
        if not entries:
            self._firsts.pop()
            self._sizes.pop(first)

    def after(self, seq: int) -> Iterator[Entry]:
        """Entries with a number above ``seq``, in order."""
        start = max(0, bisect.bisect_right(self._firsts, seq + 1) - 1)
        for first in self._firsts[start:]:
            entries = self._entries(first)
            for entry in entries[bisect.bisect_right(entries, seq, key=_seq) :]:
                # After a failed sync the same record may stand in two segments.
                if entry.seq > seq:
                    seq = entry.seq
                    yield entry

    def load(self, entry: Entry) -> Item:
        """The record of an entry that ``after`` gave."""
        first = self._firsts[bisect.bisect_right(self._firsts, entry.seq) - 1]
        payload = self._disk.read_at(self._name(first), entry.offset, entry.length)
        return Item(entry.seq, entry.kind, entry.count, payload)

    def trim(self, watermark: int) -> int:
        """Forget segments that lie wholly at or below the watermark; the last one always stays."""
        gone = 0
        while len(self._firsts) > 1 and self._firsts[1] - 1 <= watermark:
            self._remove_first()
            gone += 1
        return gone

    def drop_oldest(self) -> list[Entry]:
        """Give up the oldest segment, the one being written last of all; its entries are what was lost."""
        if len(self._firsts) == 1:
            self.seal()
        lost = self.oldest()
        if self._firsts:
            self._remove_first()
        return lost

    def oldest_created_ms(self) -> int:
        """When the oldest segment was begun (UTC ms); 0 where unknown."""
        if not self._firsts:
            return 0
        header = decode_header(self._disk.read_at(self._name(self._firsts[0]), 0, HEADER_BYTES))
        return header.created_ms if header else 0

    def _remove_first(self) -> None:
        first = self._firsts[0]
        self._disk.remove(self._name(first))
        del self._firsts[0]
        self._sizes.pop(first)

    def _entries(self, first: int) -> list[Entry]:
        if self._active is not None and first == self._firsts[-1]:
            return self._active
        if self._cached[0] != first:
            self._cached = (first, scan(self._disk.read(self._name(first)), self._seed).entries)
        return self._cached[1]

    def _name(self, first: int) -> str:
        return f"{self._prefix}-{first:016x}.seg"


def _seq(entry: Entry) -> int:
    return entry.seq


def firsts_of(disk: Disk, prefix: str) -> list[int]:
    """The first numbers of a lane's segments, from their names."""
    pattern = re.compile(re.escape(prefix) + r"-([0-9a-f]{16})\.seg")
    return [int(found.group(1), 16) for name in disk.names() if (found := pattern.fullmatch(name))]


def epoch_of(disk: Disk, prefixes: Sequence[str]) -> str | None:
    """The epoch written in the youngest readable segment header, if any."""
    for prefix in prefixes:
        for first in sorted(firsts_of(disk, prefix), reverse=True):
            header = decode_header(disk.read_at(f"{prefix}-{first:016x}.seg", 0, HEADER_BYTES))
            if header is not None:
                return header.epoch
    return None
