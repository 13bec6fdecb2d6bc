"""What people do with parcels and cases. One method is one step of the loop and one transaction.

Three promises rest here. A verdict needs valid evidence and a person who did not collect it. Every step is written to
the case's history and to the audit trail together with the change. And nobody learns of a case outside his regions.
"""

import json
import uuid
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NoReturn

from sqlalchemy import Connection, Engine, func, insert, select, update

from cloud.land import blind, figures, intake, lookup, records
from cloud.land.batch import Batch, Imported
from cloud.land.blind import Report, Round, Visit
from cloud.land.cycle import Action, State, moved
from cloud.land.desk import Desk, month_start_ms, no_case
from cloud.land.figures import Figures, Reminder
from cloud.land.filing import Spot, attempt
from cloud.land.model import ABANDONED, Case, CaseDetail, Claim, Evidence, LandRules, Page, Recovery, VerdictKind
from cloud.land.photos import Photos
from cloud.land.store import cases, detections, evidence, metadata, parcels, steps, verdicts
from cloud.land.workdays import due
from cloud.problems import CloudError, Conflict, Forbidden, Invalid, NotFound, Refused, TooMany
from cloud.who import Audit, Inside, Role, Who

__all__ = ["Land"]

_DAY_MS: Final = 86_400_000
_COLLECTING: Final = frozenset({State.ACCEPTED, State.RETURNED, State.REMEDYING})
_TILLED: Final = frozenset({Recovery.GRAIN, Recovery.TILLAGE_CROP, Recovery.GREEN_MANURE})
_LONGEST_NOTE: Final = 2_000

Prepare = Callable[[Connection, Case], dict[str, Any]]


class Land:
    """Parcels, detections and cases over one database and one folder of photos.

    `audit` and `inside` are doors of the accounts and regions contexts, passed by wiring.
    """

    def __init__(
        self,
        engine: Engine,
        photos_dir: Path,
        clock: Callable[[], int],
        audit: Audit,
        *,
        inside: Inside,
        rules: LandRules | None = None,
    ) -> None:
        self._rules = rules or LandRules()
        self._desk = Desk(engine, clock, audit, inside, self._rules)
        self._engine = engine
        self._clock = clock
        self._photos = Photos(photos_dir, self._rules)

    def now(self) -> int:
        """The service's clock, milliseconds UTC."""
        return self._clock()

    @property
    def photo_limit(self) -> int:
        """Largest photo taken, bytes."""
        return self._rules.photo_bytes

    def prepare(self) -> None:
        """Make the tables where they are missing (a real deployment migrates instead)."""
        metadata.create_all(self._engine)

    # -- what was seen from above --------------------------------------------------------------------------------

    def import_detections(self, batch: Batch, *, by: str = intake.MACHINE) -> Imported:
        """Take in a detection run; opens candidates and nothing more. Bad features are listed, the rest goes on."""
        return intake.take(self._desk, batch, by)

    def parcels(
        self,
        who: Who,
        bbox: tuple[float, float, float, float] | None = None,
        status: str | None = None,
        region: str | None = None,
        *,
        limit: int = 5_000,
        after: str | None = None,
    ) -> dict[str, Any]:
        """The asker's parcels as a GeoJSON FeatureCollection, by id; `next` is there when more follow.

        `bbox` is (west, south, east, north) in degrees; `region` narrows to a region and all below it.
        """
        return lookup.parcels(self._desk, who, lookup.Wanted(bbox, status, region, limit, after))

    def parcel(self, who: Who, parcel: str) -> dict[str, Any]:
        """One parcel with all findings and reasons, verdicts and cases. Raises `NotFound`."""
        return lookup.parcel(self._desk, who, parcel)

    def cases(
        self,
        who: Who,
        state: str | None = None,
        region: str | None = None,
        *,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """The asker's cases, newest first."""
        return lookup.cases(self._desk, who, state, region, limit=limit, after=after)

    def case(self, who: Who, case_id: str) -> CaseDetail:
        """One case with history, photos, verdicts, and what the asker may do next. Raises `NotFound`."""
        return lookup.case(self._desk, who, case_id)

    def counts(self, who: Who) -> dict[str, dict[str, int]]:
        """How many cases stand in which state, and how many parcels show which status."""
        return lookup.counts(self._desk, who)

    def tasks(self, who: Who, *, limit: int = 50) -> tuple[Case, ...]:
        """The cases that wait for the asker, the most urgent first."""
        return lookup.tasks(self._desk, who, limit)

    def figures(self, who: Who) -> Figures:
        """What the loop has achieved in the asker's regions."""
        return figures.figures(self._desk, who)

    def remind(self) -> tuple[Reminder, ...]:
        """What has newly become late: at its term, at 120 and at 200 of 100 of it (rule L10). To be called daily."""
        return figures.remind(self._desk)

    def parcel_rows(self, region: str) -> list[dict[str, Any]]:
        """All parcels of a region and below as plain rows, by id: for packages that go back to it, not for a person."""
        return lookup.parcel_rows(self._desk, region)

    def case_rows(self, region: str) -> list[dict[str, Any]]:
        """All cases of a region and below with their histories, by id: for the same packages."""
        return lookup.case_rows(self._desk, region)

    def photo(self, who: Who, digest: str) -> tuple[Path, str]:
        """(file, media type) of a photo of one of the asker's parcels. Raises `NotFound`."""
        query = (
            select(evidence.c.media_type)
            .join(parcels, parcels.c.id == evidence.c.parcel)
            .where(evidence.c.photo_sha256 == digest, self._desk.seen_by(who, parcels.c.region))
        )
        with self._desk.reading() as db:
            media_type = db.execute(query.limit(1)).scalar_one_or_none()
        if media_type is None or not self._photos.path(digest).exists():
            raise NotFound("no such photo")
        return self._photos.path(digest), str(media_type)

    def refuse_sanction(self, who: Who, parcel: str) -> NoReturn:
        """Whoever asks to fine, or to stop a subsidy, because of what a satellite saw is told why not."""
        self.parcel(who, parcel)
        raise Refused(
            f"a finding on parcel {parcel} is a clue: it cannot be the ground of a sanction or of stopping a subsidy. "
            "Issue a case and have the place visited",
            rule="L1",
            source="自然资发〔2023〕258号",
        )

    # -- from clue to visit --------------------------------------------------------------------------------------

    def open_case(self, who: Who, parcel: str) -> Case:
        """Open a candidate on a parcel by hand. Its newest finding must call it abandoned, and visibly so (rule L1)."""
        with self._engine.begin() as db:
            row = db.execute(select(parcels).where(parcels.c.id == parcel)).mappings().one_or_none()
            if row is None or not self._desk.sees(db, who, row["region"]):
                raise NotFound(f"no parcel {parcel!r}")
            if not self._desk.holds(db, who, row["region"], Role.ADMIN, Role.ANALYST):
                raise Forbidden(f"to open a case in {row['region']} needs the role analyst there")
            open_now = records.open_case_on(db, parcel)
            if open_now is not None:
                raise Conflict(f"case {open_now} is open on parcel {parcel}", case=open_now)
            seen = db.execute(select(detections).where(detections.c.id == row["detection"])).mappings().one_or_none()
            if seen is None or seen["class_name"] != "abandoned" or seen["observability"] == "not_observable":
                raise Refused(
                    f"parcel {parcel} is not seen as abandoned: only such a finding opens a candidate", rule="L1"
                )
            clue = intake.Clue(parcel, row["region"], seen["id"], seen["crop_year"], seen["probability"])
            number = intake.open_candidate(self._desk, db, clue, who.id)
            return self._found(db, number)

    def issue(self, who: Who, case_id: str, *, collector: str | None = None, despite: str = "") -> Case:
        """Send somebody out, or anybody of the place when no `collector` is named.

        Refused while valid evidence of the last days already lies there (rule L2; `despite` says why to go anyway), and
        when the region's budget of the month is used up (rule L3).
        """

        def prepare(db: Connection, case: Case) -> dict[str, Any]:
            if self._desk.holds(db, who, case.region, Role.AUDITOR):
                raise Forbidden("who audits a region issues no cases in it", code="two_persons", rule="L6")
            self._refuse_needless(db, case, despite)
            self._refuse_over_budget(db, case)
            now = self._clock()
            term = due(now, self._rules.visit_days, self._rules)
            return {"issuer": who.id, "collector": collector, "issued_ms": now, "due_ms": term}

        return self._move(who, case_id, Action.ISSUE, note=despite, prepare=prepare)

    def accept(self, who: Who, case_id: str) -> Case:
        """Take the visit on oneself (or go again after the reviewer sent it back)."""

        def prepare(_db: Connection, case: Case) -> dict[str, Any]:
            self._must_be_collector(who, case)
            return {"collector": who.id}

        return self._move(who, case_id, Action.ACCEPT, prepare=prepare)

    def refuse(self, who: Who, case_id: str, reason: str) -> Case:
        """Hand the case back because it is not one's task (rule L4: counted against the issuer)."""

        def prepare(_db: Connection, case: Case) -> dict[str, Any]:
            self._must_be_collector(who, case)
            return {"collector": None, "due_ms": None}

        return self._move(who, case_id, Action.REFUSE, note=_needed(reason, "a reason"), prepare=prepare)

    def add_evidence(self, who: Who, case_id: str, claim: Claim, photo: bytes) -> Evidence:
        """File a photo. Raises `Refused` or `Invalid` saying why it is no evidence; that is audited too."""
        with self._engine.begin() as db:
            case = self._visible(db, who, case_id)
            if not self._desk.holds(db, who, case.region, Role.ADMIN, Role.COLLECTOR):
                raise Forbidden(f"to file evidence in {case.region} needs the role collector there")
            self._must_be_collector(who, case)
            if case.state not in _COLLECTING:
                wanted = ", ".join(sorted(_COLLECTING))
                raise Conflict(f"a case that is {case.state} takes no evidence; it must be {wanted}")
            began = self._remedying_since(db, case) if case.state is State.REMEDYING else None
            spot = Spot(case.id, case.parcel, case.region, case.id, str(case.state), began)
            filed = attempt(self._desk, self._photos, db, who=who, spot=spot, claim=claim, content=photo)
        if isinstance(filed, CloudError):
            raise filed
        return filed

    def send_back(self, who: Who, case_id: str, reason: str) -> Case:
        """Ask for better evidence, of the state of the land or of the remedy."""

        def prepare(db: Connection, case: Case) -> dict[str, Any]:
            self._two_persons(db, who, case)
            return {}

        return self._move(who, case_id, Action.SEND_BACK, note=_needed(reason, "a reason"), prepare=prepare)

    # -- from verdict to closing ---------------------------------------------------------------------------------

    def verify(self, who: Who, case_id: str, kind: VerdictKind, *, evidence: Collection[str], note: str = "") -> Case:
        """Sign what was found. Needs at least one valid photo of the parcel, and a signer who took none of them."""

        def prepare(db: Connection, case: Case) -> dict[str, Any]:
            self._two_persons(db, who, case, evidence)
            self._sign(db, who, case, kind, evidence, note)
            term = due(self._clock(), self._rules.review_days, self._rules)
            return {"verdict": str(kind), "due_ms": term}

        return self._move(who, case_id, Action.VERIFY, note=note, detail={"verdict": str(kind)}, prepare=prepare)

    def plan_remedy(self, who: Who, case_id: str, plan: str) -> Case:
        """Say what shall be done on land that a person found abandoned."""

        def prepare(_db: Connection, case: Case) -> dict[str, Any]:
            if case.verdict not in ABANDONED:
                raise Refused(f"the verdict is {case.verdict}: there is nothing to remedy, close the case", rule="L1")
            return {"due_ms": due(self._clock(), self._rules.remedy_days, self._rules)}

        return self._move(who, case_id, Action.PLAN_REMEDY, note=_needed(plan, "a plan"), prepare=prepare)

    def start_remedy(self, who: Who, case_id: str) -> Case:
        """Work on the land has begun."""

        def prepare(_db: Connection, case: Case) -> dict[str, Any]:
            self._must_be_collector(who, case)
            return {"remedying_ms": self._clock()}

        return self._move(who, case_id, Action.START_REMEDY, prepare=prepare)

    def submit(self, who: Who, case_id: str, note: str = "") -> Case:
        """Report the remedy done. Needs a photo taken since it began."""

        def prepare(db: Connection, case: Case) -> dict[str, Any]:
            self._must_be_collector(who, case)
            if not self._since_remedy(db, case):
                raise Refused("no photo since the remedy began: show what was done", code="evidence_needed", rule="L5")
            return {"due_ms": due(self._clock(), self._rules.review_days, self._rules)}

        return self._move(who, case_id, Action.SUBMIT, note=note, prepare=prepare)

    def review(self, who: Who, case_id: str, recovery: Recovery, note: str = "") -> Case:
        """Sign that the land is worked again. On permanent basic farmland only tillage crops count (rule L7)."""

        def prepare(db: Connection, case: Case) -> dict[str, Any]:
            shown = self._since_remedy(db, case)
            self._two_persons(db, who, case, shown)
            basic = db.execute(select(parcels.c.basic_farmland).where(parcels.c.id == case.parcel)).scalar_one()
            if basic and recovery not in _TILLED:
                raise Refused(
                    f"permanent basic farmland cannot be closed with {recovery}: a tillage crop is needed", rule="L7"
                )
            self._sign(db, who, case, VerdictKind.CULTIVATED, shown, f"{recovery}: {note}".rstrip(": "))
            return {}

        return self._move(who, case_id, Action.REVIEW, note=note, detail={"recovery": str(recovery)}, prepare=prepare)

    def close(self, who: Who, case_id: str, note: str = "") -> Case:
        """Strike the case off. It will be looked at again next season (rule L8)."""

        def prepare(db: Connection, case: Case) -> dict[str, Any]:
            self._two_persons(db, who, case)
            if case.state is State.VERIFIED and case.verdict in ABANDONED:
                raise Refused(f"the verdict is {case.verdict}: plan a remedy first", rule="L1")
            now = self._clock()
            return {"closed_ms": now, "due_ms": None, "recheck_ms": now + self._rules.recheck_days * _DAY_MS}

        return self._move(who, case_id, Action.CLOSE, note=note, prepare=prepare)

    def reopen(self, who: Who, case_id: str, reason: str) -> Case:
        """Look at a closed case again. The earlier verdict stays in the history and stands until a new one."""
        fresh = {"closed_ms": None, "recheck_ms": None, "collector": None, "verdict": None, "remedying_ms": None}
        return self._move(
            who, case_id, Action.REOPEN, note=_needed(reason, "a reason"), prepare=lambda _db, _case: dict(fresh)
        )

    # -- beside the way ------------------------------------------------------------------------------------------

    def dispute(self, who: Who, case_id: str, reason: str) -> Case:
        """Object to a verdict; nothing goes on until somebody settles it."""
        return self._move(who, case_id, Action.DISPUTE, note=_needed(reason, "a reason"))

    def settle(self, who: Who, case_id: str, *, upheld: bool, reason: str) -> Case:
        """Decide a dispute: upheld, the verdict is withdrawn and the place visited again; else it stands."""

        def prepare(db: Connection, case: Case) -> dict[str, Any]:
            self._two_persons(db, who, case)
            if not upheld:
                return {}
            standing = verdicts.c.case == case.id, verdicts.c.withdrawn_ms.is_(None)
            db.execute(update(verdicts).where(*standing).values(withdrawn_ms=self._clock()))
            return {"verdict": None}

        action = Action.UPHOLD if upheld else Action.OVERRULE
        return self._move(who, case_id, action, note=_needed(reason, "a reason"), prepare=prepare)

    def escalate(self, who: Who, case_id: str, reason: str) -> Case:
        """Take a stuck case back up, to be issued to somebody else."""
        return self._move(who, case_id, Action.ESCALATE, note=_needed(reason, "a reason"))

    def merge(self, who: Who, case_id: str, into: str) -> Case:
        """Fold a case into another one that the asker sees too."""

        def prepare(db: Connection, case: Case) -> dict[str, Any]:
            other = self._visible(db, who, into)
            if other.id == case.id or other.state is State.MERGED:
                raise Conflict(f"case {case.id} cannot be merged into {into}")
            return {"merged_into": other.id, "due_ms": None}

        return self._move(who, case_id, Action.MERGE, detail={"into": into}, prepare=prepare)

    # -- the audit -----------------------------------------------------------------------------------------------

    def draw_audit(self, who: Who, region: str, *, per_stratum: int = 30) -> Round:
        """Draw a random sample of all parcels of a region, by what the map shows, to be visited blind (rule L9)."""
        return blind.draw_round(self._desk, who, region, per_stratum)

    def audit_visits(self, who: Who, *, limit: int = 100) -> tuple[Visit, ...]:
        """Where the asker should still go for an audit; what the map shows there is not told."""
        return blind.todo(self._desk, who, limit)

    def record_audit(self, who: Who, visit: str, found: VerdictKind, claim: Claim, photo: bytes) -> Evidence:
        """Say what stands there, with a photo. Moves no case: it measures the map."""
        return blind.record(self._desk, self._photos, who, visit, found=found, claim=claim, content=photo)

    def audit_report(self, who: Who, number: str) -> Report:
        """The abandoned area with its interval, or what is missing to tell it."""
        return blind.report(self._desk, who, number)

    # -- inside --------------------------------------------------------------------------------------------------

    def _move(
        self,
        who: Who,
        case_id: str,
        action: Action,
        *,
        note: str = "",
        detail: Mapping[str, Any] | None = None,
        prepare: Prepare | None = None,
    ) -> Case:
        if len(note) > _LONGEST_NOTE:
            raise Invalid(f"a note has at most {_LONGEST_NOTE} characters", pointer="/note")
        with self._engine.begin() as db:
            case = self._visible(db, who, case_id)
            self._desk.let(db, who, case, action)
            after = moved(case.state, action)
            values = prepare(db, case) if prepare else {}
            now = self._clock()
            values |= {"state": str(after), "changed_ms": now, "reminder": 0, "version": case.version + 1}
            db.execute(update(cases).where(cases.c.id == case.id).values(**values))
            entry = {"at_ms": now, "who": who.id, "action": str(action), "before": str(case.state), "after": str(after)}
            body = json.dumps(dict(detail or {}), ensure_ascii=False, sort_keys=True)
            records.add_step(db, case.id, entry | {"note": note, "detail": body})
            intake.show(db, case.parcel)
            noted = {"before": str(case.state), "after": str(after), "note": note} | dict(detail or {})
            self._desk.audit(db, who.id, f"case.{action}", case.id, noted, case.region)
            return self._found(db, case.id)

    def _visible(self, db: Connection, who: Who, case_id: str) -> Case:
        case = records.find_case(db, case_id, lock=True)
        if case is None or not self._desk.sees(db, who, case.region):
            raise no_case(case_id)
        return case

    def _found(self, db: Connection, case_id: str) -> Case:
        case = records.find_case(db, case_id)
        if case is None:
            raise no_case(case_id)
        return case

    def _must_be_collector(self, who: Who, case: Case) -> None:
        if case.collector is not None and case.collector != who.id:
            raise Forbidden(f"case {case.id} is assigned to somebody else")

    def _two_persons(self, db: Connection, who: Who, case: Case, used: Collection[str] = ()) -> None:
        """Who collected for a case, or took a photo that is used in it, judges nothing in it (rule L6)."""
        collected = {photo.collector for photo in records.evidence_of(db, case.id)} | {case.collector}
        if used:
            collected |= set(db.execute(select(evidence.c.collector).where(evidence.c.id.in_(sorted(used)))).scalars())
        if who.id in collected:
            raise Forbidden(
                "who collected the evidence does not judge it: another person must", code="two_persons", rule="L6"
            )

    def _refuse_needless(self, db: Connection, case: Case, despite: str) -> None:
        since = self._clock() - self._rules.reuse_days * _DAY_MS
        there = [photo.id for photo in records.evidence_on(db, case.parcel, since) if photo.case != case.id]
        if there and not despite:
            raise Refused(
                f"{len(there)} valid photo(s) of the last {self._rules.reuse_days} days show parcel {case.parcel} "
                "already: verify with them, or say why somebody must go",
                code="evidence_exists",
                rule="L2",
                evidence=there,
            )

    def _refuse_over_budget(self, db: Connection, case: Case) -> None:
        since = month_start_ms(self._clock())
        issued = db.execute(
            select(func.count())
            .select_from(steps.join(cases, cases.c.id == steps.c.case))
            .where(cases.c.region == case.region, steps.c.action == str(Action.ISSUE), steps.c.at_ms >= since)
        ).scalar_one()
        if issued >= self._rules.issues_per_region_month:
            raise TooMany(
                f"{issued} cases were issued in {case.region} this month; more cannot be visited. "
                "The candidates stay visible",
                rule="L3",
            )

    def _remedying_since(self, db: Connection, case: Case) -> int | None:
        began: int | None = db.execute(select(cases.c.remedying_ms).where(cases.c.id == case.id)).scalar_one()
        return began

    def _since_remedy(self, db: Connection, case: Case) -> tuple[str, ...]:
        began = self._remedying_since(db, case)
        shown = [photo for photo in records.evidence_of(db, case.id) if photo.phase == State.REMEDYING]
        return tuple(photo.id for photo in shown if began is not None and photo.taken_ms >= began)

    def _sign(self, db: Connection, who: Who, case: Case, kind: VerdictKind, used: Collection[str], note: str) -> None:
        photos = self._valid(db, case, used)
        now = self._clock()
        content = {
            "case": case.id,
            "parcel": case.parcel,
            "signer": who.id,
            "at_ms": now,
            "kind": str(kind),
            "crop_year": case.crop_year,
            "evidence": sorted(photos),
            "photos": sorted(photos.values()),
            "note": note,
        }
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        number, digest = uuid.uuid4().hex, sha256(text.encode()).hexdigest()
        row = {key: content[key] for key in ("case", "parcel", "signer", "at_ms", "kind", "crop_year", "note")}
        db.execute(insert(verdicts).values(id=number, **row, evidence=json.dumps(sorted(photos)), digest=digest))
        signed = {"verdict": number, "kind": str(kind), "digest": digest}
        self._desk.audit(db, who.id, "verdict.signed", case.id, signed, case.region)

    def _valid(self, db: Connection, case: Case, used: Collection[str]) -> dict[str, str]:
        """Photo hashes by evidence id: of this case, or of another on the same parcel if recent (rule L2)."""
        now = self._clock()
        own, other = now - self._rules.evidence_age_days * _DAY_MS, now - self._rules.reuse_days * _DAY_MS
        usable = {
            photo.id: photo.photo_sha256
            for photo in records.evidence_on(db, case.parcel, min(own, other))
            if photo.taken_ms >= (own if photo.case == case.id else other)
        }
        strange = sorted(set(used) - set(usable))
        if strange:
            raise Refused(f"{strange[0]} is no valid evidence for case {case.id}", code="evidence_invalid", rule="L1")
        if not used:
            raise Refused(
                "a verdict needs at least one valid photo; a finding from above is not evidence",
                code="evidence_needed",
                rule="L1",
            )
        return {key: usable[key] for key in used}


def _needed(text: str, what: str) -> str:
    text = text.strip()
    if not text:
        raise Invalid(f"{what} is needed", pointer="/note")
    return text
