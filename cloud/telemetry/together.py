"""One answer for all who ask the same thing at the same time."""

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar

__all__ = ["Together"]

T = TypeVar("T")


class Together:
    """Heavy questions, `at_once` of them at a time.

    Twenty screens that show one page ask one question twenty times; more of them at once than there are processors only
    makes each slower. Whoever asks what is already waiting for its turn shares that answer. What has begun is not
    shared any more: every answer is of a moment after it was asked for.
    """

    def __init__(self, at_once: int = 2) -> None:
        self._turns = BoundedSemaphore(at_once)
        self._lock = Lock()
        self._waiting: dict[Hashable, Future[Any]] = {}

    def ask(self, key: Hashable, answer: Callable[[], T]) -> T:
        """The answer, or the exception it raised. Equal keys must mean equal questions."""
        with self._lock:
            held = self._waiting.get(key)
            mine: Future[Any] = held or self._waiting.setdefault(key, Future())
        if held is None:
            with self._turns:
                with self._lock:
                    del self._waiting[key]
                try:
                    mine.set_result(answer())
                except Exception as why:  # noqa: BLE001 - whatever it is, all who asked are told
                    mine.set_exception(why)
        found: T = mine.result()
        return found
