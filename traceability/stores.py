"""Where a ledger keeps itself: the journal of entries, the tiles, the signed head.

Three stores, because they promise different things. The *journal* is the truth: what it returned is on disk. *Tiles*
can be rebuilt from it at any time, so they are written atomically but need no sync. The *head* is the only thing
that changes, and it changes by comparison: who did not see the last head may not write the next. A relational
journal lives with the cloud; it writes the rows that belong to an entry (the event, its index) in the same
transaction, which is what `companion` is for.

The directory stores keep one file `journal` and, apart from it, a folder that any web server may hand out as it is. The
in-memory ones keep the same promises until the process ends.
"""

import fcntl
import os
import shutil
import struct
import threading
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol, Self

from traceability import TraceError
from traceability.merkle import leaf_hash
from traceability.packs import MAX_ENTRY_BYTES

_FRAME: Final = struct.Struct(">II")  # length and CRC-32 of what one call wrote
_LENGTH: Final = struct.Struct(">H")


class StoreError(TraceError):
    """The store cannot keep its promise; nothing was acknowledged."""

    default_code = "store"


class Conflict(StoreError):
    """Somebody else moved the head: two writers on one ledger."""

    default_code = "conflict"


@dataclass(frozen=True)
class Batch:
    """Entries that stand or fall together, and what a relational journal writes with them (None: nothing)."""

    entries: tuple[bytes, ...]
    companion: object = None

    @cached_property
    def leaves(self) -> tuple[bytes, ...]:
        """Leaf hash of each entry; journal, tree and receipts all need them."""
        return tuple(map(leaf_hash, self.entries))


Stored = tuple[int, ...] | TraceError
"""Index of each entry of a batch, or why the batch was refused."""


class EntryStore(Protocol):
    """The journal: entries in order, each once. The truth of the ledger."""

    def append(self, batches: Sequence[Batch]) -> Sequence[Stored]:
        """Store the batches with one sync; durable before it returns.

        New entries get the next indexes, in order and without gaps; an entry that is already stored (by leaf hash)
        keeps its index, in the same call too. A batch whose companion is refused leaves nothing behind and does not
        harm the others. An exception means that nothing is certain: the caller looks at `count` before it goes on.
        """
        ...

    def count(self) -> int:
        """Number of entries stored."""
        ...

    def read(self, start: int, stop: int) -> Sequence[bytes]:
        """Entries `start` to `stop` - 1; raises `StoreError` where one is missing or damaged, naming it."""
        ...

    def close(self) -> None:
        """Let go of the journal, so that another process may open it."""
        ...


class TileStore(Protocol):
    """Files by name whose content never changes. Losing one costs time, not truth."""

    def read(self, name: str) -> bytes | None:
        """Content, None if there is no such file."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Whole or not at all for every reader; on disk some time later."""
        ...

    def drop(self, folder: str) -> None:
        """Forget every file under `folder`; nothing happens if there is none."""
        ...


class HeadStore(Protocol):
    """Where the signed head lives: the only mutable thing in the ledger."""

    def read(self) -> str | None:
        """The head's note, None before the first."""
        ...

    def replace(self, old: str | None, new: str) -> None:
        """Whole or not at all; raises `Conflict` unless `old` is still the head."""
        ...


class MemoryEntries:
    """A journal that lasts as long as the process."""

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self._entries = list(entries)
        self._places = {leaf_hash(entry): index for index, entry in enumerate(self._entries)}

    def append(self, batches: Sequence[Batch]) -> list[Stored]:
        """See `EntryStore`; companions are refused."""
        return [self._append(batch) for batch in batches]

    def _append(self, batch: Batch) -> Stored:
        if refused := _refusal(batch):
            return refused
        for entry, leaf in zip(batch.entries, batch.leaves, strict=True):
            if self._places.setdefault(leaf, len(self._entries)) == len(self._entries):
                self._entries.append(entry)
        return tuple(self._places[leaf] for leaf in batch.leaves)

    def count(self) -> int:
        """See `EntryStore`."""
        return len(self._entries)

    def read(self, start: int, stop: int) -> list[bytes]:
        """See `EntryStore`."""
        if not 0 <= start <= stop <= len(self._entries):
            raise StoreError(f"no entries {start} to {stop} in a journal of {len(self._entries)}")
        return self._entries[start:stop]

    def close(self) -> None:
        """See `EntryStore`."""


class MemoryTiles:
    """Tiles that last as long as the process."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        """See `TileStore`."""
        return self.files.get(name)

    def write(self, name: str, data: bytes) -> None:
        """See `TileStore`."""
        self.files[name] = data

    def drop(self, folder: str) -> None:
        """See `TileStore`."""
        for name in [name for name in self.files if name.startswith(folder + "/")]:
            del self.files[name]


class MemoryHead:
    """A head that lasts as long as the process."""

    def __init__(self, note: str | None = None) -> None:
        self._note = note
        self._lock = threading.Lock()

    def read(self) -> str | None:
        """See `HeadStore`."""
        return self._note

    def replace(self, old: str | None, new: str) -> None:
        """See `HeadStore`."""
        with self._lock:
            if self._note != old:
                raise Conflict("the head was moved by another writer")
            self._note = new


class DirectoryEntries:
    """A journal in one file, synced once a call, one writer at a time.

    Each call writes one frame: length, CRC-32, then the entries with two bytes of length each. A torn last frame (power
    failed during the write) was never acknowledged: it is moved to a file beside the journal at opening. Damage
    before it is not cut but refused, with its place. After a failed write the journal refuses to go on until it is
    opened again, because the disk may hold what the program was told it does not.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._lock = threading.Lock()
        self._broken = False
        self._starts = array("Q")  # where each entry begins, and how long it is
        self._lengths = array("H")
        self._places: dict[bytes, int] = {}
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as why:
            os.close(self._file)
            raise Conflict(f"{path} is in use by another process") from why
        sync_folder(path.parent)
        try:
            self._end = self._scan()
        except StoreError:
            os.close(self._file)
            raise

    def close(self) -> None:
        """See `EntryStore`."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _scan(self) -> int:
        size, at = os.fstat(self._file).st_size, 0
        while at < size:
            head = os.pread(self._file, _FRAME.size, at)
            length, check = _FRAME.unpack(head) if len(head) == _FRAME.size else (size, 0)
            start, end = at + _FRAME.size, at + _FRAME.size + length
            frame = os.pread(self._file, length, start) if end <= size else b""
            if end > size or zlib.crc32(frame) != check:
                if end < size:
                    raise StoreError(
                        f"{self._path}: damaged at byte {at}, after entry {self.count() - 1}", code="damaged"
                    )
                self._set_aside(at, size)
                return at
            self._index(frame, start)
            at = end
        return at

    def _set_aside(self, at: int, size: int) -> None:
        aside = self._path.with_name(f"{self._path.name}.torn-{at}")
        replace_file(aside, os.pread(self._file, size - at, at), durable=True)
        os.ftruncate(self._file, at)
        os.fsync(self._file)

    def _index(self, frame: bytes, start: int) -> None:
        at = 0
        while at < len(frame):
            (length,) = _LENGTH.unpack_from(frame, at)
            at += _LENGTH.size
            self._places.setdefault(leaf_hash(frame[at : at + length]), self.count())
            self._starts.append(start + at)
            self._lengths.append(length)
            at += length

    def append(self, batches: Sequence[Batch]) -> list[Stored]:
        """See `EntryStore`; companions are refused."""
        with self._lock:
            if self._broken:
                raise StoreError(f"{self._path}: a write failed; open the journal again")
            fresh: dict[bytes, int] = {}
            written: list[bytes] = []
            results = [_refusal(batch) or self._place(batch, fresh, written) for batch in batches]
            if written:
                self._write(b"".join(_LENGTH.pack(len(entry)) + entry for entry in written))
            return results

    def _place(self, batch: Batch, fresh: dict[bytes, int], written: list[bytes]) -> Stored:
        places = []
        for entry, key in zip(batch.entries, batch.leaves, strict=True):
            place = self._places.get(key)
            if place is None:
                following = self.count() + len(written)
                place = fresh.setdefault(key, following)
                if place == following:
                    written.append(entry)
            places.append(place)
        return tuple(places)

    def _write(self, frame: bytes) -> None:
        self._broken = True  # until the sync has said otherwise
        data = _FRAME.pack(len(frame), zlib.crc32(frame)) + frame
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._file, data[done:], self._end + done)
            os.fdatasync(self._file)
        except OSError as why:
            raise StoreError(f"{self._path}: {why.strerror}") from why
        self._index(frame, self._end + _FRAME.size)
        self._end += len(data)
        self._broken = False

    def count(self) -> int:
        """See `EntryStore`."""
        return len(self._starts)

    def read(self, start: int, stop: int) -> list[bytes]:
        """See `EntryStore`."""
        if not 0 <= start <= stop <= self.count():
            raise StoreError(f"{self._path}: no entries {start} to {stop} in a journal of {self.count()}")
        return [self._entry(index) for index in range(start, stop)]

    def _entry(self, index: int) -> bytes:
        entry = os.pread(self._file, self._lengths[index], self._starts[index])
        if self._places.get(leaf_hash(entry)) != index:
            raise StoreError(f"{self._path}: entry {index} is damaged", code="damaged")
        return entry


class DirectoryTiles:
    """Tiles as files under a folder, ready to be served as they are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> bytes | None:
        """See `TileStore`."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """See `TileStore`."""
        replace_file(self._folder / name, data, durable=False)

    def drop(self, folder: str) -> None:
        """See `TileStore`."""
        shutil.rmtree(self._folder / folder, ignore_errors=True)


class FileHead:
    """The head in one file; `durable` syncs it, which a witness needs and a log with a journal does not."""

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self._path = path
        self._durable = durable
        self._lock = threading.Lock()

    def read(self) -> str | None:
        """See `HeadStore`; an empty file (a rename that outran its data) is no head."""
        try:
            return self._path.read_text("utf-8") or None
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as why:
            raise StoreError(f"{self._path} is damaged, it is not UTF-8: restore it from a copy of the log") from why

    def replace(self, old: str | None, new: str) -> None:
        """See `HeadStore`."""
        with self._lock:
            if self.read() != old:
                raise Conflict(f"{self._path} was moved by another writer")
            replace_file(self._path, new.encode(), durable=self._durable)


def replace_file(path: Path, data: bytes, *, durable: bool) -> None:
    """Put a file in place in one step: temporary file, sync, rename, sync the folder (the syncs only if `durable`)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        try:
            file = temporary.open("wb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("wb")
        with file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as why:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {why.strerror}") from why
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a file that no name leads to is lost."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refusal(batch: Batch) -> TraceError | None:
    if batch.companion is not None:
        return StoreError("this journal keeps entries only; what belongs to them needs a relational one")
    if any(not 0 < len(entry) <= MAX_ENTRY_BYTES for entry in batch.entries):
        return StoreError(f"an entry has 1 to {MAX_ENTRY_BYTES} bytes", code="bad_entry")
    return None
