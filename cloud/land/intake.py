"""Taking in a detection run: parcels, immutable findings, candidates, and contradictions to closed cases.

This is all that a machine may do to the loop: open a candidate, or point again at a case that people had closed.
"""

import json
import uuid
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Table, insert, select, update

from cloud.land.batch import Batch, Finding, Imported, is_candidate, status_of
from cloud.land.cycle import Action, State
from cloud.land.desk import Desk, crop_year_end_ms
from cloud.land.model import CURRENT
from cloud.land.records import add_step, new_serial, open_case_on, verdicts_on
from cloud.land.store import batches, cases, detections, parcels

__all__ = ["open_candidate", "show", "take"]

MACHINE = "system"
_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Clue:
    """The finding that a candidate is opened on."""

    parcel: str
    region: str
    detection: str
    crop_year: int
    probability: float | None


def take(desk: Desk, batch: Batch, by: str) -> Imported:
    """Store a batch in one transaction. What is already known, byte for byte, changes nothing."""
    with desk.engine.begin() as db:
        return _Intake(desk, db, batch).run(by)


class _Intake:
    """One import: first everything is judged, then written in bulk, then each new finding is followed up."""

    def __init__(self, desk: Desk, db: Connection, batch: Batch) -> None:
        self._desk = desk
        self._db = db
        self._batch = batch
        self._number = uuid.uuid4().hex
        self._now = desk.clock()
        self._refused: list[str] = []
        self._regions: dict[str, bool] = {}
        self._outlines = {row.id: row.outline for row in db.execute(select(parcels.c.id, parcels.c.outline))}

    def run(self, by: str) -> Imported:
        header = {"profile": self._batch.profile, "model": self._batch.model, "calibration": self._batch.calibration}
        about = header | {"accuracy": self._batch.accuracy, "synthetic": self._batch.synthetic}
        self._db.execute(insert(batches).values(id=self._number, imported_ms=self._now, **about))
        good = {finding.id: finding for finding in self._batch.findings(self._refused) if self._fits(finding)}
        stored = self._stored(list(good))
        fresh = [finding for number, finding in good.items() if number not in stored]
        unseen = [finding for finding in fresh if finding.parcel not in self._outlines]
        self._write(parcels, [self._parcel_row(finding) for finding in unseen])
        self._write(detections, [self._detection_row(finding) for finding in fresh])
        done = [self._follow_up(finding) for finding in fresh]
        counts = {"detections": len(fresh), "candidates": done.count(State.CANDIDATE), "refused": len(self._refused)}
        self._desk.audit(self._db, by, "land.imported", self._number, header | counts, self._batch.region)
        return Imported(
            batch=self._number,
            parcels=len(unseen),
            detections=len(fresh),
            known=len(good) - len(fresh),
            candidates=done.count(State.CANDIDATE),
            reopened=done.count(State.REOPENED),
            refused=tuple(self._refused),
        )

    def _fits(self, finding: Finding) -> bool:
        """Whether region and outline agree with what is stored; else a line is added to the refusals."""
        region, outline = finding.region, self._outlines.get(finding.parcel)
        if region not in self._regions:
            self._regions[region] = self._desk.known(self._db, region)
        if not self._regions[region]:
            self._refused.append(f"parcel {finding.parcel}: region {region} is unknown; import it first")
        elif outline is not None and outline != finding.outline:
            self._refused.append(
                f"parcel {finding.parcel} is known with another outline; a changed parcel needs a new survey number"
            )
        else:
            return True
        return False

    def _stored(self, numbers: list[str]) -> set[str]:
        stored: set[str] = set()
        for start in range(0, len(numbers), _CHUNK):
            some = numbers[start : start + _CHUNK]
            stored |= set(self._db.execute(select(detections.c.id).where(detections.c.id.in_(some))).scalars())
        return stored

    def _write(self, table: Table, rows: list[dict[str, Any]]) -> None:
        for start in range(0, len(rows), _CHUNK):
            self._db.execute(insert(table), rows[start : start + _CHUNK])

    def _parcel_row(self, finding: Finding) -> dict[str, Any]:
        west, south, east, north = finding.box
        return {
            "id": finding.parcel,
            "region": finding.region,
            "geometry": finding.geometry,
            "outline": finding.outline,
            "west": west,
            "south": south,
            "east": east,
            "north": north,
            "area_m2": finding.area_m2,
            "basic_farmland": finding.basic_farmland,
            "synthetic": self._batch.synthetic,
            "status": str(status_of(finding.class_name, finding.observability)),
            "verified": False,
            "detection": finding.id,
        }

    def _detection_row(self, finding: Finding) -> dict[str, Any]:
        return {
            "id": finding.id,
            "batch": self._number,
            "parcel": finding.parcel,
            "crop_year": finding.crop_year,
            "class_name": finding.class_name,
            "observability": finding.observability,
            "probability": finding.probability,
            "record": finding.record,
            "imported_ms": self._now,
        }

    def _follow_up(self, finding: Finding) -> State | None:
        """What a new finding sets off: the map, and at most a candidate or a second look at a closed case."""
        seen_before = finding.parcel in self._outlines
        if seen_before:
            show(self._db, finding.parcel)
        if not is_candidate(finding, self._desk.rules):
            return None
        if seen_before:
            if open_case_on(self._db, finding.parcel) is not None:
                return None
            closed = _last_closed(self._db, finding.parcel)
            if closed is not None:
                if crop_year_end_ms(finding.crop_year) <= closed["closed_ms"]:
                    return None  # what was seen then, people have looked at since
                _reopen(self._desk, self._db, closed["id"], closed["region"], finding.id)
                return State.REOPENED
        clue = Clue(finding.parcel, finding.region, finding.id, finding.crop_year, finding.probability)
        open_candidate(self._desk, self._db, clue, MACHINE)
        return State.CANDIDATE


def show(db: Connection, parcel: str) -> None:
    """Set what the map shows for a parcel: the newest standing verdict, unless a later crop year was seen since."""
    latest = db.execute(
        select(detections)
        .where(detections.c.parcel == parcel)
        .order_by(detections.c.crop_year.desc(), detections.c.imported_ms.desc(), detections.c.id)
        .limit(1)
    ).one_or_none()
    verdict = next(iter(verdicts_on(db, parcel)), None)
    if verdict is not None and (latest is None or crop_year_end_ms(latest.crop_year) <= verdict.at_ms):
        status, verified = CURRENT[verdict.kind], True
    elif latest is not None:
        status, verified = status_of(latest.class_name, latest.observability), False
    else:
        return
    values = {"status": str(status), "verified": verified, "detection": latest.id if latest else None}
    db.execute(update(parcels).where(parcels.c.id == parcel).values(**values))


def open_candidate(desk: Desk, db: Connection, clue: Clue, by: str) -> str:
    """A new case in state `candidate`; its number."""
    now = desk.clock()
    series = f"{clue.region[:6]}-{clue.crop_year}"
    number = f"{series}-{new_serial(db, series):05d}"
    db.execute(
        insert(cases).values(
            id=number,
            parcel=clue.parcel,
            region=clue.region,
            state=str(State.CANDIDATE),
            crop_year=clue.crop_year,
            detection=clue.detection,
            probability=clue.probability,
            opened_ms=now,
            changed_ms=now,
            reminder=0,
            times_late=0,
            version=1,
        )
    )
    entry = {"at_ms": now, "who": by, "action": "open", "before": "", "after": str(State.CANDIDATE)}
    add_step(db, number, entry | {"note": "", "detail": json.dumps({"detection": clue.detection})})
    desk.audit(db, by, "case.open", number, {"parcel": clue.parcel, "detection": clue.detection}, clue.region)
    return number


def _last_closed(db: Connection, parcel: str) -> RowMapping | None:
    query = select(cases.c.id, cases.c.region, cases.c.closed_ms).where(
        cases.c.parcel == parcel, cases.c.state == str(State.CLOSED)
    )
    return db.execute(query.order_by(cases.c.closed_ms.desc()).limit(1)).mappings().one_or_none()


def _reopen(desk: Desk, db: Connection, case: str, region: str, detection: str) -> None:
    now = desk.clock()
    entry = {"at_ms": now, "who": MACHINE, "action": str(Action.REOPEN), "before": str(State.CLOSED)}
    entry |= {"after": str(State.REOPENED), "note": "seen abandoned again: to be looked at, nobody is accused"}
    add_step(db, case, entry | {"detail": json.dumps({"detection": detection})})
    changed = update(cases).where(cases.c.id == case)
    db.execute(
        changed.values(
            state=str(State.REOPENED),
            changed_ms=now,
            closed_ms=None,
            recheck_ms=None,
            due_ms=None,
            reminder=0,
            collector=None,
            verdict=None,
            detection=detection,
            version=cases.c.version + 1,
        )
    )
    desk.audit(db, MACHINE, "case.reopen", case, {"detection": detection}, region)
