"""The administrative tree as a service: look up, import, and the scope test everything else leans on."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Select, delete, exists, func, insert, select

from cloud.problems import Invalid, NotFound
from cloud.regions.files import Imported, Row, Tree, apply_changes, apply_list, plant, read_rows
from cloud.regions.store import closure_table, complete_table, lists_table, metadata, regions_table, successions_table
from cloud.regions.tree import Level, Region, Succession, closure, level_of, normal_code

__all__ = ["Regions"]

_STARTER: Final = Path(__file__).with_name("starter.csv")
_CHINA: Final = timedelta(hours=8)
_BATCH: Final = 5_000


class Regions:
    """Regions over one database. Days without a name mean today in China (UTC+8)."""

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._clock = clock

    def prepare(self) -> None:
        """Make the tables where missing and, while there is no region at all, plant the built-in starter list."""
        metadata.create_all(self._engine)
        with self._engine.begin() as db:
            if db.execute(select(func.count()).select_from(regions_table)).scalar_one() == 0:
                _, rows = read_rows(_STARTER)
                self._apply(db, lambda tree: plant(tree, rows, _STARTER.name))

    # -- import --------------------------------------------------------------------------------------------------

    def import_file(
        self, path: Path, as_of: date | None = None, *, complete: tuple[date | None, date | None] = (None, None)
    ) -> Imported:
        """Take a list (true on `as_of`, default today) or a file of changes, whole or not at all (`Invalid`).

        `complete` declares from when until when the register holds every region below the parents that this list names;
        an end that is None means `as_of`. Only on such days does `county_known` ever say no.
        """
        kind, rows = read_rows(path)
        return self.import_rows(kind, rows, as_of, complete=complete, source=path.name)

    def import_rows(
        self,
        kind: str,
        rows: Sequence[Row],
        as_of: date | None = None,
        *,
        complete: tuple[date | None, date | None] = (None, None),
        source: str = "rows",
    ) -> Imported:
        """The same for rows already read; `kind` is "list" or "changes"."""
        day = self._day(as_of)
        since, until = (day if each is None else each.isoformat() for each in complete)
        if not since <= day <= until:
            raise Invalid(f"{source}: a list true on {day} cannot be complete from {since} until {until}")
        if kind == "changes" and complete != (None, None):
            raise Invalid(f"{source}: changes say nothing of what did not change: declare completeness with a list")
        with self._engine.begin() as db:
            if kind == "changes":
                return self._apply(db, lambda tree: apply_changes(tree, rows, source))
            done = self._apply(db, lambda tree: apply_list(tree, rows, day, source))
            _declare(db, rows, since, until)
            return done

    # -- look up -------------------------------------------------------------------------------------------------

    def get(self, code: str, at: date | None = None) -> Region:
        """The region as it was on a day; for a code that had ended by then, its last span. Raises `NotFound`."""
        day = self._day(at)
        query = select(regions_table).where(regions_table.c.code == code, regions_table.c.valid_from <= day)
        with self._reading() as db:
            row = db.execute(query.order_by(regions_table.c.valid_from.desc()).limit(1)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"no region {code!r}")
        return _region(row)

    def children(self, code: str, at: date | None = None) -> tuple[Region, ...]:
        """What stands directly below a region on a day, by code."""
        day = self._day(at)
        query = select(regions_table).where(
            regions_table.c.parent == code, regions_table.c.valid_from <= day, regions_table.c.valid_to > day
        )
        with self._reading() as db:
            rows = db.execute(query.order_by(regions_table.c.code, regions_table.c.valid_from)).mappings()
            # During a year of change a code may run under two names: the later one is shown.
            return tuple({row["code"]: _region(row) for row in rows}.values())

    def roots(self) -> tuple[Region, ...]:
        """The regions that stand under no other today."""
        day = self._day(None)
        query = select(regions_table).where(
            regions_table.c.parent.is_(None), regions_table.c.valid_from <= day, regions_table.c.valid_to > day
        )
        with self._reading() as db:
            return tuple(_region(row) for row in db.execute(query.order_by(regions_table.c.code)).mappings())

    def path(self, code: str) -> tuple[Region, ...]:
        """From the root down to the region itself, by today's names."""
        region = self.get(code)
        above = self.path(region.parent) if region.parent else ()
        return (*above, region)

    def known(self, code: str) -> bool:
        """Whether this code was ever valid."""
        with self._reading() as db:
            return bool(db.execute(select(exists().where(regions_table.c.code == code))).scalar_one())

    def expect(self, code: str) -> None:
        """Raise `Invalid` where this code was never valid, with what an operator does about it."""
        if not self.known(code):
            raise Invalid(f"no region {code!r} here; import a list with `tianmai-cloud import-regions` first")

    def county_known(self, code: str, at: date | None = None) -> bool | None:
        """Whether a county of GB/T 2260 existed on a day; None where this register cannot tell.

        It says no only where a list was declared complete for that day below the code's city or province: a register
        that holds four counties of a city must not call the tags of the others forged.
        """
        day = self._day(at)
        held = select(regions_table.c.code).where(
            regions_table.c.code == code,
            regions_table.c.level == str(Level.DISTRICT),
            regions_table.c.valid_from <= day,
            regions_table.c.valid_to > day,
        )
        whole = select(complete_table.c.parent).where(
            complete_table.c.parent.in_((code[:4] + "00", code[:2] + "0000")),
            complete_table.c.level == str(Level.DISTRICT),
            complete_table.c.from_day <= day,
            complete_table.c.until_day >= day,
        )
        with self._reading() as db:
            if db.execute(held.limit(1)).first() is not None:
                return True
            return None if db.execute(whole.limit(1)).first() is None else False

    # -- scope ---------------------------------------------------------------------------------------------------

    def covers(self, grant_region: str, region: str, at: date | None = None) -> bool:
        """Whether what is written under `region` belongs to an office of `grant_region` on a day."""
        query = self.codes_under([grant_region], at).where(closure_table.c.descendant == region).limit(1)
        with self._reading() as db:
            return db.execute(query).first() is not None

    def codes_under(self, grant_regions: Collection[str], at: date | None = None) -> Select[tuple[str]]:
        """THE scope filter: a query of all codes that belong to any of these regions, for `column.in_(...)`."""
        day = self._day(at)
        return select(closure_table.c.descendant).where(
            closure_table.c.ancestor.in_(sorted(grant_regions)),
            closure_table.c.valid_from <= day,
            closure_table.c.valid_to > day,
        )

    # -- inside --------------------------------------------------------------------------------------------------

    def _apply(self, db: Connection, change: Callable[[Tree], Imported]) -> Imported:
        rows = db.execute(select(regions_table)).mappings()
        steps = db.execute(select(successions_table)).all()
        lists = db.execute(select(lists_table)).all()
        tree = Tree(
            [_region(row) for row in rows],
            [Succession(s.old, s.new, s.on_day, s.why) for s in steps],
            {(one.parent, one.level): one.on_day for one in lists},
        )
        done = change(tree)
        _write(db, tree)
        return done

    def _reading(self) -> Connection:
        return self._engine.connect().execution_options(reading=True)

    def _day(self, at: date | None) -> str:
        day = at or (datetime.fromtimestamp(self._clock() / 1000, UTC) + _CHINA).date()
        return day.isoformat()


def _declare(db: Connection, rows: Sequence[Row], since: str, until: str) -> None:
    """Note for which days a list is declared complete, below each parent it names."""
    spoken = {
        (normal_code(row["parent_code"]), str(level_of(normal_code(row["code"])))) for row in rows if row["parent_code"]
    }
    for parent, level in sorted(spoken):
        key = {"parent": parent, "level": level, "from_day": since, "until_day": until}
        same = [complete_table.c[name] == value for name, value in key.items()]
        if db.execute(select(complete_table.c.parent).where(*same)).first() is None:
            db.execute(insert(complete_table).values(**key))


def _write(db: Connection, tree: Tree) -> None:
    keys = [(span.code, span.valid_from) for span in tree.regions]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Invalid(f"region {twice[0]} would begin twice on {twice[1]}")
    regions = [
        {
            "code": span.code,
            "valid_from": span.valid_from,
            "valid_to": span.valid_to,
            "name_zh": span.name_zh,
            "level": str(span.level),
            "parent": span.parent,
        }
        for span in tree.regions
    ]
    steps = [{"old": s.old, "new": s.new, "on_day": s.on, "why": s.why} for s in tree.successions]
    edges = [
        {
            "ancestor": edge.ancestor,
            "descendant": edge.descendant,
            "depth": edge.depth,
            "valid_from": edge.valid_from,
            "valid_to": edge.valid_to,
        }
        for edge in closure(tree.regions, tree.successions)
    ]
    lists = [{"parent": key[0], "level": key[1], "on_day": day} for key, day in tree.spoken.items()]
    tables = ((regions_table, regions), (successions_table, steps), (lists_table, lists), (closure_table, edges))
    for table, rows in tables:
        db.execute(delete(table))
        for start in range(0, len(rows), _BATCH):
            db.execute(insert(table), rows[start : start + _BATCH])


def _region(row: Any) -> Region:
    return Region(row["code"], row["name_zh"], Level(row["level"]), row["parent"], row["valid_from"], row["valid_to"])
