"""What the loop has achieved, as figures with their definitions; and what is late.

A figure is None where nothing was counted: a share of nothing is not zero. Counts stand beside every share.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from sqlalchemy import Connection, func, or_, select, update

from cloud.land.cycle import RESTING, Action, State
from cloud.land.desk import Desk
from cloud.land.model import ABANDONED, MU_M2
from cloud.land.store import batches, cases, detections, evidence, parcels, steps, verdicts
from cloud.who import Who

__all__ = ["Figures", "Precision", "Reminder", "figures", "remind"]

_DAY_MS: Final = 86_400_000
_LEVELS: Final = (1.0, 1.2, 2.0)  # of the term: remind, one level up, two levels up (rule L10)


@dataclass(frozen=True, slots=True)
class Precision:
    """How often people confirmed what a model suspected, by its first verdicts."""

    model: str
    verdicts: int
    abandoned: int

    @property
    def share(self) -> float | None:
        """Confirmed ÷ judged."""
        return self.abandoned / self.verdicts if self.verdicts else None


@dataclass(frozen=True, slots=True)
class Figures:
    """The loop in numbers, over the asker's regions.

    `lead_days_*` from candidate to first verdict (median, 90 of 100); `closed_in_time` of the closed cases those that
    were never late; `observable_area` of all parcel area what can be seen from above; `reused_evidence` of all verdicts
    those that needed no visit; `visits_per_confirmed_mu` evidence sets filed for each mu found abandoned.
    """

    candidates: int
    issued: int
    closed: int
    closed_in_time: float | None
    lead_days_median: float | None
    lead_days_p90: float | None
    precision: tuple[Precision, ...]
    refused: Mapping[str, int]
    disputes: int
    disputes_upheld: int
    reused_evidence: float | None
    visits_per_confirmed_mu: float | None
    observable_area: float | None
    late: int


@dataclass(frozen=True, slots=True)
class Reminder:
    """A case is late: to whom it is told. `level` 0 the person, 1 and 2 one and two levels up."""

    case: str
    region: str
    state: str
    collector: str | None
    due_ms: int
    level: int


def figures(desk: Desk, who: Who) -> Figures:
    """See `Figures`."""
    with desk.reading() as db:
        own = desk.seen_by(who, cases.c.region)
        rows = db.execute(select(cases, parcels.c.area_m2).join(parcels, parcels.c.id == cases.c.parcel).where(own))
        found = {row["id"]: row for row in rows.mappings()}
        history = _history(db, desk, who)
        signed = db.execute(
            select(verdicts).join(cases, cases.c.id == verdicts.c.case).where(own).order_by(verdicts.c.at_ms)
        ).mappings()
        first: dict[str, Mapping[str, Any]] = {row["case"]: dict(row) for row in reversed(list(signed))}
        models = _models(db, desk, who)
        visits = db.execute(select(func.count(func.distinct(evidence.c.case))).where(_of(desk, who))).scalar_one()
        area = dict(_areas(db, desk, who))
        filed = {(row.id, row.case) for row in db.execute(select(evidence.c.id, evidence.c.case).where(_of(desk, who)))}
    acts = [step for taken in history.values() for step in taken]
    lead = sorted((row["at_ms"] - found[case]["opened_ms"]) / _DAY_MS for case, row in first.items() if case in found)
    confirmed_m2 = sum(found[c]["area_m2"] for c, row in first.items() if c in found and row["kind"] in ABANDONED)
    closings = [case for case, row in found.items() if row["state"] == State.CLOSED]
    return Figures(
        candidates=sum(row["state"] == State.CANDIDATE for row in found.values()),
        issued=_count(acts, Action.ISSUE),
        closed=len(closings),
        closed_in_time=_share(sum(found[case]["times_late"] == 0 for case in closings), len(closings)),
        lead_days_median=median(lead) if lead else None,
        lead_days_p90=lead[min(len(lead) - 1, int(0.9 * len(lead)))] if lead else None,
        precision=_precision(first, models),
        refused=_refused(history),
        disputes=_count(acts, Action.DISPUTE),
        disputes_upheld=_count(acts, Action.UPHOLD),
        reused_evidence=_share(sum(_reused(row, filed) for row in first.values()), len(first)),
        visits_per_confirmed_mu=_share(visits, confirmed_m2 / MU_M2),
        observable_area=_share(area.get(True, 0.0), sum(area.values())),
        late=sum(row["reminder"] > 0 and row["state"] not in RESTING for row in found.values()),
    )


def remind(desk: Desk) -> tuple[Reminder, ...]:
    """Find what has newly become late, or later by a level; each is told once."""
    now = desk.clock()
    told: list[Reminder] = []
    with desk.engine.begin() as db:
        late = select(cases).where(cases.c.due_ms < now, cases.c.state.not_in([str(state) for state in RESTING]))
        for row in db.execute(late.order_by(cases.c.id).with_for_update()).mappings():
            used = (now - row["changed_ms"]) / max(row["due_ms"] - row["changed_ms"], 1)
            level = sum(used >= limit for limit in _LEVELS)
            if level <= row["reminder"]:
                continue
            db.execute(
                update(cases)
                .where(cases.c.id == row["id"])
                .values(reminder=level, times_late=row["times_late"] + (row["reminder"] == 0))
            )
            told.append(
                Reminder(row["id"], row["region"], row["state"], row["collector"], row["due_ms"], level=level - 1)
            )
            desk.audit(db, "system", "case.late", row["id"], {"level": level - 1}, row["region"])
    return tuple(told)


def _history(db: Connection, desk: Desk, who: Who) -> dict[str, list[Mapping[str, Any]]]:
    query = (
        select(steps)
        .join(cases, cases.c.id == steps.c.case)
        .where(desk.seen_by(who, cases.c.region))
        .order_by(steps.c.case, steps.c.seq)
    )
    history: dict[str, list[Mapping[str, Any]]] = {}
    for row in db.execute(query).mappings():
        history.setdefault(row["case"], []).append(dict(row))
    return history


def _models(db: Connection, desk: Desk, who: Who) -> dict[str, str]:
    """The model that suspected each case."""
    query = (
        select(cases.c.id, batches.c.model)
        .join(detections, detections.c.id == cases.c.detection)
        .join(batches, batches.c.id == detections.c.batch)
        .where(desk.seen_by(who, cases.c.region))
    )
    return {row.id: row.model for row in db.execute(query)}


def _of(desk: Desk, who: Who) -> Any:
    return evidence.c.case.in_(select(cases.c.id).where(desk.seen_by(who, cases.c.region)))


def _areas(db: Connection, desk: Desk, who: Who) -> Iterable[tuple[bool, float]]:
    seen = or_(detections.c.observability != "not_observable", parcels.c.detection.is_(None))
    query = (
        select(seen.label("seen"), func.sum(parcels.c.area_m2).label("area"))
        .outerjoin(detections, detections.c.id == parcels.c.detection)
        .where(desk.seen_by(who, parcels.c.region))
        .group_by(seen)
    )
    return ((bool(row.seen), float(row.area)) for row in db.execute(query))


def _precision(first: Mapping[str, Mapping[str, Any]], models: Mapping[str, str]) -> tuple[Precision, ...]:
    judged: dict[str, list[bool]] = {}
    for case, row in first.items():
        if case in models:
            judged.setdefault(models[case], []).append(row["kind"] in ABANDONED)
    return tuple(Precision(model, len(kinds), sum(kinds)) for model, kinds in sorted(judged.items()))


def _refused(history: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, int]:
    """Refusals by the person who had issued the case (rule L4)."""
    counted: dict[str, int] = {}
    for taken in history.values():
        issuer = ""
        for step in taken:
            if step["action"] == Action.ISSUE:
                issuer = step["who"]
            elif step["action"] == Action.REFUSE:
                counted[issuer] = counted.get(issuer, 0) + 1
    return counted


def _reused(verdict: Mapping[str, Any], filed: set[tuple[str, str]]) -> bool:
    return not any((photo, verdict["case"]) in filed for photo in _ids(verdict["evidence"]))


def _ids(text: str) -> list[str]:
    return [str(one) for one in json.loads(text)]


def _count(acts: Iterable[Mapping[str, Any]], action: Action) -> int:
    return sum(step["action"] == action for step in acts)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
