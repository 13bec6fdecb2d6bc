"""The tree as values: codes, spans of validity, successions, and the closure they imply. No database here.

**Codes.** GB/T 2260 for city and county (6 digits), GB/T 10114 for town (9) and village (12), then a local grid suffix
`G01` and micro-grid `M01`. A list that pads codes with zeros to 12 digits means the shorter code.

**Days** are ISO text, so that they sort and compare as they are. A span is half open: the first day counts, the end
does not. `FIRST` and `LAST` stand for "always was" and "still is".

**Afterwards.** Records keep the code they were written under. When a code ends, what was written under it belongs to
its successor from that day on; without a named successor to whoever then holds its parent. An office whose code has
ended holds nothing any more, not even its own past.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cloud.problems import Invalid

__all__ = ["FIRST", "LAST", "Edge", "Level", "Region", "Succession", "closure", "level_of", "normal_code"]

FIRST: Final = "0001-01-01"
LAST: Final = "9999-12-31"

_CODE = re.compile(r"(?P<digits>[0-9]{6}(?:[0-9]{3}(?:[0-9]{3})?)?)(?P<grid>G[0-9]{2,4})?(?P<micro>M[0-9]{2,4})?")
_BY_LENGTH: Final = {9: "township", 12: "village"}


class Level(StrEnum):
    """How far down the tree a region stands."""

    CITY = "city"
    DISTRICT = "district"
    TOWNSHIP = "township"
    VILLAGE = "village"
    GRID = "grid"
    MICRO_GRID = "micro_grid"


@dataclass(frozen=True, slots=True)
class Region:
    """One code during one span of days. `parent` is None for the root."""

    code: str
    name_zh: str
    level: Level
    parent: str | None
    valid_from: str = FIRST
    valid_to: str = LAST


@dataclass(frozen=True, slots=True)
class Succession:
    """From `on`, what was written under `old` belongs to `new`."""

    old: str
    new: str
    on: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """`ancestor` holds `descendant` (itself at depth 0) from `valid_from` until before `valid_to`."""

    ancestor: str
    descendant: str
    depth: int
    valid_from: str
    valid_to: str


def normal_code(text: str) -> str:
    """The code without padding zeros. Raises `Invalid` for what is no code at all."""
    code = text.strip()
    if len(code) == 12 and code.isdigit():  # noqa: PLR2004 - the length of a padded code
        code = code[:6] if code.endswith("000000") else code[:9] if code.endswith("000") else code
    if not code.isascii() or not _CODE.fullmatch(code):
        raise Invalid(f"region code {text!r}: expected 6, 9 or 12 digits, then G.. and M.. for grids")
    return code


def level_of(code: str) -> Level:
    """The level that a normal code has by its form."""
    found = _CODE.fullmatch(code)
    if found is None:
        raise Invalid(f"region code {code!r} is not in normal form")
    if found["micro"]:
        return Level.MICRO_GRID
    if found["grid"]:
        return Level.GRID
    digits = found["digits"]
    if len(digits) in _BY_LENGTH:
        return Level(_BY_LENGTH[len(digits)])
    return Level.CITY if digits.endswith("00") else Level.DISTRICT


def closure(regions: Iterable[Region], successions: Iterable[Succession]) -> Iterator[Edge]:
    """Every edge that the regions and successions imply, joined where spans meet.

    Raises `Invalid` when a region is its own ancestor or its own successor's successor.
    """
    yield from _Closure(regions, successions).edges()


# (ancestor, depth) -> spans
_Reach = dict[tuple[str, int], list[tuple[str, str]]]


class _Closure:
    def __init__(self, regions: Iterable[Region], successions: Iterable[Succession]) -> None:
        self._spans: dict[str, list[Region]] = {}
        for region in regions:
            self._spans.setdefault(region.code, []).append(region)
        self._heirs: dict[str, list[Succession]] = {}
        for step in successions:
            if step.old != step.new:
                self._heirs.setdefault(step.old, []).append(step)
        self._done: dict[str, _Reach] = {}
        self._open: list[str] = []

    def edges(self) -> Iterator[Edge]:
        for code in self._spans:
            for (ancestor, depth), spans in self._reach(code).items():
                for start, end in spans:
                    yield Edge(ancestor, code, depth, start, end)

    def _reach(self, code: str) -> _Reach:
        if code in self._done:
            return self._done[code]
        if code in self._open:
            raise Invalid(f"region {code} would lie inside itself: {' > '.join([*self._open, code])}")
        self._open.append(code)
        reach: _Reach = {}
        for region in self._spans.get(code, ()):
            _add(reach, (code, 0), region.valid_from, region.valid_to)
            if region.parent is not None:
                self._climb(reach, region.parent, region.valid_from, region.valid_to)
        for heir, since in self._afterwards(code):
            self._climb(reach, heir, since, LAST)
        self._open.pop()
        self._done[code] = {key: _joined(spans) for key, spans in reach.items()}
        return self._done[code]

    def _afterwards(self, code: str) -> Iterator[tuple[str, str]]:
        last = max(self._spans.get(code, ()), key=lambda region: region.valid_to, default=None)
        if last is None or last.valid_to == LAST:
            return
        heirs = [step for step in self._heirs.get(code, ()) if step.new in self._spans]
        yield from ((step.new, max(step.on, last.valid_to)) for step in heirs)
        if not heirs and last.parent is not None:
            yield last.parent, last.valid_to

    def _climb(self, reach: _Reach, holder: str, start: str, end: str) -> None:
        """Take over what `holder` is held by during [start, end)."""
        for (ancestor, depth), spans in self._reach(holder).items():
            for first, last in spans:
                _add(reach, (ancestor, depth + 1), max(first, start), min(last, end))


def _add(reach: _Reach, key: tuple[str, int], start: str, end: str) -> None:
    if start < end:
        reach.setdefault(key, []).append((start, end))


def _joined(spans: list[tuple[str, str]]) -> list[tuple[str, str]]:
    joined: list[tuple[str, str]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
