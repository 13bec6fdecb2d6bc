"""One log a year, chained: entry 0 of a new year's log is the last head of the old one.

A log that grows for ever can never be archived; a year's log can, and what it proved stays proven under its last
head. The chain of years cannot be cut, because the new year's first entry holds that head, signed.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from traceability import TraceError
from traceability.ledger import BadLedger, Ledger, Receipt
from traceability.notes import Note

TITLE: Final = "tianmai-shard@1"
_CHINA: Final = timezone(timedelta(hours=8))

OpenYear = Callable[[int], Ledger]
"""Opens, or founds, the ledger of a year."""


def year_of(time_ms: int) -> int:
    """The year (China's zone) whose log records at this time."""
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).astimezone(_CHINA).year


def begin_shard(shard: Ledger, last_head: str) -> Receipt:
    """Make the old log's last head entry 0 of a new log; the same again gives the same receipt.

    Raises `BadLedger` if the new log begins with something else: it was founded twice.
    """
    entry = f"{TITLE}\n{last_head}".encode()
    if shard.size and shard.entry(0) != entry:
        raise BadLedger(f"{shard.origin} does not begin with the last head of the log before it", code="broken_chain")
    return shard.append([entry])[0]


def previous_head(entry: bytes) -> Note | None:
    """The old log's last head in a log's entry 0, not yet verified; None where the log is the first of its kind."""
    title, _, note = entry.partition(b"\n")
    if title != TITLE.encode():
        return None
    try:
        return Note.parse(note.decode())
    except (TraceError, UnicodeDecodeError) as why:
        raise BadLedger(f"entry 0 holds no head: {why}", code="broken_chain") from why


class YearlyLedgers:
    """The ledger of the current year; at the first use in a new year the old one is closed for ever and linked."""

    def __init__(self, open_year: OpenYear, *, now_ms: int) -> None:
        self._open = open_year
        self._turn = threading.Lock()
        self._year = year_of(now_ms)
        self._ledger = open_year(self._year)
        if not self._ledger.size:  # the log is new, or a crash came between founding a year and linking it
            before = open_year(self._year - 1)
            if before.size:
                begin_shard(self._ledger, before.checkpoint())
            before.close()

    def at(self, now_ms: int) -> Ledger:
        """The ledger that records at this time. A clock that went back a little stays in the newer year."""
        with self._turn:
            year = year_of(now_ms)
            if year > self._year:
                last_head = self._ledger.checkpoint()
                following = self._open(year)
                begin_shard(following, last_head)
                self._ledger.close()
                self._year, self._ledger = year, following
            return self._ledger

    def close(self) -> None:
        """Close the current ledger."""
        self._ledger.close()
