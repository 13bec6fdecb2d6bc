"""The ledger: entries go in, each with a receipt that anybody can check, and none ever changes.

    ledger = open_ledger(Path("var/ledger"), load_key(Path("var/log.key")))
    (receipt,) = ledger.append([leaf.entry])
    proof = ledger.prove(receipt.index)

Order is everything. A group of waiting callers goes into the journal with one sync; the tree grows by it and one head
is signed; then the callers are answered. Tiles, entry bundles and the public checkpoint follow, before the answer or at
intervals (`publish_every_s`): they can be rebuilt from the journal at any time, so no promise hangs on them. A crash or
a failed write at any line leaves a journal that is as long as the tree, or longer: the next commit, or the next
opening, takes up what is missing. What the published head covers and the journal lacks means that somebody put an old
journal back, and the ledger does not open.

The same entry twice has one index: capture is idempotent by leaf hash.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Self

from traceability import TraceError
from traceability.keys import SigningKey, VerifierKey
from traceability.merkle import HASH_BYTES, consistency_proof, leaf_hash, right_edge
from traceability.notes import Checkpoint, Note
from traceability.stores import (
    Batch,
    Conflict,
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
_RETRY_S: Final = 1.0


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


_EMPTY: Final = _Head(Growth(), None)


@dataclass(frozen=True)
class _Request:
    batch: Batch
    answer: "Future[tuple[Receipt, ...]]"


class Ledger:
    """One append-only log with one writer; reading is safe from any thread."""

    def __init__(
        self,
        entries: EntryStore,
        tiles: TileStore,
        head: HeadStore,
        key: SigningKey,
        *,
        origin: str | None = None,
        former: Sequence[VerifierKey] = (),
        publish_every_s: float = 0.0,
    ) -> None:
        """Open the log of these stores, and take up what a crash left unfinished.

        `key` signs heads; `origin` names the log (default: the key's name); a head that one of the `former` keys
        signed is signed anew (see `key_lists`). With `publish_every_s` above 0 callers are
        answered before the files are written, which happens at most that often; a head that cannot be written then is
        tried again, and told by `trouble`. Raises `BadLedger` when the stores contradict the published head.
        """
        self.origin = origin or key.verifier.name
        self.trouble: TraceError | None = None
        self._entries, self._tiles, self._head_store, self._key = entries, tiles, head, key
        self._former = tuple(former)
        self._reader = TileReader(self._load_tile, keep=_KEEP_TILES)
        self._edge = lru_cache(maxsize=64)(lambda size: right_edge(size, self._reader.node(size)))
        self._pause_s = publish_every_s
        self._uncertain = False  # whether the journal may hold more than the tree
        self._head = self._shown = _EMPTY
        self._reopen()
        self._take_up()
        self._publish()
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._writer: threading.Thread | None = None
        self._start = threading.Lock()
        self._closed = False

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
        open_, due = True, 0.0
        while open_:
            group = self._next_group(due)
            open_ = None not in group
            requests = [request for request in group if request is not None]
            if requests:
                self._answer(requests)
            if time.monotonic() >= due or not open_:
                self._publish_later()
                due = time.monotonic() + (max(self._pause_s, _RETRY_S) if self.trouble else self._pause_s)

    def _next_group(self, due: float) -> list[_Request | None]:
        """Whoever waits, up to `GROUP_ENTRIES`; None in it means the end; nobody, when files are due to be written."""
        done = self._shown is self._head or isinstance(self.trouble, Conflict)
        waiting_s = None if done else max(0.0, due - time.monotonic())
        group: list[_Request | None] = []
        held = 0
        try:
            while held < GROUP_ENTRIES and None not in group:
                request = self._queue.get(timeout=0 if group else waiting_s)
                group.append(request)
                held += len(request.batch.entries) if request else 0
        except Empty:
            pass
        return group

    def _answer(self, group: Sequence[_Request]) -> None:
        try:
            stored = self._commit([request.batch for request in group])
            if not self._pause_s:
                self._publish()
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
        if isinstance(self.trouble, Conflict):
            raise self.trouble  # another writer: whatever is added here could contradict what it signs
        if self._uncertain:
            self._take_up()  # a write failed after the journal had it
        self._uncertain = True
        stored = self._entries.append(batches)
        fresh: dict[int, bytes] = {}
        size = self._head.growth.size
        for batch, places in zip(batches, stored, strict=True):
            if not isinstance(places, TraceError):
                fresh.update(
                    (place, entry) for place, entry in zip(places, batch.entries, strict=True) if place >= size
                )
        if sorted(fresh) == list(range(size, size + len(fresh))):
            if fresh:
                self._grow([fresh[place] for place in range(size, size + len(fresh))])
        else:
            self._take_up()  # the journal held more than we knew of
        self._uncertain = False
        return stored

    def _grow(self, entries: Sequence[bytes]) -> None:
        growth, _ = self._head.growth.grown([leaf_hash(entry) for entry in entries])
        self._head = _Head(growth, Checkpoint(self.origin, growth.size, growth.root).sign(self._key).whole)

    def _take_up(self) -> None:
        """Let the tree grow to the length of the journal."""
        count = self._entries.count()
        if count < self._head.growth.size:
            raise BadLedger(f"the journal holds {count} entries, the signed head covers {self._head.growth.size}")
        while self._head.growth.size < count:
            start = self._head.growth.size
            self._grow(self._entries.read(start, min(count, start + _READ_AHEAD)))
        if self._head.note is None:
            self._grow([])

    # -- publishing --------------------------------------------------------------------------------------------------

    def _publish_later(self) -> None:
        try:
            self._publish()
        except TraceError as why:
            self.trouble = why  # the next time round tries again

    def _publish(self) -> None:
        """Bring tiles, bundles and the public checkpoint up to the head."""
        before, head = self._shown, self._head
        if before is head:
            return
        finished = self._write_files(before.growth, head.growth.size)
        for level, number, tile in head.growth.partial_tiles():
            if level >= len(before.growth.edges) or before.growth.edges[level] != tile:
                self._tiles.write(tile_name(level, number, len(tile) // HASH_BYTES), tile)
        self._replace_head(before.note, head.note or "")
        self._shown, self.trouble = head, None
        for level, number in finished:  # readers of the new head need only the full ones
            self._tiles.drop(f"{tile_name(level, number)}.p")
            if level == 0:
                self._tiles.drop(f"{tile_name('entries', number)}.p")

    def _write_files(self, growth: Growth, stop: int) -> list[tuple[int, int]]:
        """Bundles and full tiles from a tree to the one of `stop` entries; (level, number) of the tiles."""
        written = []
        while growth.size < stop:
            first = growth.size - growth.size % WIDTH
            entries = self._entries.read(first, min(stop, first + WIDTH))
            self._tiles.write(tile_name("entries", first // WIDTH, len(entries)), pack_bundle(entries))
            growth, finished = growth.grown([leaf_hash(entry) for entry in entries[growth.size - first :]])
            for level, number, tile in finished:
                self._tiles.write(tile_name(level, number), tile)
                written.append((level, number))
        return written

    def _replace_head(self, old: str | None, new: str) -> None:
        try:
            self._head_store.replace(old, new)
        except StoreError:
            if self._head_store.read() != new:  # it may have failed after the deed
                raise

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
            held: bytes = growth.edges[level][: width * HASH_BYTES]
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

    def _reopen(self) -> None:
        note = self._head_store.read()
        if note is None:
            return
        checkpoint = _own_checkpoint(note, self.origin, (self._key.verifier, *self._former))
        size, count = checkpoint.size, self._entries.count()
        if count < size:
            raise BadLedger(
                f"the journal holds {count} entries, the signed head covers {size}: an older journal was put back",
                code="rolled_back",
            )
        growth = self._grown_from_tiles(size)
        if growth is not None and growth.root == checkpoint.root:
            self._head = self._shown = _Head(growth, note)
            self._sign_anew(checkpoint)
            return
        growth = self._grown_from_journal(size)
        if growth.root != checkpoint.root:
            raise BadLedger(
                f"the first {size} entries of the journal are not those the signed head covers", code="forged"
            )
        self._head, self._shown = _Head(growth, note), _Head(Growth(), note)  # every file is written anew
        self._sign_anew(checkpoint)

    def _sign_anew(self, checkpoint: Checkpoint) -> None:
        signed = checkpoint.sign(self._key).whole
        if signed != self._head.note:  # by a former key; Ed25519 signs the same text always alike
            self._head = _Head(self._head.growth, signed)

    def _grown_from_tiles(self, size: int) -> Growth | None:
        try:
            return growth_at(size, stored_tiles(self._tiles.read, size))
        except BadTile:
            return None

    def _grown_from_journal(self, size: int) -> Growth:
        growth = Growth()
        while growth.size < size:
            entries = self._entries.read(growth.size, min(size, growth.size + _READ_AHEAD))
            growth, _ = growth.grown([leaf_hash(entry) for entry in entries])
        return growth


def open_ledger(
    folder: Path,
    key: SigningKey,
    *,
    origin: str | None = None,
    former: Sequence[VerifierKey] = (),
    publish_every_s: float = 0.0,
) -> Ledger:
    """A ledger in a folder: ``journal`` for itself, ``public/`` to be served as static files (C2SP tlog-tiles)."""
    public = folder / "public"
    tiles = DirectoryTiles(public)
    entries = DirectoryEntries(folder / "journal")
    try:
        head = FileHead(public / "checkpoint")
        return Ledger(entries, tiles, head, key, origin=origin, former=former, publish_every_s=publish_every_s)
    except TraceError:
        entries.close()
        raise


def _own_checkpoint(note: str, origin: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    try:
        parsed = Note.parse(note)
        signed = parsed.signed_by(keys)
        checkpoint = Checkpoint.parse(parsed.text)
    except TraceError as why:
        raise BadLedger(f"the head is damaged: {why}", code="forged") from why
    if not signed:
        raise BadLedger(f"the head is not signed by {keys[0].name}", code="forged")
    if checkpoint.origin != origin:
        raise BadLedger(f"the head is of the log {checkpoint.origin!r}, not {origin!r}")
    return checkpoint


__all__ = ["BadLedger", "Ledger", "Proof", "Receipt", "StoreError", "open_ledger"]
