"""One answer for all who ask the same thing at the same time."""

from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Condition
from typing import Any, TypeVar

__all__ = ["Together"]

T = TypeVar("T")


class Together:
    """Heavy questions, `at_once` of them at a time, and each of them once at a time.

    Twenty screens that show one page ask one question twenty times; more of them at once than there are processors only
    makes each slower, and two equal ones at once make both slower for one answer. Whoever asks what is already waiting
    for its turn shares that answer. What has begun is not shared any more: every answer is of a moment after it was
    asked for.
    """

    def __init__(self, at_once: int = 2) -> None:
        self._at_once = at_once
        self._changed = Condition()
        self._waiting: dict[Hashable, Future[Any]] = {}
        self._begun: set[Hashable] = set()

    def ask(self, key: Hashable, answer: Callable[[], T]) -> T:
        """The answer, or the exception it raised. Equal keys must mean equal questions."""
        with self._changed:
            held = self._waiting.get(key)
            mine: Future[Any] = held or self._waiting.setdefault(key, Future())
        if held is None:
            with self._turn(key):
                try:
                    mine.set_result(answer())
                except Exception as why:  # noqa: BLE001 - whatever it is, all who asked are told
                    mine.set_exception(why)
        found: T = mine.result()
        return found

    @contextmanager
    def _turn(self, key: Hashable) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: key not in self._begun and len(self._begun) < self._at_once)
            self._begun.add(key)
            del self._waiting[key]
        try:
            yield
        finally:
            with self._changed:
                self._begun.remove(key)
                self._changed.notify_all()
