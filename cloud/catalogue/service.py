"""The catalogue as a service: entries, use, and data return packages."""

import json
import os
import uuid
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, RowMapping, func, insert, literal, select, update

from cloud.catalogue.bundles import pack, rows_of
from cloud.catalogue.entries import OWN
from cloud.catalogue.model import DataLevel, Dataset, Kind, Package, Producer
from cloud.catalogue.store import datasets, metadata, packages, uses
from cloud.problems import Conflict, Forbidden, NotFound
from cloud.who import Audit, Inside, Role, Who

__all__ = ["Catalogue"]

_CHINA: Final = timedelta(hours=8)


class Catalogue:
    """Entries and packages over one database and one folder.

    `producers` by file name say what a package holds; they, `audit` and `inside` are passed by wiring.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        clock: Callable[[], int],
        audit: Audit,
        *,
        inside: Inside,
        producers: Mapping[str, Producer],
    ) -> None:
        self._engine = engine
        self._folder = folder
        self._clock = clock
        self._audit = audit
        self._inside = inside
        self._producers = dict(producers)

    def prepare(self) -> None:
        """Make the tables where they are missing (a real deployment migrates instead); enter what the system holds."""
        metadata.create_all(self._engine)
        for entry in OWN:
            self.register(entry)

    # -- entries -------------------------------------------------------------------------------------------------

    def register(self, entry: Dataset, *, by: str = "system") -> None:
        """Enter a dataset or describe it anew; its counters stay."""
        values = {
            "kind": str(entry.kind),
            "title_zh": entry.title_zh,
            "title_en": entry.title_en,
            "owner": entry.owner,
            "source": entry.source,
            "standard": entry.standard,
            "rhythm": entry.rhythm,
            "level": str(entry.level),
        }
        with self._engine.begin() as db:
            there = db.execute(select(datasets).where(datasets.c.id == entry.id)).mappings().one_or_none()
            if there is None:
                db.execute(insert(datasets).values(id=entry.id, **values))
            elif {key: there[key] for key in values} != values:
                db.execute(update(datasets).where(datasets.c.id == entry.id).values(**values))
            else:
                return
            self._audit(db, by, "dataset.described", entry.id, {"level": values["level"]})

    def datasets(self) -> tuple[Dataset, ...]:
        """All entries with their counters, by id."""
        counted = (
            select(uses.c.dataset, func.sum(uses.c.calls).label("calls"), func.max(uses.c.last_ms).label("last_ms"))
            .group_by(uses.c.dataset)
            .subquery()
        )
        query = select(datasets, counted.c.calls, counted.c.last_ms).outerjoin(
            counted, counted.c.dataset == datasets.c.id
        )
        with self._reading() as db:
            return tuple(_dataset(row) for row in db.execute(query.order_by(datasets.c.id)).mappings())

    def used(self, dataset: str, who: Who) -> None:
        """Count one use by one person. Raises `NotFound` for a dataset that nobody entered."""
        now = self._clock()
        day = (datetime.fromtimestamp(now / 1000, UTC) + _CHINA).date().isoformat()
        key = (uses.c.dataset == dataset, uses.c.who == who.id, uses.c.day == day)
        with self._engine.begin() as db:
            # The entry's lock orders those who count the same for the first time today.
            entry = select(datasets.c.id).where(datasets.c.id == dataset).with_for_update()
            if db.execute(entry).first() is None:
                raise NotFound(f"no dataset {dataset!r}")
            raised = db.execute(update(uses).where(*key).values(calls=uses.c.calls + 1, last_ms=now))
            if raised.rowcount == 0:
                db.execute(insert(uses).values(dataset=dataset, who=who.id, day=day, calls=1, last_ms=now))

    # -- packages ------------------------------------------------------------------------------------------------

    def make_package(self, who: Who, region: str) -> Package:
        """Everything about a region in one file, with what changed since its last package.

        Raises `NotFound` outside the asker's regions, `Forbidden` without a role that works with data there.
        """
        with self._reading() as db:
            self._let(db, who, region, Role.ANALYST, Role.AUDITOR, Role.REVIEWER, Role.ADMIN)
            last = self._last(db, region)
        before = rows_of(self._path(last.id)) if last is not None and self._path(last.id).exists() else {}
        now = self._clock()
        header = {"region": region, "made_ms": now, "previous": last.sha256 if last else None}
        body, told = pack(header, {name: rows(region) for name, rows in self._producers.items()}, before)
        number = uuid.uuid4().hex
        digest = self._keep(number, body)
        with self._engine.begin() as db:
            db.execute(
                insert(packages).values(
                    id=number,
                    region=region,
                    made_ms=now,
                    made_by=who.id,
                    size_bytes=len(body),
                    sha256=digest,
                    previous=last.id if last else None,
                    files=json.dumps(told),
                )
            )
            self._audit(db, who.id, "package.made", number, {"sha256": digest, "files": told}, region)
        return self.package(who, number)

    def packages(self, who: Who, *, limit: int = 100) -> tuple[Package, ...]:
        """The packages of the asker's regions, newest first."""
        query = select(packages).where(packages.c.region.in_(self._inside(who.regions())))
        with self._reading() as db:
            rows = db.execute(query.order_by(packages.c.made_ms.desc(), packages.c.id).limit(limit)).mappings()
            return tuple(_package(row) for row in rows)

    def package(self, who: Who, number: str) -> Package:
        """One package. Raises `NotFound`."""
        query = select(packages).where(packages.c.id == number, packages.c.region.in_(self._inside(who.regions())))
        with self._reading() as db:
            row = db.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"no package {number!r}")
        return _package(row)

    def take_package(self, who: Who, number: str) -> Path:
        """The file of a package; taking it is audited."""
        found = self.package(who, number)
        path = self._path(found.id)
        if not path.exists():
            raise Conflict(f"the file of package {number} is gone; make a new one")
        with self._engine.begin() as db:
            self._audit(db, who.id, "package.taken", number, {"sha256": found.sha256}, found.region)
        return path

    # -- inside --------------------------------------------------------------------------------------------------

    def _reading(self) -> Connection:
        return self._engine.connect().execution_options(reading=True)

    def _path(self, number: str) -> Path:
        return self._folder / f"{number}.zip"

    def _keep(self, number: str, body: bytes) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{number}"
        with temporary.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path(number))
        return sha256(body).hexdigest()

    def _last(self, db: Connection, region: str) -> Package | None:
        query = select(packages).where(packages.c.region == region)
        row = db.execute(query.order_by(packages.c.made_ms.desc(), packages.c.id).limit(1)).mappings().one_or_none()
        return None if row is None else _package(row)

    def _let(self, db: Connection, who: Who, region: str, *roles: Role) -> None:
        if not self._within(db, region, who.regions()):
            raise NotFound(f"no region {region!r}")
        if not self._within(db, region, who.regions(*roles)):
            raise Forbidden(f"to take data of {region} needs the role analyst, reviewer or auditor there")

    def _within(self, db: Connection, region: str, offices: Collection[str]) -> bool:
        query = select(literal(value=1)).where(literal(region).in_(self._inside(offices)))
        return bool(offices) and db.execute(query).first() is not None


def _dataset(row: RowMapping) -> Dataset:
    return Dataset(
        row["id"],
        Kind(row["kind"]),
        row["title_zh"],
        row["title_en"],
        row["owner"],
        row["source"],
        row["standard"],
        row["rhythm"],
        DataLevel(row["level"]),
        int(row["calls"] or 0),
        row["last_ms"],
    )


def _package(row: RowMapping) -> Package:
    return Package(
        row["id"],
        row["region"],
        row["made_ms"],
        row["made_by"],
        row["size_bytes"],
        row["sha256"],
        row["previous"],
        json.loads(row["files"]),
    )
