"""A disk in memory that can lose power, fill up, fail and rot: for tests of whatever must survive that.

What was written and not synced may, after a cut, be there, be missing, be torn in the middle, or be there while an
earlier write is not. A name created or removed and not synced may be as before. This is harsher than any one
real file system, and exactly what the :class:`~edge.spool.disk.Disk` promises allow.
"""

from __future__ import annotations

import errno
import random


class PowerCut(Exception):
    """The power went; only what was durable (and some of the rest) is left."""


class FaultyDisk:
    """A directory in memory.

    ``fuel`` is the number of changing operations until the power goes (None = never), ``capacity`` the bytes all
    files may reserve, ``fault`` an errno that every change fails with (e.g. ``EROFS``) until it is cleared.
    """

    def __init__(self, *, fuel: int | None = None, capacity: int | None = None) -> None:
        self.fuel, self.capacity, self.fault = fuel, capacity, 0
        self.written_bytes = 0
        self._files: dict[str, bytearray] = {}  # as the running program sees them
        self._synced: dict[str, bytes] = {}  # content that survives, by name
        self._named: set[str] = set()  # names that survive
        self._loose: dict[str, list[tuple[int, bytes]]] = {}  # writes since the last sync of the file
        self.operations = 0

    def after_cut(self, seed: int) -> FaultyDisk:
        """What a reboot finds: the durable part and a random selection of the rest."""
        luck, found = random.Random(seed), FaultyDisk(capacity=self.capacity)  # noqa: S311
        for name in sorted(set(self._files) | self._named):
            kept = name in self._named or luck.random() < 0.5  # noqa: PLR2004 - a coin
            gone = name not in self._files and luck.random() < 0.5  # noqa: PLR2004 - removed, maybe durably
            if kept and not gone:
                found._put(name, self._survivors(name, luck))
        return found

    def _survivors(self, name: str, luck: random.Random) -> bytes:
        content = bytearray(self._synced.get(name, b""))
        loose = list(self._loose.get(name, []))
        luck.shuffle(loose)
        for offset, data in loose:
            fate = luck.choice(("kept", "lost", "torn"))
            if fate == "lost":
                continue
            start, stop = (0, len(data)) if fate == "kept" else sorted(luck.choices(range(len(data) + 1), k=2))
            _write(content, offset + start, data[start:stop])
        return bytes(content)

    def _put(self, name: str, content: bytes) -> None:
        self._files[name], self._synced[name] = bytearray(content), content
        self._named.add(name)

    def flip(self, name: str, offset: int, mask: int) -> None:
        """Let a stored byte rot."""
        self._files[name][offset] ^= mask
        self._synced[name] = bytes(self._files[name])

    def _change(self) -> None:
        self.operations += 1
        if self.fault:
            raise OSError(self.fault, "injected fault")
        if self.fuel is not None:
            if self.fuel <= 0:
                raise PowerCut
            self.fuel -= 1

    def _claim(self, extra: int) -> None:
        if self.capacity is not None and sum(map(len, self._files.values())) + extra > self.capacity:
            raise OSError(errno.ENOSPC, "disk full")

    def names(self) -> list[str]:
        """The files there are."""
        return list(self._files)

    def read(self, name: str) -> bytes:
        """The whole file."""
        return bytes(self._files[name])

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """A part of the file."""
        return bytes(self._files[name][offset : offset + length])

    def create(self, name: str, reserve: int) -> None:
        """An empty file."""
        self._change()
        self._claim(reserve - len(self._files.get(name, b"")))
        self._files[name], self._loose[name] = bytearray(reserve), []
        self._synced[name] = b""

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Not durable before ``sync``; a cut in the middle leaves it to luck."""
        try:
            self._change()
        except PowerCut:
            self._loose.setdefault(name, []).append((offset, data))
            raise
        self._claim(max(0, offset + len(data) - len(self._files[name])))
        _write(self._files[name], offset, data)
        self._loose.setdefault(name, []).append((offset, data))
        self.written_bytes += len(data)

    def sync(self, name: str) -> None:
        """Durable when this returns."""
        self._change()
        self._synced[name], self._loose[name] = bytes(self._files[name]), []

    def truncate(self, name: str, length: int) -> None:
        """Cut or extend; taken as durable at once, which only makes later writes harder to excuse."""
        self._change()
        content = self._files[name]
        self._files[name] = content[:length].ljust(length, b"\0")
        self._synced[name] = self._synced.get(name, b"")[:length]

    def remove(self, name: str) -> None:
        """Forget the file; the name may come back until ``sync_names``."""
        self._change()
        self._files.pop(name, None)

    def sync_names(self) -> None:
        """Names are as now."""
        self._change()
        self._named = set(self._files)

    def size(self, name: str) -> int:
        """Bytes in the file."""
        return len(self._files[name])

    def free_bytes(self) -> int:
        """What is left of ``capacity``."""
        return 2**40 if self.capacity is None else self.capacity - sum(map(len, self._files.values()))


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
