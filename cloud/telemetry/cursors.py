"""Where a page ends and the next begins, as an opaque text: `next` of one answer is `before` of the next question.

Each names the last row that was shown by what the rows are sorted by, so that rows that come meanwhile move nothing.
"""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from cloud.problems import Invalid
from cloud.telemetry.schemas import ConflictView, DeadLetterView, EventView, Page

__all__ = ["after_conflict", "after_event", "after_letter", "conflict_cursor", "event_cursor", "letter_cursor", "paged"]

Row = TypeVar("Row")
_NUMBER = r"(-?\d{1,18})"
_LETTER = re.compile(rf"{_NUMBER}\.([0-9a-f]{{64}})\Z", re.ASCII)
_EVENT = re.compile(rf"{_NUMBER}\.{_NUMBER}\.([0-9a-f]{{1,32}})\.([a-z0-9-]{{1,36}})\Z", re.ASCII)
_CONFLICT = re.compile(rf"{_NUMBER}\.(\d{{1,9}})\Z", re.ASCII)


def paged(rows: Sequence[Row], limit: int, cursor: Callable[[Sequence[Row]], str]) -> Page[Row]:
    """The first `limit` of `rows`, which were asked for with one more to see whether there is a next page."""
    shown = list(rows[:limit])
    return Page(items=shown, next=cursor(shown) if len(rows) > limit else None)


def letter_cursor(shown: Sequence[DeadLetterView]) -> str:
    """The place after the last of these dead letters."""
    return f"{shown[-1].last_ms}.{shown[-1].digest}"


def after_letter(text: str) -> tuple[int, str]:
    """Time it last came and digest. Raises `Invalid`."""
    last_ms, digest = _read(_LETTER, text)
    return int(last_ms), digest


def event_cursor(shown: Sequence[EventView]) -> str:
    """The place after the last of these events."""
    one = shown[-1]
    return f"{one.time_ms}.{one.seq}.{one.epoch}.{one.gateway}"


def after_event(text: str) -> tuple[int, int, str, str]:
    """Time, number, epoch and gateway. Raises `Invalid`."""
    time_ms, seq, epoch, gateway = _read(_EVENT, text)
    return int(time_ms), int(seq), epoch, gateway


def conflict_cursor(before: str | None, shown: Sequence[ConflictView]) -> str:
    """The place after the last of these conflicts, on the page that begins at `before`.

    A store names no conflict: so many of one moment have been shown.
    """
    last_ms = shown[-1].received_ms
    upto_ms, skip = after_conflict(before)
    return f"{last_ms}.{sum(one.received_ms == last_ms for one in shown) + (skip if upto_ms == last_ms else 0)}"


def after_conflict(text: str | None) -> tuple[int | None, int]:
    """Time of receipt to begin at, and how many of that time to leave out. Raises `Invalid`."""
    if text is None:
        return None, 0
    upto_ms, skip = _read(_CONFLICT, text)
    return int(upto_ms), int(skip)


def _read(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = pattern.match(text)
    if found is None:
        raise Invalid("`before` is the `next` of the page before, or left away", code="bad_cursor", pointer="/before")
    return found.groups()
