"""Where received messages wait for the thread that stores them: bounded, and handed over by the batch."""

import time
from collections.abc import Sequence
from threading import Condition
from typing import Generic, TypeVar

__all__ = ["Inbox"]

T = TypeVar("T")


class Inbox(Generic[T]):
    """A bounded queue between a thread that receives and one that works through batches of at most `most`.

    The worker is woken when something comes to an empty queue and when a batch is full, not for every message.
    """

    def __init__(self, room: int, most: int) -> None:
        self._room = room
        self._most = most
        self._held: list[T] = []
        self._change = Condition()

    def __len__(self) -> int:
        return len(self._held)

    def put(self, some: Sequence[T], timeout_s: float) -> bool:
        """Add some, where there is room for one; False where there was none in all that time."""
        with self._change:
            if len(self._held) >= self._room and not self._change.wait_for(
                lambda: len(self._held) < self._room, timeout_s
            ):
                return False
            before = len(self._held)
            self._held += some
            if not before or before < self._most <= len(self._held):
                self._change.notify_all()
        return True

    def take(self, first_s: float, gather_s: float, lull_s: float) -> list[T]:
        """What comes within `gather_s` of the first; less where nothing came for `lull_s`, nothing after `first_s`."""
        with self._change:
            if not self._change.wait_for(lambda: self._held, first_s):
                return []
            until = time.monotonic() + gather_s
            seen = 0
            while seen < len(self._held) < self._most and (left := until - time.monotonic()) > 0:
                seen = len(self._held)
                self._change.wait(min(left, lull_s))
            batch, self._held = self._held[: self._most], self._held[self._most :]
            self._change.notify_all()
        return batch
