"""Which numbers of a sequence are accounted for, as few ranges as possible.

A gateway numbers its packs 1, 2, 3, ... within an epoch; they arrive in any order and more than once. What the cloud
must answer is "known already?", "complete up to where?" (the watermark) and "what is missing?" (the gaps). All three
fall out of a sorted list of closed ranges, which for a healthy gateway is one range however long it lives.
"""

from bisect import bisect_right

__all__ = ["Spans"]


class Spans:
    """A set of positive integers kept as sorted, disjoint, non-touching closed ranges."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, *ranges: tuple[int, int]) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def ranges(self) -> list[tuple[int, int]]:
        """The ranges in rising order."""
        return list(zip(self._firsts, self._lasts, strict=True))

    def copy(self) -> "Spans":
        """An independent copy."""
        twin = Spans()
        twin._firsts = list(self._firsts)
        twin._lasts = list(self._lasts)
        return twin

    def add(self, first: int, last: int | None = None) -> None:
        """Account for `first..last` (one number when `last` is left out), merging what then touches."""
        last = first if last is None else last
        low = bisect_right(self._firsts, first)
        if low and self._lasts[low - 1] >= first - 1:
            low -= 1
            first = self._firsts[low]
        high = low
        while high < len(self._firsts) and self._firsts[high] <= last + 1:
            last = max(last, self._lasts[high])
            high += 1
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    @property
    def watermark(self) -> int:
        """The largest w such that every one of 1..w is accounted for; 0 where 1 itself is not."""
        return self._lasts[0] if self._firsts and self._firsts[0] == 1 else 0

    @property
    def highest(self) -> int:
        """The largest number seen; 0 where none was."""
        return self._lasts[-1] if self._lasts else 0

    def gaps(self) -> list[tuple[int, int]]:
        """What is missing below the largest number seen, as closed ranges."""
        edges = [0, *self._lasts]
        return [(edges[n] + 1, first - 1) for n, first in enumerate(self._firsts) if first > edges[n] + 1]
