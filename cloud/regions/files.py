"""Reading administrative files and turning a state of the world into changes of the tree.

Two forms of CSV (UTF-8, header row):

* a **list**, `code,name_zh[,...],parent_code`: everything that stands below the parents it names on one day;
* **changes**, `year,type,old_code,old_name,new_code,new_name[,note]`: who became whom, known by the year only. In the
  year of a change both codes hold, because the source does not say the day.

A file is taken whole or not at all: half a tree would let people see what they should not.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cloud.problems import Invalid
from cloud.regions.tree import FIRST, LAST, Level, Region, Succession, level_of, normal_code

__all__ = ["Imported", "Tree", "apply_changes", "apply_list", "plant", "read_rows"]

Row = Mapping[str, str]
_CHANGE: Final = {"year", "type", "old_code", "old_name", "new_code", "new_name"}
_LIST: Final = {"code", "name_zh", "parent_code"}


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: numbers of codes."""

    kind: str
    opened: int = 0
    closed: int = 0
    renamed: int = 0
    linked: int = 0
    unchanged: int = 0


@dataclass(slots=True)
class Tree:
    """All spans and successions, to be changed by the functions below.

    `spoken` remembers the last day on which a list spoke for all regions of one level below one parent.
    """

    regions: list[Region]
    successions: list[Succession]
    spoken: dict[tuple[str, str], str]

    def starts(self) -> dict[str, str]:
        """The first day of every code."""
        first: dict[str, str] = {}
        for span in self.regions:
            first[span.code] = min(span.valid_from, first.get(span.code, LAST))
        return first

    def running(self, code: str) -> Region | None:
        """The span of this code that has no end yet."""
        return next((span for span in self.regions if span.code == code and span.valid_to == LAST), None)

    def swap(self, old: Region, *new: Region) -> None:
        """Replace one span by others."""
        self.regions.remove(old)
        self.regions.extend(new)

    def link(self, step: Succession) -> bool:
        """Note a succession; False when this pair was known already."""
        if any((known.old, known.new) == (step.old, step.new) for known in self.successions):
            return False
        self.successions.append(step)
        return True


def read_rows(path: Path) -> tuple[str, list[Row]]:
    """("list" | "changes", rows) of a CSV file. Raises `Invalid` naming file, line and fault."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = set(reader.fieldnames or ())
            rows: list[Row] = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    except OSError as why:
        raise Invalid(f"{path.name}: cannot be read ({why.strerror})") from why
    except (UnicodeDecodeError, csv.Error) as why:
        raise Invalid(f"{path.name}: cannot be read as UTF-8 CSV ({why})") from why
    kind = "changes" if header >= _CHANGE else "list" if header >= _LIST else None
    if kind is None:
        raise Invalid(f"{path.name}: columns {sorted(_LIST)} or {sorted(_CHANGE)} are needed, found {sorted(header)}")
    if not rows:
        raise Invalid(f"{path.name}: no rows below the header")
    return kind, rows


def plant(tree: Tree, rows: Sequence[Row], source: str) -> Imported:
    """Enter codes that always stood, without saying that there are no others."""
    listed = _listed(rows, tree, source)
    tree.regions.extend(listed.values())
    return Imported("starter", opened=len(listed))


def apply_list(tree: Tree, rows: Sequence[Row], day: str, source: str) -> Imported:
    """Make `tree` agree with a list that is true on `day` and complete below each parent it names.

    New codes open on that day, or with their parent where no list has spoken for it before. Codes that are not listed
    any more end, if the list speaks for their parent or for all its heirs; a town that ends under one code and opens
    under another with the same name, alone on both sides, is the same town. A list older than one already taken would
    turn the clock back and is refused.
    """
    listed = _listed(rows, tree, source)
    spoken = {(region.parent or "", str(region.level)) for region in listed.values()}
    newer = max((tree.spoken.get(key, FIRST) for key in spoken), default=FIRST)
    if newer > day:
        raise Invalid(f"{source}: a list of {newer} was taken already; one of {day} cannot follow it")
    running = {span.code: span for span in tree.regions if span.valid_to == LAST}
    gone = [s for s in running.values() if s.code not in listed and _speaks(tree, spoken, s)]
    leaving = {id(span) for span in gone}
    tree.regions = [replace(span, valid_to=day) if id(span) in leaving else span for span in tree.regions]
    starts = tree.starts()
    opened, renamed = [], 0
    for code, region in listed.items():
        now = running.get(code)
        if now is None:
            told = (region.parent or "", str(region.level)) in tree.spoken
            first = day if told or code in starts else starts.get(region.parent or "", FIRST)
            opened.append(replace(region, valid_from=min(first, day)))
        elif (now.name_zh, now.parent) != (region.name_zh, region.parent):
            tree.swap(now, *_split(now, region, day))
            renamed += 1
    tree.regions.extend(opened)
    linked = _link_namesakes(tree, gone, opened, day)
    tree.spoken |= dict.fromkeys(spoken, day)
    return Imported("list", len(opened), len(gone), renamed, linked, len(listed) - len(opened) - renamed)


def apply_changes(tree: Tree, rows: Iterable[Row], source: str) -> Imported:
    """Enter changes of which only the year is known: starts, ends, names and successions."""
    opened = closed = renamed = linked = 0
    for number, row in sorted(enumerate(rows, start=2), key=lambda item: (item[1]["year"], item[0])):
        where = f"{source} line {number}"
        start, end = _year(row["year"], where)
        old, new = row["old_code"], row["new_code"]
        if not new:
            raise Invalid(f"{where}: a change without new_code says nothing about where the records go")
        new = _code(new, where)
        if old and (old := _code(old, where)) != new:
            closed += _end(tree, old, row["old_name"], end)
            linked += tree.link(Succession(old, new, end, row.get("note", "") or row["type"]))
        elif old:
            renamed += _rename(
                tree, row["old_name"], Region(new, row["new_name"], level_of(new), _city(new), start), end
            )
            continue
        opened += _begin(tree, Region(new, row["new_name"], level_of(new), _city(new), start))
    return Imported("changes", opened, closed, renamed, linked)


def _listed(rows: Sequence[Row], tree: Tree, source: str) -> dict[str, Region]:
    listed: dict[str, Region] = {}
    for number, row in enumerate(rows, start=2):
        where = f"{source} line {number}"
        code = _code(row["code"], where)
        parent = _code(row["parent_code"], where) if row["parent_code"] else None
        if not row["name_zh"]:
            raise Invalid(f"{where}: region {code} has no name")
        if code in listed:
            raise Invalid(f"{where}: region {code} is listed twice")
        listed[code] = Region(code, row["name_zh"], level_of(code), parent)
    standing = {span.code for span in tree.regions} | set(listed)
    for region in listed.values():
        if region.parent is None and region.level is not Level.CITY:
            raise Invalid(f"{source}: region {region.code} has no parent_code; only a city stands alone")
        if region.parent is not None and region.parent not in standing:
            raise Invalid(f"{source}: parent {region.parent} of {region.code} is unknown; import its level first")
    return listed


def _speaks(tree: Tree, spoken: set[tuple[str, str]], span: Region) -> bool:
    level = str(span.level)
    if (span.parent or "", level) in spoken:
        return True
    heirs = {(step.new, level) for step in tree.successions if step.old == span.parent}
    return bool(heirs) and heirs <= spoken and tree.running(span.parent or "") is None


def _split(now: Region, region: Region, day: str) -> tuple[Region, ...]:
    if now.valid_from >= day:
        return (replace(region, valid_from=now.valid_from),)
    return replace(now, valid_to=day), replace(region, valid_from=day)


def _link_namesakes(tree: Tree, gone: Sequence[Region], opened: Sequence[Region], day: str) -> int:
    before, after = _by_name(gone), _by_name(opened)
    pairs = [(before[name], after[name]) for name in before if name in after]
    return sum(
        tree.link(Succession(old[0].code, new[0].code, day, "same name"))
        for old, new in pairs
        if len(old) == len(new) == 1
    )


def _by_name(regions: Sequence[Region]) -> dict[tuple[str, Level], list[Region]]:
    found: dict[tuple[str, Level], list[Region]] = {}
    for region in regions:
        found.setdefault((region.name_zh, region.level), []).append(region)
    return found


def _end(tree: Tree, code: str, name: str, day: str) -> int:
    spans = [span for span in tree.regions if span.code == code]
    if not spans:
        tree.regions.append(Region(code, name or code, level_of(code), _city(code), FIRST, day))
        return 1
    last = max(spans, key=lambda span: span.valid_to)
    if last.valid_to <= day or last.valid_from >= day:
        return 0
    tree.swap(last, replace(last, valid_to=day))
    return 1


def _begin(tree: Tree, region: Region) -> int:
    spans = [span for span in tree.regions if span.code == region.code]
    if not spans:
        tree.regions.append(region)
        return 1
    first = min(spans, key=lambda span: span.valid_from)
    if first.valid_from == FIRST and first.valid_to > region.valid_from:
        tree.swap(first, replace(first, valid_from=region.valid_from))
    return 0


def _rename(tree: Tree, old_name: str, region: Region, end: str) -> int:
    now = tree.running(region.code)
    if now is None:
        tree.regions.append(region)
        return 0
    if now.name_zh == old_name != region.name_zh:
        tree.swap(now, replace(now, valid_to=end), replace(region, parent=now.parent))
        return 1
    if now.valid_from >= region.valid_from or any(
        span.code == region.code and span.name_zh == old_name for span in tree.regions
    ):
        return 0
    tree.swap(
        now, replace(now, name_zh=old_name or now.name_zh, valid_to=end), replace(now, valid_from=region.valid_from)
    )
    return 1


def _code(text: str, where: str) -> str:
    try:
        return normal_code(text)
    except Invalid as why:
        raise Invalid(f"{where}: {why.detail}") from why


def _year(text: str, where: str) -> tuple[str, str]:
    if not (text.isdigit() and "1949" <= text <= "2999"):
        raise Invalid(f"{where}: year {text!r} is not a year")
    return f"{text}-01-01", f"{int(text) + 1}-01-01"


def _city(code: str) -> str | None:
    """The municipality of a 6-digit code; the changes on hand are Chongqing's (prefix 50), others stand alone."""
    return "500000" if code.startswith("50") and code != "500000" else None
