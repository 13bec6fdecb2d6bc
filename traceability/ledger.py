"""The ledger: entries go in, each with a receipt that anybody can check, and none ever changes.

    ledger = open_ledger(Path("var/ledger"), load_key(Path("var/log.key")))
    (receipt,) = ledger.append([leaf.entry])
    proof = ledger.prove(receipt.index)

Order is everything. A group of waiting callers goes into the journal with one sync; then the tree grows, full and
partial tiles and entry bundles are written, one checkpoint is signed for the group, the head is replaced, and only
then are the callers answered. A crash or a failed write at any line leaves a journal that is as long as the tree, or
longer: the next commit, or the next opening, takes up what is missing. What the signed head covers and the journal
lacks means that somebody put an old journal back, and the ledger does not open.

The same entry twice has one index: capture is idempotent by leaf hash.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Self

from traceability import TraceError
from traceability.keys import SigningKey
from traceability.merkle import consistency_proof, leaf_hash, right_edge
from traceability.notes import Checkpoint, Note
from traceability.stores import (
    Batch,
    DirectoryEntries,
    DirectoryTiles,
    EntryStore,
    FileHead,
    HeadStore,
    Stored,
    StoreError,
    TileStore,
)
from traceability.tiles import (
    HEIGHT,
    TILE_BYTES,
    WIDTH,
    BadTile,
    Growth,
    TileReader,
    growth_at,
    pack_bundle,
    stored_tiles,
    tile_name,
    unfold,
)

GROUP_ENTRIES: Final = 500
_KEEP_TILES: Final = 6_000  # unfolded, 16 kB each: a million entries and their upper levels
_READ_AHEAD: Final = 4_096


class BadLedger(TraceError):
    """Journal, tiles and signed head do not belong together."""

    default_code = "bad_ledger"


@dataclass(frozen=True)
class Receipt:
    """An entry's place, for ever; `checkpoint` is the first signed head seen that covers it."""

    index: int
    leaf: bytes
    checkpoint: str = field(compare=False)


@dataclass(frozen=True)
class Proof:
    """That an entry stands at `index` in the tree of `size`."""

    index: int
    size: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True)
class _Head:
    """One moment of the log: its tree, and the note that says so."""

    growth: Growth
    note: str | None
    tail: bytes  # the unfinished entry bundle


_EMPTY: Final = _Head(Growth(), None, b"")


@dataclass(frozen=True)
class _Request:
    batch: Batch
    answer: "Future[tuple[Receipt, ...]]"


class Ledger:
    """One append-only log with one writer; reading is safe from any thread."""

    def __init__(
        self, entries: EntryStore, tiles: TileStore, head: HeadStore, key: SigningKey, *, origin: str | None = None
    ) -> None:
        """Open the log of these stores, and take up what a crash left unfinished.

        `key` signs checkpoints; `origin` names the log (default: the key's name). Raises `BadLedger` when the stores
        contradict the signed head.
        """
        self.origin = origin or key.verifier.name
        self._entries, self._tiles, self._head_store, self._key = entries, tiles, head, key
        self._reader = TileReader(self._load_tile, keep=_KEEP_TILES)
        self._edge = lru_cache(maxsize=64)(lambda size: right_edge(size, self._reader.node(size)))
        self._head = _EMPTY
        self._head = self._reopen()
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._writer: threading.Thread | None = None
        self._start = threading.Lock()
        self._closed = False
        self._take_up()

    # -- writing ---------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[bytes], *, companion: object = None) -> tuple[Receipt, ...]:
        """Put entries into the log and wait until they are durable and provable; receipts in their order.

        Callers of the same moment share one sync and one checkpoint. Entries of one call stand or fall together, with
        `companion`, what a relational journal writes beside them. Raises what the journal raised; then nothing of this
        call is in the log, or repeating the call finds it there.
        """
        return self.submit(entries, companion=companion).result()

    def submit(self, entries: Sequence[bytes], *, companion: object = None) -> "Future[tuple[Receipt, ...]]":
        """As `append`, without waiting."""
        answer: Future[tuple[Receipt, ...]] = Future()
        with self._start:
            if self._closed:
                raise BadLedger("the ledger is closed")
            if self._writer is None:
                self._writer = threading.Thread(target=self._serve, name=f"ledger {self.origin}", daemon=True)
                self._writer.start()
            self._queue.put(_Request(Batch(tuple(entries), companion), answer))
        return answer

    def close(self) -> None:
        """Finish what was submitted, then end."""
        with self._start:
            self._closed = True
            self._queue.put(None)
        if self._writer is not None:
            self._writer.join()
        self._entries.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        open_ = True
        while open_:
            group = [self._queue.get()]
            held = 0
            while group[-1] is not None and (held := held + len(group[-1].batch.entries)) < GROUP_ENTRIES:
                try:
                    group.append(self._queue.get_nowait())
                except Empty:
                    break
            open_ = group[-1] is not None
            self._answer([request for request in group if request is not None])

    def _answer(self, group: Sequence[_Request]) -> None:
        try:
            stored = self._commit([request.batch for request in group]) if group else []
        except Exception as why:  # noqa: BLE001  whatever it is, it belongs to the callers, and the writer lives on
            for request in group:
                request.answer.set_exception(why)
            return
        note = self._head.note or ""
        for request, places in zip(group, stored, strict=True):
            if isinstance(places, TraceError):
                request.answer.set_exception(places)
            else:
                found = zip(places, request.batch.entries, strict=True)
                request.answer.set_result(tuple(Receipt(place, leaf_hash(entry), note) for place, entry in found))

    def _commit(self, batches: Sequence[Batch]) -> Sequence[Stored]:
        if self._entries.count() != self._head.growth.size:
            self._take_up()  # a write failed after the journal had it
        stored = self._entries.append(batches)
        fresh: dict[int, bytes] = {}
        size = self._head.growth.size
        for batch, places in zip(batches, stored, strict=True):
            if not isinstance(places, TraceError):
                fresh.update(
                    (place, entry) for place, entry in zip(places, batch.entries, strict=True) if place >= size
                )
        if fresh or self._head.note is None:
            self._publish([fresh[place] for place in sorted(fresh)])
        return stored

    def _take_up(self) -> None:
        """Bring tree, tiles and head up to the journal."""
        count = self._entries.count()
        if count < self._head.growth.size:
            raise BadLedger(f"the journal holds {count} entries, the signed head covers {self._head.growth.size}")
        while self._head.growth.size < count:
            start = self._head.growth.size
            self._publish(self._entries.read(start, min(count, start + _READ_AHEAD)))
        if self._head.note is None:
            self._publish([])

    def _publish(self, entries: Sequence[bytes]) -> None:
        before = self._head
        growth, finished = before.growth.grown([leaf_hash(entry) for entry in entries])
        tail = self._write_bundles(before.growth.size, before.tail, entries)
        for level, number, tile in finished:
            self._tiles.write(tile_name(level, number), tile)
        for level, number, tile in growth.partial_tiles():
            if level >= len(before.growth.edges) or before.growth.edges[level] != tile:
                self._tiles.write(tile_name(level, number, len(tile) // 32), tile)
        note = Checkpoint(self.origin, growth.size, growth.root).sign(self._key).whole
        self._replace_head(before.note, note)
        self._head = _Head(growth, note, tail)
        for level, number, _ in finished:  # readers of the new head need only the full ones
            self._tiles.drop(f"{tile_name(level, number)}.p")
            if level == 0:
                self._tiles.drop(f"{tile_name('entries', number)}.p")

    def _replace_head(self, old: str | None, new: str) -> None:
        try:
            self._head_store.replace(old, new)
        except StoreError:
            if self._head_store.read() != new:  # it may have failed after the deed
                raise

    def _write_bundles(self, size: int, tail: bytes, entries: Sequence[bytes]) -> bytes:
        """Write the bundles that `entries` fill or begin, after an unfinished one; returns the new unfinished one."""
        at = 0
        while at < len(entries):
            held = (size + at) % WIDTH
            taken = entries[at : at + WIDTH - held]
            width = held + len(taken)
            tail += pack_bundle(taken)
            self._tiles.write(tile_name("entries", (size + at) // WIDTH, width), tail)
            at += len(taken)
            tail = b"" if width == WIDTH else tail
        return tail

    # -- reading ---------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of entries under the signed head."""
        return self._head.growth.size

    def checkpoint(self) -> str:
        """The newest signed head, a C2SP checkpoint."""
        return self._head.note or ""

    def entry(self, index: int) -> bytes:
        """Entry number `index`."""
        if not 0 <= index < self.size:
            raise BadLedger(f"no entry {index} in a log of {self.size}", code="no_such_entry")
        return self._entries.read(index, index + 1)[0]

    def prove(self, index: int, size: int | None = None) -> Proof:
        """Inclusion proof of entry `index` in the tree of `size` entries (default: of the newest head)."""
        whole = self._head.growth.size
        size = self._within(whole if size is None else size, whole)
        if not 0 <= index < size:
            raise BadLedger(f"no entry {index} in a tree of {size}", code="no_such_entry")
        return Proof(index, size, self._reader.inclusion_proof(index, size, self._edge(size)))

    def consistency(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """Proof that the tree of `new` entries (default: of the newest head) begins with the tree of `old`."""
        whole = self._head.growth.size
        new = self._within(whole if new is None else new, whole)
        self._within(old, new)
        return consistency_proof(old, new, self._reader.node(whole), edge=self._edge(new))

    @staticmethod
    def _within(size: int, whole: int) -> int:
        if not 0 <= size <= whole:
            raise BadLedger(f"no tree of {size} entries in a log of {whole}", code="no_such_tree")
        return size

    def _load_tile(self, level: int, number: int, width: int) -> bytes:
        """Hashes of a tile; a missing or cut one is made anew from below, in the end from the journal."""
        growth = self._head.growth
        unfinished = (growth.size >> HEIGHT * level) >> HEIGHT
        if number == unfinished and level < len(growth.edges):
            held: bytes = growth.edges[level][: width * 32]
            return held
        data = self._tiles.read(tile_name(level, number))
        if data is not None and len(data) == TILE_BYTES:
            return data
        below = range(number * WIDTH, (number + 1) * WIDTH)
        if level == 0:
            data = b"".join(map(leaf_hash, self._entries.read(below.start, below.stop)))
        else:
            data = b"".join(unfold(self._load_tile(level - 1, each, WIDTH))[HEIGHT] for each in below)
        self._tiles.write(tile_name(level, number), data)
        return data

    def _reopen(self) -> _Head:
        note = self._head_store.read()
        if note is None:
            return _EMPTY
        checkpoint = _own_checkpoint(note, self.origin, self._key)
        size, count = checkpoint.size, self._entries.count()
        if count < size:
            raise BadLedger(
                f"the journal holds {count} entries, the signed head covers {size}: an older journal was put back",
                code="rolled_back",
            )
        growth = self._grown_from_tiles(size) or self._grown_from_journal(size)
        if growth.root != checkpoint.root:
            growth = self._grown_from_journal(size)
        if growth.root != checkpoint.root:
            raise BadLedger(
                f"the first {size} entries of the journal are not those the signed head covers", code="forged"
            )
        return _Head(growth, note, pack_bundle(self._entries.read(size - size % WIDTH, size)))

    def _grown_from_tiles(self, size: int) -> Growth | None:
        try:
            return growth_at(size, stored_tiles(self._tiles.read, size))
        except BadTile:
            return None

    def _grown_from_journal(self, size: int) -> Growth:
        self._head, growth, tail = _EMPTY, Growth(), b""
        self._reader = TileReader(self._load_tile, keep=_KEEP_TILES)  # what it kept may be what does not fit
        while growth.size < size:
            entries = self._entries.read(growth.size, min(size, growth.size + _READ_AHEAD))
            tail = self._write_bundles(growth.size, tail, entries)
            growth, finished = growth.grown([leaf_hash(entry) for entry in entries])
            for level, number, tile in finished:
                self._tiles.write(tile_name(level, number), tile)
        for level, number, tile in growth.partial_tiles():
            self._tiles.write(tile_name(level, number, len(tile) // 32), tile)
        return growth


def open_ledger(folder: Path, key: SigningKey, *, origin: str | None = None) -> Ledger:
    """A ledger in a folder: ``journal`` for itself, ``public/`` to be served as static files (C2SP tlog-tiles)."""
    public = folder / "public"
    tiles = DirectoryTiles(public)
    entries = DirectoryEntries(folder / "journal")
    try:
        return Ledger(entries, tiles, FileHead(public / "checkpoint"), key, origin=origin)
    except TraceError:
        entries.close()
        raise


def _own_checkpoint(note: str, origin: str, key: SigningKey) -> Checkpoint:
    try:
        parsed = Note.parse(note)
        signed = parsed.signed_by([key.verifier])
        checkpoint = Checkpoint.parse(parsed.text)
    except TraceError as why:
        raise BadLedger(f"the head is damaged: {why}", code="forged") from why
    if not signed:
        raise BadLedger(f"the head is not signed by {key.verifier.name}", code="forged")
    if checkpoint.origin != origin:
        raise BadLedger(f"the head is of the log {checkpoint.origin!r}, not {origin!r}")
    return checkpoint


__all__ = ["BadLedger", "Ledger", "Proof", "Receipt", "StoreError", "open_ledger"]
