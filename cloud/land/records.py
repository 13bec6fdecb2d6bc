"""Rows of the land tables to values and back. No rule lives here."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from cloud.land.cycle import RESTING, State
from cloud.land.model import Case, Evidence, Step, Verdict, VerdictKind
from cloud.land.store import cases, evidence, parcels, serials, steps, verdicts

__all__ = [
    "add_step",
    "case_query",
    "case_rows",
    "evidence_of",
    "evidence_on",
    "find_case",
    "new_serial",
    "open_case_on",
    "steps_of",
    "verdicts_of",
    "verdicts_on",
]


def case_query() -> Select[Any]:
    """Cases with what is shown of their parcel."""
    return select(cases, parcels.c.synthetic, parcels.c.area_m2).join(parcels, parcels.c.id == cases.c.parcel)


def case_rows(rows: Iterable[RowMapping]) -> tuple[Case, ...]:
    """The cases of such a query."""
    return tuple(_case(row) for row in rows)


def find_case(db: Connection, case_id: str, *, lock: bool = False) -> Case | None:
    """One case; locked until the end of the transaction where the database can."""
    query = case_query().where(cases.c.id == case_id)
    row = db.execute(query.with_for_update(of=cases) if lock else query).mappings().one_or_none()
    return None if row is None else _case(row)


def open_case_on(db: Connection, parcel: str) -> str | None:
    """The number of the case that is open on a parcel."""
    found = select(cases.c.id).where(cases.c.parcel == parcel, cases.c.state.not_in([str(s) for s in RESTING]))
    return db.execute(found.limit(1)).scalar_one_or_none()


def new_serial(db: Connection, series: str) -> int:
    """The next number of a series, starting at 1."""
    raised = update(serials).where(serials.c.series == series).values(last=serials.c.last + 1)
    number = db.execute(raised.returning(serials.c.last)).scalar_one_or_none()
    if number is not None:
        return int(number)
    try:
        with db.begin_nested():
            db.execute(insert(serials).values(series=series, last=1))
    except IntegrityError:  # somebody else began the series at this moment
        return int(db.execute(raised.returning(serials.c.last)).scalar_one())
    return 1


def add_step(db: Connection, case: str, step: Mapping[str, Any]) -> int:
    """Append to a case's history; the step's number."""
    last = db.execute(select(func.max(steps.c.seq)).where(steps.c.case == case)).scalar_one()
    seq = (last or 0) + 1
    db.execute(insert(steps).values(case=case, seq=seq, **step))
    return seq


def steps_of(db: Connection, case: str) -> tuple[Step, ...]:
    """A case's history, oldest first."""
    rows = db.execute(select(steps).where(steps.c.case == case).order_by(steps.c.seq)).mappings()
    return tuple(
        Step(
            seq=row["seq"],
            at_ms=row["at_ms"],
            who=row["who"],
            action=row["action"],
            before=row["before"],
            after=row["after"],
            note=row["note"],
            detail=json.loads(row["detail"]),
        )
        for row in rows
    )


def evidence_of(db: Connection, case: str) -> tuple[Evidence, ...]:
    """A case's photos, oldest first."""
    rows = db.execute(select(evidence).where(evidence.c.case == case).order_by(evidence.c.received_ms, evidence.c.id))
    return tuple(_evidence(row) for row in rows.mappings())


def evidence_on(db: Connection, parcel: str, since_ms: int) -> tuple[Evidence, ...]:
    """A parcel's photos of any case, taken at or after a time, newest first."""
    query = select(evidence).where(evidence.c.parcel == parcel, evidence.c.taken_ms >= since_ms)
    rows = db.execute(query.order_by(evidence.c.taken_ms.desc(), evidence.c.id)).mappings()
    return tuple(_evidence(row) for row in rows)


def verdicts_of(db: Connection, case: str) -> tuple[Verdict, ...]:
    """A case's verdicts, oldest first."""
    rows = db.execute(select(verdicts).where(verdicts.c.case == case).order_by(verdicts.c.at_ms, verdicts.c.id))
    return tuple(_verdict(row) for row in rows.mappings())


def verdicts_on(db: Connection, parcel: str) -> tuple[Verdict, ...]:
    """The verdicts on a parcel that stand, newest first."""
    query = select(verdicts).where(verdicts.c.parcel == parcel, verdicts.c.withdrawn_ms.is_(None))
    rows = db.execute(query.order_by(verdicts.c.at_ms.desc(), verdicts.c.id)).mappings()
    return tuple(_verdict(row) for row in rows)


def _case(row: RowMapping) -> Case:
    return Case(
        id=row["id"],
        parcel=row["parcel"],
        region=row["region"],
        state=State(row["state"]),
        crop_year=row["crop_year"],
        detection=row["detection"],
        issuer=row["issuer"],
        collector=row["collector"],
        opened_ms=row["opened_ms"],
        changed_ms=row["changed_ms"],
        due_ms=row["due_ms"],
        closed_ms=row["closed_ms"],
        recheck_ms=row["recheck_ms"],
        merged_into=row["merged_into"],
        verdict=None if row["verdict"] is None else VerdictKind(row["verdict"]),
        reminder=row["reminder"],
        synthetic=row["synthetic"],
        area_m2=row["area_m2"],
        probability=row["probability"],
        version=row["version"],
    )


def _evidence(row: RowMapping) -> Evidence:
    names = Evidence.__dataclass_fields__
    return Evidence(**{name: row[name] for name in names if name != "flags"}, flags=tuple(json.loads(row["flags"])))


def _verdict(row: RowMapping) -> Verdict:
    return Verdict(
        id=row["id"],
        case=row["case"],
        parcel=row["parcel"],
        signer=row["signer"],
        at_ms=row["at_ms"],
        kind=VerdictKind(row["kind"]),
        crop_year=row["crop_year"],
        evidence=tuple(json.loads(row["evidence"])),
        note=row["note"],
        digest=row["digest"],
        withdrawn_ms=row["withdrawn_ms"],
    )
