"""Many readers or one who changes the ground under them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

__all__ = ["Gate", "sync"]


class Gate:
    """Held by many together or by one alone; whoever wants it alone keeps new ones out until he is done."""

    def __init__(self) -> None:
        self._change = Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Be inside together with others."""
        with self._change:
            self._change.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._change:
                self._inside -= 1
                self._change.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be inside alone, once all others have left."""
        with self._change:
            self._change.wait_for(lambda: not self._closed)
            self._closed = True
            self._change.wait_for(lambda: self._inside == 0)
        try:
            yield
        finally:
            with self._change:
                self._closed = False
                self._change.notify_all()


def sync(path: Path) -> None:
    """Bring a file, or the names in a directory, down to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
