"""What readers see of a ledger: bringing tiles, entry bundles and the public checkpoint up to the newest head.

Files come first, the checkpoint last, so that every reader finds what the checkpoint promises. All of it can be made
again from the journal. One thread grows the tree and another may publish it; they meet here.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from traceability.merkle import HASH_BYTES
from traceability.stores import EntryStore, HeadStore, StoreError, TileStore
from traceability.tiles import WIDTH, FullTile, Growth, pack_bundle, tile_name

__all__ = ["Head", "Publisher"]

_KEEP_ENTRIES: Final = 16 * 1_024  # in memory until they are published; more than these are read back


@dataclass(frozen=True)
class Head:
    """One moment of the log: its tree, and the note that says so."""

    growth: Growth
    note: str | None


class Publisher:
    """The public files of one ledger. `grew` and `publish` may be called from different threads."""

    def __init__(self, entries: EntryStore, tiles: TileStore, head_store: HeadStore) -> None:
        self._entries, self._tiles, self._head_store = entries, tiles, head_store
        self._lock = threading.Lock()
        self._newest = self._shown = Head(Growth(), None)
        self._finished: list[FullTile] = []  # and not yet written
        self._recent: list[bytes] = []
        self._recent_from = 0

    def begin(self, newest: Head, shown: Head, finished: Sequence[FullTile] = ()) -> None:
        """Start from what is published already, and the full tiles that must be written all the same."""
        self._newest, self._shown, self._finished = newest, shown, list(finished)

    @property
    def done(self) -> bool:
        """Whether readers see the newest head."""
        return self._shown is self._newest

    def grew(self, head: Head, entries: Sequence[bytes], finished: Sequence[FullTile]) -> None:
        """The tree has grown by `entries` to `head`, and these tiles became full."""
        with self._lock:
            start = head.growth.size - len(entries)
            if self._recent_from + len(self._recent) != start or len(self._recent) > _KEEP_ENTRIES:
                self._recent, self._recent_from = [], start
            self._recent += entries
            self._finished += finished
            self._newest = head

    def publish(self) -> None:
        """Write everything up to the newest head. Raises what the stores raise; the next call takes all of it up."""
        with self._lock:
            before, head = self._shown, self._newest
            finished, self._finished = self._finished, []
        if before is head:
            return
        try:
            self._write_bundles(before.growth.size, head.growth.size)
            for level, number, tile in finished:
                self._tiles.write(tile_name(level, number), tile)
            for level, number, tile in head.growth.partial_tiles():
                if level >= len(before.growth.edges) or before.growth.edges[level] != tile:
                    self._tiles.write(tile_name(level, number, len(tile) // HASH_BYTES), tile)
            self._replace_head(before.note, head.note or "")
        except BaseException:
            with self._lock:
                self._finished[:0] = finished
            raise
        with self._lock:
            self._shown = head
            keep = max(0, head.growth.size - head.growth.size % WIDTH - self._recent_from)
            self._recent, self._recent_from = self._recent[keep:], self._recent_from + keep
        for level, number, _ in finished:  # readers of the new head need only the full ones
            self._tiles.drop(f"{tile_name(level, number)}.p")
            if level == 0:
                self._tiles.drop(f"{tile_name('entries', number)}.p")

    def _write_bundles(self, start: int, stop: int) -> None:
        for first in range(start - start % WIDTH, stop, WIDTH):
            entries = self._bundle(first, min(stop, first + WIDTH))
            self._tiles.write(tile_name("entries", first // WIDTH, len(entries)), pack_bundle(entries))

    def _bundle(self, first: int, stop: int) -> Sequence[bytes]:
        with self._lock:
            at = first - self._recent_from
            held = self._recent[at : at + stop - first] if at >= 0 else []
        return held if len(held) == stop - first else self._entries.read(first, stop)

    def _replace_head(self, old: str | None, new: str) -> None:
        try:
            self._head_store.replace(old, new)
        except StoreError:
            if self._head_store.read() != new:  # it may have failed after the deed
                raise
