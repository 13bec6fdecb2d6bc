"""Taking in a detection run: parcels, immutable findings, candidates, and contradictions to closed cases.

This is all that a machine may do to the loop: open a candidate, or point again at a case that people had closed.
"""

import json
import uuid
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Connection, insert, select, update

from cloud.land.batch import Batch, Finding, Imported, is_candidate, status_of
from cloud.land.cycle import Action, State
from cloud.land.desk import Desk, crop_year_end_ms
from cloud.land.model import CURRENT
from cloud.land.records import add_step, new_serial, open_case_on, verdicts_on
from cloud.land.store import batches, cases, detections, parcels

__all__ = ["open_candidate", "show", "take"]

MACHINE = "system"


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
    refused: list[str] = []
    number, now = uuid.uuid4().hex, desk.clock()
    new_parcels = new_detections = known = candidates = reopened = 0
    with desk.engine.begin() as db:
        header = {"profile": batch.profile, "model": batch.model, "calibration": batch.calibration}
        db.execute(
            insert(batches).values(
                id=number, imported_ms=now, accuracy=batch.accuracy, synthetic=batch.synthetic, **header
            )
        )
        outlines = {row.id: row.outline for row in db.execute(select(parcels.c.id, parcels.c.outline))}
        regions: dict[str, bool] = {}
        for finding in batch.findings(refused):
            if not _known(desk, db, regions, finding.region):
                refused.append(f"parcel {finding.parcel}: region {finding.region} is unknown; import it first")
                continue
            outline = outlines.get(finding.parcel)
            if outline is None:
                _add_parcel(db, finding, synthetic=batch.synthetic)
                new_parcels += 1
            elif outline != finding.outline:
                refused.append(
                    f"parcel {finding.parcel} is known with another outline; a changed parcel needs a new survey number"
                )
                continue
            added = _add_detection(db, finding, number, now)
            if added is None:
                known += 1
                continue
            new_detections += 1
            show(db, finding.parcel)
            done = _follow_up(desk, db, finding, added)
            candidates += done is State.CANDIDATE
            reopened += done is State.REOPENED
        counts = {"detections": new_detections, "candidates": candidates, "refused": len(refused)}
        desk.audit(db, by, "land.imported", number, header | counts, batch.region)
    return Imported(number, new_parcels, new_detections, known, candidates, reopened, tuple(refused))


def _known(desk: Desk, db: Connection, asked: dict[str, bool], region: str) -> bool:
    if region not in asked:
        asked[region] = desk.known(db, region)
    return asked[region]


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


def _add_parcel(db: Connection, finding: Finding, *, synthetic: bool) -> None:
    west, south, east, north = finding.box
    status = status_of(finding.class_name, finding.observability)
    db.execute(
        insert(parcels).values(
            id=finding.parcel,
            region=finding.region,
            geometry=finding.geometry,
            outline=finding.outline,
            west=west,
            south=south,
            east=east,
            north=north,
            area_m2=finding.area_m2,
            basic_farmland=finding.basic_farmland,
            synthetic=synthetic,
            status=str(status),
            verified=False,
        )
    )


def _add_detection(db: Connection, finding: Finding, batch: str, now: int) -> str | None:
    """The new finding's id, or None where this very finding is there already."""
    number = sha256(finding.record.encode()).hexdigest()
    if db.execute(select(detections.c.id).where(detections.c.id == number)).first() is not None:
        return None
    db.execute(
        insert(detections).values(
            id=number,
            batch=batch,
            parcel=finding.parcel,
            crop_year=finding.crop_year,
            class_name=finding.class_name,
            observability=finding.observability,
            probability=finding.probability,
            record=finding.record,
            imported_ms=now,
        )
    )
    return number


def _follow_up(desk: Desk, db: Connection, finding: Finding, detection: str) -> State | None:
    if not is_candidate(finding, desk.rules) or open_case_on(db, finding.parcel) is not None:
        return None
    closed = db.execute(
        select(cases)
        .where(cases.c.parcel == finding.parcel, cases.c.state == str(State.CLOSED))
        .order_by(cases.c.closed_ms.desc())
        .limit(1)
    ).one_or_none()
    if closed is None:
        clue = Clue(finding.parcel, finding.region, detection, finding.crop_year, finding.probability)
        open_candidate(desk, db, clue, MACHINE)
        return State.CANDIDATE
    if crop_year_end_ms(finding.crop_year) <= closed.closed_ms:
        return None  # what was seen then, people have looked at since
    _reopen(desk, db, closed.id, closed.region, detection)
    return State.REOPENED


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
