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

import contextlib
import threading
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
from traceability.publishing import Head, Publisher
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
    FullTile,
    Growth,
    TileReader,
    growth_at,
    stored_tiles,
    tile_name,
    unfold,
)

GROUP_ENTRIES: Final = 500
_KEEP_TILES: Final = 6_000  # unfolded, 16 kB each: a million entries and their upper levels
_READ_AHEAD: Final = 4_096
_RETRY_S: Final = 1.0  # a disk that has just failed is not asked at once


class BadLedger(TraceError):
    """Journal, tiles and signed head do not belong together."""

    default_code = "bad_ledger"


@dataclass(frozen=True)
class Receipt:
    """An entry's index in its log, for ever; `checkpoint` is the first signed head seen that covers it.

    `place` is where it stands in the journal, which may hold other logs before this one.
    """

    index: int
    leaf: bytes
    checkpoint: str = field(compare=False)
    place: int


@dataclass(frozen=True)
class Proof:
    """That an entry stands at `index` in the tree of `size`."""

    index: int
    size: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True)
class _Request:
    batch: Batch
    answer: "Future[tuple[Receipt, ...]]"


class Ledger:
    """One append-only log with one writer; reading is safe from any thread."""

    def __init__(  # noqa: PLR0913 - three stores, a key, and how it works
        self,
        entries: EntryStore,
        tiles: TileStore,
        head: HeadStore,
        key: SigningKey,
        *,
        origin: str | None = None,
        former: Sequence[VerifierKey] = (),
        publish_every_s: float = 0.0,
        retry_s: float = _RETRY_S,
        first: int = 0,
    ) -> None:
        """Open the log of these stores, and take up what a crash left unfinished.

        `key` signs heads; `origin` names the log (default: the key's name); a head that one of the `former` keys
        signed is signed anew (see `key_lists`). With `publish_every_s` above 0 callers are
        answered before the files are written, which happens at most that often; a head that cannot be written then is
        tried again after `retry_s`, and told by `trouble`. `first` is the place of entry 0 in a journal that holds
        other logs before this one (`shards`); `entries` is this log's part of it. Raises `BadLedger` when the stores
        contradict the published head.
        """
        self.origin = origin or key.verifier.name
        self.trouble: TraceError | None = None
        self._entries, self._tiles, self._head_store, self._key = entries, tiles, head, key
        self._former = tuple(former)
        self._reader = TileReader(self._load_tile, keep=_KEEP_TILES)
        self._edge = lru_cache(maxsize=64)(lambda size: right_edge(size, self._reader.node(size)))
        self._pause_s, self._retry_s, self._first = publish_every_s, retry_s, first
        self._uncertain = False  # whether the journal may hold more than the tree
        self._head = Head(Growth(), None)
        self._publisher = Publisher(entries, tiles, head)
        self._reopen()
        self._take_up()
        self._publisher.publish()
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._start = threading.Lock()
        self._closed = False
        self._grew, self._ended = threading.Event(), threading.Event()

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
            if not self._threads:
                work = [self._serve, self._show] if self._pause_s else [self._serve]
                name = f"ledger {self.origin}"
                self._threads = [threading.Thread(target=each, name=name, daemon=True) for each in work]
                for thread in self._threads:
                    thread.start()
            self._queue.put(_Request(Batch(tuple(entries), companion), answer))
        return answer

    def close(self) -> None:
        """Finish what was submitted, then end."""
        with self._start:
            self._closed = True
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._entries.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        open_ = True
        while open_:
            group = self._next_group()
            open_ = None not in group
            requests = [request for request in group if request is not None]
            if requests:
                self._answer(requests)
                self._grew.set()
        self._ended.set()
        self._grew.set()

    def _next_group(self) -> list[_Request | None]:
        """Whoever waits, up to `GROUP_ENTRIES`; None in it means the end."""
        group = [self._queue.get()]
        held = 0
        with contextlib.suppress(Empty):
            while group[-1] is not None and (held := held + len(group[-1].batch.entries)) < GROUP_ENTRIES:
                group.append(self._queue.get_nowait())
        return group

    def _show(self) -> None:
        """Write the files at intervals, in a thread of its own: nobody who waits for his receipt waits for them."""
        while not self._ended.is_set():
            self._grew.wait()
            self._grew.clear()
            self._publish_later()
            while self.trouble is not None and not isinstance(self.trouble, Conflict) and not self._ended.is_set():
                self._ended.wait(max(self._pause_s, self._retry_s))
                self._publish_later()
            self._ended.wait(self._pause_s)
        if not isinstance(self.trouble, Conflict):
            self._publish_later()

    def _answer(self, group: Sequence[_Request]) -> None:
        try:
            stored = self._commit([request.batch for request in group])
            if not self._pause_s:
                self._publisher.publish()
        except Exception as why:  # noqa: BLE001  whatever it is, it belongs to the callers, and the writer lives on
            for request in group:
                request.answer.set_exception(why)
            return
        note, first = self._head.note or "", self._first
        for request, indexes in zip(group, stored, strict=True):
            if isinstance(indexes, TraceError):
                request.answer.set_exception(indexes)
            else:
                found = zip(indexes, request.batch.leaves, strict=True)
                request.answer.set_result(tuple(Receipt(index, leaf, note, first + index) for index, leaf in found))

    def _commit(self, batches: Sequence[Batch]) -> Sequence[Stored]:
        if isinstance(self.trouble, Conflict):
            raise self.trouble  # another writer: whatever is added here could contradict what it signs
        if self._uncertain:
            self._take_up()  # a write failed after the journal had it
        self._uncertain = True
        stored = self._entries.append(batches)
        fresh: dict[int, tuple[bytes, bytes]] = {}
        size = self._head.growth.size
        for batch, places in zip(batches, stored, strict=True):
            if not isinstance(places, TraceError):
                pairs = zip(batch.entries, batch.leaves, strict=True)
                fresh |= {at: pair for at, pair in zip(places, pairs, strict=True) if at >= size}
        if sorted(fresh) == list(range(size, size + len(fresh))):
            if fresh:
                ordered = [fresh[place] for place in range(size, size + len(fresh))]
                self._grow([entry for entry, _ in ordered], [leaf for _, leaf in ordered])
        else:
            self._take_up()  # the journal held more than we knew of
        self._uncertain = False
        return stored

    def _grow(self, entries: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        growth, finished = self._head.growth.grown(leaves)
        self._head = Head(growth, Checkpoint(self.origin, growth.size, growth.root).sign(self._key).whole)
        self._publisher.grew(self._head, entries, finished)

    def _take_up(self) -> None:
        """Let the tree grow to the length of the journal."""
        count = self._entries.count()
        if count < self._head.growth.size:
            raise BadLedger(f"the journal holds {count} entries, the signed head covers {self._head.growth.size}")
        while self._head.growth.size < count:
            start = self._head.growth.size
            entries = self._entries.read(start, min(count, start + _READ_AHEAD))
            self._grow(entries, list(map(leaf_hash, entries)))
        if self._head.note is None:
            self._grow([], [])

    def _publish_later(self) -> None:
        try:
            self._publisher.publish()
        except TraceError as why:
            self.trouble = why  # the next time round tries again
        else:
            self.trouble = None

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
            self._begin(checkpoint, Head(growth, note), Head(growth, note))
            return
        growth, finished = self._grown_from_journal(size)
        if growth.root != checkpoint.root:
            raise BadLedger(
                f"the first {size} entries of the journal are not those the signed head covers", code="forged"
            )
        self._begin(checkpoint, Head(growth, note), Head(Growth(), note), finished)  # every file is written anew

    def _begin(self, checkpoint: Checkpoint, head: Head, shown: Head, finished: Sequence[FullTile] = ()) -> None:
        signed = checkpoint.sign(self._key).whole
        # Ed25519 signs the same text always alike: another signature is a former key's.
        self._head = head if signed == head.note else Head(head.growth, signed)
        self._publisher.begin(self._head, self._head if shown == self._head else shown, finished)

    def _grown_from_tiles(self, size: int) -> Growth | None:
        try:
            return growth_at(size, stored_tiles(self._tiles.read, size))
        except BadTile:
            return None

    def _grown_from_journal(self, size: int) -> tuple[Growth, list[FullTile]]:
        growth, finished = Growth(), []
        while growth.size < size:
            entries = self._entries.read(growth.size, min(size, growth.size + _READ_AHEAD))
            growth, full = growth.grown([leaf_hash(entry) for entry in entries])
            finished += full
        return growth, finished


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
