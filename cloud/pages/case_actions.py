"""What a person may do to a case, as plain forms: which ones, what was typed, and what the land service says to it.

Every form posts to `/console/cases/{case}/{action}`; the same service judges it as judges the API. What it refuses
comes back as the same page with the reason beside the form and everything typed still in it. Nothing needs a script.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.datastructures import FormData, UploadFile

from cloud.land import Action, Case, CaseDetail, Claim, State, VerdictKind
from cloud.land.model import Evidence, Recovery
from cloud.pages.speech import CHINA
from cloud.problems import CloudError, Invalid, NotFound
from cloud.who import Role, Who

if TYPE_CHECKING:
    from cloud.land import Land

__all__ = ["DATUMS", "EVIDENCE", "Failure", "Forms", "act", "explain", "forms_of", "taken_ms"]

_Kind = TypeVar("_Kind", VerdictKind, Recovery)
EVIDENCE: Final = "evidence"
DATUMS: Final = ("WGS84", "CGCS2000", "GCJ-02", "BD-09")
_COLLECTING: Final = frozenset({State.ACCEPTED, State.RETURNED, State.REMEDYING})
_NEEDS_REASON: Final = frozenset(
    {
        Action.REFUSE,
        Action.SEND_BACK,
        Action.PLAN_REMEDY,
        Action.REOPEN,
        Action.DISPUTE,
        Action.UPHOLD,
        Action.OVERRULE,
        Action.ESCALATE,
    }
)
_NO_NOTE: Final = frozenset({Action.ACCEPT, Action.START_REMEDY, Action.MERGE})
_MINUTE_TEXT: Final = len("2026-11-22T09:30")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a form was not accepted. `key` names the plain sentence, `detail` is what the service said."""

    action: str
    key: str
    detail: str
    status: int
    typed: Mapping[str, str] = field(default_factory=dict)
    chosen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Forms:
    """The forms of one case for one person, and what their lists offer."""

    actions: tuple[str, ...]
    photos: tuple[Evidence, ...]
    failure: Failure | None
    now: str
    reasons: frozenset[str] = frozenset(map(str, _NEEDS_REASON))
    bare: frozenset[str] = frozenset(map(str, _NO_NOTE))
    kinds: tuple[str, ...] = tuple(map(str, VerdictKind))
    recoveries: tuple[str, ...] = tuple(map(str, Recovery))
    datums: tuple[str, ...] = DATUMS

    def typed(self, action: str, name: str, otherwise: str = "") -> str:
        """What stands in a field: what was typed into the form that failed, else a first value."""
        if self.failure is None or self.failure.action != action:
            return otherwise
        return self.failure.typed.get(name, otherwise)

    def ticked(self, photo: str) -> bool:
        """Whether a photo is chosen for the verdict; at first all are."""
        return self.failure is None or self.failure.action != Action.VERIFY or photo in self.failure.chosen


def forms_of(
    land: "Land", who: Who, detail: CaseDetail, covers: Callable[[str, str], bool], failure: Failure | None
) -> Forms:
    """The forms that fit the case's state and the asker's roles. Who collected and may not judge is told on trying."""
    actions = list(map(str, detail.actions))
    if _may_file(who, detail.case, covers):
        actions.insert(0, EVIDENCE)
    photos: tuple[Evidence, ...] = ()
    if Action.VERIFY in detail.actions:
        photos = detail.evidence + _other_photos(land, who, detail)
    now = datetime.fromtimestamp(land.now() / 1000, CHINA)
    return Forms(tuple(actions), photos, failure, now.strftime("%Y-%m-%dT%H:%M:%S"))


def act(land: "Land", who: Who, case: str, action: str, form: FormData) -> None:
    """Do what a form asks for. Raises `NotFound` for an action nobody knows, else whatever the service objects to."""
    if action == EVIDENCE:
        _file(land, who, case, form)
        return
    note = _text(form, "note")
    steps: Mapping[str, Callable[[], object]] = {
        Action.ISSUE: lambda: land.issue(who, case, collector=_text(form, "collector") or None, despite=note),
        Action.ACCEPT: lambda: land.accept(who, case),
        Action.REFUSE: lambda: land.refuse(who, case, note),
        Action.SEND_BACK: lambda: land.send_back(who, case, note),
        Action.VERIFY: lambda: land.verify(who, case, _kind(form), evidence=_texts(form, "photo"), note=note),
        Action.PLAN_REMEDY: lambda: land.plan_remedy(who, case, note),
        Action.START_REMEDY: lambda: land.start_remedy(who, case),
        Action.SUBMIT: lambda: land.submit(who, case, note),
        Action.REVIEW: lambda: land.review(who, case, _recovery(form), note),
        Action.CLOSE: lambda: land.close(who, case, note),
        Action.REOPEN: lambda: land.reopen(who, case, note),
        Action.DISPUTE: lambda: land.dispute(who, case, note),
        Action.UPHOLD: lambda: land.settle(who, case, upheld=True, reason=note),
        Action.OVERRULE: lambda: land.settle(who, case, upheld=False, reason=note),
        Action.ESCALATE: lambda: land.escalate(who, case, note),
        Action.MERGE: lambda: land.merge(who, case, _text(form, "into")),
    }
    if action not in steps:
        raise NotFound(f"no action {action[:40]!r}")
    steps[action]()


def explain(action: str, error: CloudError, status: int, form: FormData) -> Failure:
    """A refusal, with what was typed. A photo cannot be put back into its field: browsers forbid it."""
    typed = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    where = (error.pointer or "").strip("/")
    key = f"{error.code}_{where}" if error.code == "invalid" and where else error.code
    return Failure(action, key, error.detail, status, typed, frozenset(_texts(form, "photo")))


def taken_ms(text: str, now_ms: int) -> int:
    """The last moment that a local (China) time to the minute or second may mean, ms UTC, but none to come.

    Raises `Invalid` for what is no time. A form knows seconds at best, and a photo taken in the second after the remedy
    began must not count as taken before it.
    """
    try:
        at = datetime.fromisoformat(text).replace(tzinfo=CHINA)
    except ValueError as why:
        raise Invalid(f"taken: {text[:40]!r} is no date and time", pointer="/taken") from why
    step = timedelta(minutes=1) if len(text) <= _MINUTE_TEXT else timedelta(seconds=1)
    begun, ended = (int(moment.timestamp() * 1000) for moment in (at, at + step))
    return max(begun, min(ended - 1, now_ms))


def _may_file(who: Who, case: Case, covers: Callable[[str, str], bool]) -> bool:
    ours = case.collector is None or case.collector == who.id
    held = who.regions(Role.ADMIN, Role.COLLECTOR)
    return case.state in _COLLECTING and ours and any(covers(region, case.region) for region in held)


def _other_photos(land: "Land", who: Who, detail: CaseDetail) -> tuple[Evidence, ...]:
    """Valid photos of the same parcel from other tasks: one visit may serve twice."""
    there = land.parcel(who, detail.case.parcel)["evidence"]
    return tuple(Evidence(**photo) for photo in there if photo["case"] != detail.case.id)


def _file(land: "Land", who: Who, case: str, form: FormData) -> None:
    photo = form.get("photo")
    if not isinstance(photo, UploadFile) or not photo.filename:
        raise Invalid("photo: choose a photo first", pointer="/photo")
    claim = Claim(
        lon=_number(form, "lon"),
        lat=_number(form, "lat"),
        datum=_text(form, "datum"),
        taken_ms=taken_ms(_text(form, "taken"), land.now()),
        view=_text(form, "view") or "overview",
        accuracy_m=_number(form, "accuracy_m") if _text(form, "accuracy_m") else None,
        azimuth_deg=_number(form, "azimuth_deg") if _text(form, "azimuth_deg") else None,
    )
    land.add_evidence(who, case, claim, photo.file.read(land.photo_limit + 1))


def _kind(form: FormData) -> VerdictKind:
    return _one_of(VerdictKind, form, "kind")


def _recovery(form: FormData) -> Recovery:
    return _one_of(Recovery, form, "recovery")


def _one_of(kinds: type[_Kind], form: FormData, name: str) -> _Kind:
    text = _text(form, name)
    try:
        return kinds(text)
    except ValueError as why:
        raise Invalid(f"{name}: choose one of {', '.join(kinds)}", pointer=f"/{name}") from why


def _number(form: FormData, name: str) -> float:
    text = _text(form, name)
    try:
        value = float(text)
    except ValueError as why:
        raise Invalid(f"{name}: {text[:40]!r} is no number", pointer=f"/{name}") from why
    if not math.isfinite(value):
        raise Invalid(f"{name}: {text[:40]!r} is no number", pointer=f"/{name}")
    return value


def _text(form: FormData, name: str) -> str:
    value: Any = form.get(name)
    return value.strip() if isinstance(value, str) else ""


def _texts(form: FormData, name: str) -> list[str]:
    return [value for value in form.getlist(name) if isinstance(value, str)]
