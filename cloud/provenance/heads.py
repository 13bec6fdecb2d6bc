"""A log's newest head with the cosignatures that could be had."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from traceability.ledger import Ledger
from traceability.notes import Note
from traceability.witness import Cosigned, WitnessClient, cosign

__all__ = ["Heads"]

# A witness that did not answer is not asked again for the same head before this time is over.
PATIENCE_MS = 30_000


class Heads:
    """The heads of one log. What a witness remembers it remembers of one log, so each log has clients of its own."""

    def __init__(self, witnesses: Sequence[WitnessClient], clock: Callable[[], int]) -> None:
        self._witnesses = [replace(each, size=0) for each in witnesses]
        self._clock = clock
        self._asking = threading.Lock()
        self._last: Cosigned | None = None
        self._asked_ms = 0

    def newest(self, ledger: Ledger) -> Cosigned:
        """The newest head; witnesses are asked where it is new to them, or where they are asked in vain for a while."""
        newest = ledger.checkpoint()
        if not self._witnesses:
            return Cosigned(Note.parse(newest), {})
        with self._asking:
            last = self._last
            impatient = self._clock() - self._asked_ms >= PATIENCE_MS
            if last is None or not last.note.whole.startswith(newest) or (len(last.missing) > 0 and impatient):
                self._last = last = cosign(ledger, self._witnesses)
                self._asked_ms = self._clock()
            return last
