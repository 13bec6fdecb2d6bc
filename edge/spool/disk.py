"""The few things the spool asks of a file system, behind a Protocol so that a test can cut the power.

The promises that matter: ``write`` may be lost, reordered or torn until ``sync`` of that file returned, and a
new or removed name may be undone until ``sync_names`` returned.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """One flat directory of files. All methods raise ``OSError``."""

    def names(self) -> list[str]:
        """The files there are."""

    def read(self, name: str) -> bytes:
        """The whole file."""

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """A part of the file; shorter at its end."""

    def create(self, name: str, reserve: int) -> None:
        """An empty file (an old one of that name is emptied) with ``reserve`` bytes promised by the disk."""

    def write(self, name: str, offset: int, data: bytes) -> None:
        """All of the data at the offset; not durable before ``sync``."""

    def sync(self, name: str) -> None:
        """What was written to this file is durable when this returns."""

    def truncate(self, name: str, length: int) -> None:
        """Cut or extend (with zeros) to the length."""

    def remove(self, name: str) -> None:
        """Forget the file."""

    def sync_names(self) -> None:
        """Created and removed names are durable when this returns."""

    def size(self, name: str) -> int:
        """Bytes in the file."""

    def free_bytes(self) -> int:
        """What the file system can still take."""


class RealDisk:
    """A directory of the operating system; keeps descriptors open until ``close``."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._open: dict[str, int] = {}
        self._lock = -1
        self.written_bytes = 0

    def names(self) -> list[str]:
        """The files there are."""
        return [entry.name for entry in os.scandir(self._directory) if entry.is_file()]

    def read(self, name: str) -> bytes:
        """The whole file."""
        return (self._directory / name).read_bytes()

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """A part of the file."""
        return os.pread(self._descriptor(name), length, offset)

    def create(self, name: str, reserve: int) -> None:
        """An empty file with ``reserve`` bytes promised by the disk."""
        self._forget(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(self._directory / name, flags, 0o600)
        self._open[name] = descriptor
        if reserve:
            try:
                os.posix_fallocate(descriptor, 0, reserve)
            except OSError:
                self.remove(name)
                raise

    def write(self, name: str, offset: int, data: bytes) -> None:
        """All of the data at the offset."""
        descriptor, view = self._descriptor(name), memoryview(data)
        while view:
            done = os.pwrite(descriptor, view, offset)
            self.written_bytes += done
            view, offset = view[done:], offset + done

    def sync(self, name: str) -> None:
        """Durable when this returns."""
        os.fdatasync(self._descriptor(name))

    def truncate(self, name: str, length: int) -> None:
        """Cut or extend to the length."""
        os.ftruncate(self._descriptor(name), length)

    def remove(self, name: str) -> None:
        """Forget the file."""
        self._forget(name)
        (self._directory / name).unlink(missing_ok=True)

    def sync_names(self) -> None:
        """Names are durable when this returns."""
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def size(self, name: str) -> int:
        """Bytes in the file."""
        return (self._directory / name).stat().st_size

    def free_bytes(self) -> int:
        """What the file system can still take."""
        room = os.statvfs(self._directory)
        return room.f_bavail * room.f_frsize

    def lock(self) -> bool:
        """Claim the directory for this process until ``close``; False where another one holds it."""
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = -1
        return self._lock >= 0

    def close(self) -> None:
        """Close all descriptors."""
        for name in list(self._open):
            self._forget(name)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _descriptor(self, name: str) -> int:
        if name not in self._open:
            if len(self._open) > 16:  # noqa: PLR2004 - a few segments are read at a time
                self._forget(next(iter(self._open)))
            self._open[name] = os.open(self._directory / name, os.O_RDWR | os.O_CLOEXEC)
        return self._open[name]

    def _forget(self, name: str) -> None:
        if (descriptor := self._open.pop(name, None)) is not None:
            os.close(descriptor)
