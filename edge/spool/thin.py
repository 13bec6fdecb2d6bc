"""Thinning the oldest segment instead of dropping it whole: a few messages at each commit, since control must not wait.

What is kept is put again, under new numbers at the end of the lane; only when it is durable there does the segment go.
A crash in between begins anew: the store absorbs what it then gets twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.spool.segment import Entry

_A_FEW = 16
_WORTH = 0.5  # a segment of which more than half would stay is not worth writing again


class Thinner(Protocol):
    """Knows what the messages mean, which the spool does not."""

    def take(self, payload: bytes) -> tuple[list[tuple[bytes, int]], int] | None:
        """Messages to keep instead, each with its count of readings, and the count left out; None: cannot tell."""

    def rest(self) -> list[tuple[bytes, int]]:
        """What was not given back yet."""


@dataclass(slots=True)
class Thinning:
    """How far one segment has come: ``first`` names it; ``lost`` is what each number of it no longer holds."""

    first: int
    waiting: list[Entry]
    lost: dict[int, int] = field(default_factory=dict)
    worth: bool = True

    def step(self, thinner: Thinner, payloads: Sequence[tuple[Entry, bytes]]) -> list[tuple[bytes, int]]:
        """Take these messages; what is to be put instead."""
        kept: list[tuple[bytes, int]] = []
        begun, taken, left_out = not self.lost, 0, 0
        for entry, payload in payloads:
            thinned = thinner.take(payload)
            packs, lost = ([], entry.count) if thinned is None else thinned
            kept += packs
            self.lost[entry.seq] = lost
            taken, left_out = taken + entry.count, left_out + lost
        if begun and left_out < _WORTH * taken:
            thinner.rest()
            self.worth, self.waiting, self.lost = False, [], {}
            return []
        return kept

    def few(self) -> list[Entry]:
        """The next entries to take."""
        now, self.waiting = self.waiting[:_A_FEW], self.waiting[_A_FEW:]
        return now

    def really_lost(self, entries: list[Entry]) -> list[Entry]:
        """The entries with the counts that nothing stands for any more."""
        return [replace(entry, count=self.lost.get(entry.seq, entry.count)) for entry in entries]
