"""EPCIS 2.0 event queries: what the parameters mean, and which of them the store can answer by an index.

`EventQuery.parse` takes the parameters of a URL (lists separated by "|") or of a query document and refuses what it
does not know: a filter that is silently ignored is how wrong recalls are made. Times, type, id and things become SQL;
everything else is a predicate over the event's JSON, asked row by row in the order of the answer. Names are compared in
canonical form (`traceability.epc_uris`), so that a URN finds the Digital Link of the same thing; a name ending in "*"
matches by its beginning.

Two parameters are ours: `as_of` (a time: answer as the repository would have then) and `mode` (`current`, the default,
leaves out events declared wrong; `all` shows them and their declarations).

Source: EPCIS 2.0 §8.2.7.1 (simple event query), §12.6 (REST binding).
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from cloud.problems import Invalid
from traceability.epc_uris import canonical_event_id, canonical_name
from traceability.epcis_checks import read_time
from traceability.epcis_shape import check_query

__all__ = ["EventQuery"]

Body = Mapping[str, Any]
Predicate = Callable[[Body], bool]
Finder = Callable[[Body], list[Any]]

MOST_PER_PAGE: Final = 1_000
_PAGING: Final = frozenset({"perPage", "nextPageToken", "as_of", "mode", "orderBy", "orderDirection"})
_LIMITS: Final = frozenset({"eventCountLimit", "maxEventCount"})
# The REST binding and the query language write these two differently.
_SPELLINGS: Final = {f"{c}_errorDeclarationTime": f"{c}_errorDeclaration_Time" for c in ("GE", "LT")}
_WHOLE: Final = re.compile(r"-?\d+", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][+-]?\d{1,2})?", re.ASCII)
_LONGEST: Final = 18  # digits of a number that every database holds
_SCALARS: Final = (str, int, float)
_TIMES: Final = {
    "GE_eventTime": ("when_ms", 1),
    "LT_eventTime": ("when_ms", -1),
    "GE_recordTime": ("recorded_ms", 1),
    "LT_recordTime": ("recorded_ms", -1),
}
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "GT": lambda a, b: a > b,
    "GE": lambda a, b: a >= b,
    "LT": lambda a, b: a < b,
    "LE": lambda a, b: a <= b,
}
# MATCH parameter -> the lists of single things and of lots in which it looks.
_MATCH: Final = {
    "epc": ("epcList", "childEPCs"),
    "parentID": ("parentID",),
    "inputEPC": ("inputEPCList",),
    "outputEPC": ("outputEPCList",),
    "anyEPC": ("epcList", "childEPCs", "inputEPCList", "outputEPCList", "parentID"),
    "epcClass": ("quantityList", "childQuantityList"),
    "inputEPCClass": ("inputQuantityList",),
    "outputEPCClass": ("outputQuantityList",),
    "anyEPCClass": ("quantityList", "childQuantityList", "inputQuantityList", "outputQuantityList"),
}
_QUANTITIES: Final = _MATCH["anyEPCClass"]


@dataclass(frozen=True)
class EventQuery:
    """A query: limits the store knows, predicates it does not, order and page.

    `seen`: how many events earlier pages held. `known_before_ms`: the answer is what was known then; None: now.
    """

    when_ms: tuple[int | None, int | None] = (None, None)
    recorded_ms: tuple[int | None, int | None] = (None, None)
    kinds: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    things: tuple[tuple[str, ...], ...] = ()
    predicates: tuple[Predicate, ...] = field(default=(), repr=False)
    by: str = "recorded_ms"
    descending: bool = True
    per_page: int = 30
    limit: int | None = None
    most: int | None = None
    after: tuple[int, int] | None = None
    seen: int = 0
    known_before_ms: int | None = None
    mode: str = "current"

    @classmethod
    def parse(cls, parameters: Mapping[str, Sequence[str]]) -> "EventQuery":
        """A query of URL parameters. Raises `Invalid` with a pointer to the first parameter that is not one."""
        own = {name: _one(name, values) for name, values in parameters.items() if name in _PAGING | _LIMITS}
        given = {_SPELLINGS.get(name, name): values for name, values in parameters.items() if name not in own}
        asked = {name: _typed(name, values) for name, values in given.items()}
        _refuse_what_is_none(asked, own)
        known_before = _moment(own.get("as_of"))
        after, seen = _token(own.get("nextPageToken"))
        return cls(
            when_ms=_span(asked, "when_ms"),
            recorded_ms=_earlier(_span(asked, "recorded_ms"), known_before),
            kinds=tuple(asked.get("eventType", ())),
            ids=tuple(map(canonical_event_id, asked.get("EQ_eventID", ()))),
            things=_indexed(asked),
            predicates=tuple(_predicate(name, value) for name, value in asked.items() if name not in _BY_STORE),
            by=_order(own.get("orderBy", "recordTime")),
            descending=_direction(own.get("orderDirection", "DESC")),
            per_page=_whole("perPage", own.get("perPage", "30"), 1, MOST_PER_PAGE),
            limit=_limit(own.get("eventCountLimit"), "eventCountLimit"),
            most=_limit(own.get("maxEventCount"), "maxEventCount"),
            after=after,
            seen=seen,
            known_before_ms=known_before,
            mode=_mode(own.get("mode", "current")),
        )

    def accepts(self, body: Body) -> bool:
        """Whether an event passes everything that the store could not ask."""
        return all(predicate(body) for predicate in self.predicates)


_BY_STORE: Final = frozenset({*_TIMES, "eventType", "EQ_eventID", "@context"})


def _refuse_what_is_none(asked: Mapping[str, Any], own: Mapping[str, str]) -> None:
    for problem in check_query(asked) or ():
        raise Invalid(f"{problem.pointer} {problem.message}", code="bad_query", pointer=f"/query{problem.pointer}")
    for name in asked:
        if name.startswith(("HASATTR_", "EQ_ATTR_")):
            raise Invalid(
                f"{name} asks for master data, which this repository does not keep: ask for a field of the events",
                code="no_master_data",
                pointer=f"/query/{name}",
            )
    if own.keys() >= _LIMITS:
        raise Invalid("eventCountLimit and maxEventCount exclude each other", code="bad_query", pointer="/query")


def _one(name: str, values: Sequence[str]) -> str:
    if len(values) != 1:
        raise Invalid(f"{name} stands {len(values)} times", code="bad_query", pointer=f"/query/{name}")
    return values[0]


def _typed(name: str, values: Sequence[str]) -> Any:
    """The value of a URL parameter in the form that a query document would have."""
    text = _one(name, values)
    if name.startswith("EXISTS_"):
        return None
    if name.startswith(("GT_", "GE_", "LT_", "LE_")):
        return _number(text) if _is_number(text) else text
    if name == "EQ_booleanValue":
        return {"true": True, "false": False}.get(text, text)
    parts = text.split("|") if text else []
    if name.startswith(("EQ_quantity", "EQ_value_")) and all(map(_is_number, parts)):
        return [_number(part) for part in parts]
    return parts


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _number(text: str) -> int | float:
    return int(text) if _WHOLE.fullmatch(text) else float(text)


def _whole(name: str, text: str, low: int, high: int) -> int:
    if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
        raise Invalid(f"{name} must be a whole number in {low}..{high}", code="bad_query", pointer=f"/query/{name}")
    return int(text)


def _limit(text: str | None, name: str) -> int | None:
    return None if text is None else _whole(name, text, 0, 1_000_000_000)


def _order(text: str) -> str:
    columns = {"eventTime": "when_ms", "recordTime": "recorded_ms"}
    if text not in columns:
        raise Invalid(f"events can be ordered by {' or '.join(columns)}", code="bad_query", pointer="/query/orderBy")
    return columns[text]


def _direction(text: str) -> bool:
    if text not in {"ASC", "DESC"}:
        raise Invalid("orderDirection is ASC or DESC", code="bad_query", pointer="/query/orderDirection")
    return text == "DESC"


def _mode(text: str) -> str:
    if text not in {"current", "all"}:
        raise Invalid("mode is current or all", code="bad_query", pointer="/query/mode")
    return text


def _token(text: str | None) -> tuple[tuple[int, int] | None, int]:
    if text is None:
        return None, 0
    parts = text.split(".")
    if len(parts) != 3 or not all(_WHOLE.fullmatch(part) and len(part) < _LONGEST for part in parts):  # noqa: PLR2004
        raise Invalid("the page token is not one of ours", code="bad_query", pointer="/query/nextPageToken")
    key, place, seen = map(int, parts)
    return (key, place), seen


def _span(asked: Mapping[str, Any], column: str) -> tuple[int | None, int | None]:
    found: dict[int, int] = {}
    for name, (of, side) in _TIMES.items():
        if of == column and name in asked:
            found[side] = _ms(asked[name])
    return found.get(1), found.get(-1)


def _moment(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return _ms(text) + 1
    except ValueError as why:
        raise Invalid("as_of must be a date and time with its zone", code="bad_query", pointer="/query/as_of") from why


def _earlier(span: tuple[int | None, int | None], moment: int | None) -> tuple[int | None, int | None]:
    ends = [end for end in (span[1], moment) if end is not None]
    return span[0], min(ends, default=None)


def _ms(text: str) -> int:
    return round(read_time(text).timestamp() * 1000)


def _indexed(asked: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """One group of canonical names for each MATCH parameter without a wildcard; the event must touch one of each."""
    groups = [value for name, value in asked.items() if name.startswith("MATCH_")]
    return tuple(tuple(map(canonical_name, names)) for names in groups if not any("*" in name for name in names))


# -- predicates --------------------------------------------------------------------------------------------------------


def _predicate(name: str, value: Any) -> Predicate:
    comparison, _, rest = name.partition("_")
    if comparison == "MATCH":
        return _touches(_MATCH[rest], value)
    find = _finder(rest)
    if comparison == "EXISTS":
        return lambda body: bool(find(body))
    if comparison in _COMPARE:
        return _measure(_COMPARE[comparison], find, value)
    if comparison == "WD":
        return lambda body: any(_below(found, value) for found in find(body))
    wanted = frozenset(form for each in (value if isinstance(value, list) else [value]) for form in _forms(each))
    # An own field may hold an object or a list: that equals no text and no number.
    return lambda body: any(isinstance(found, _SCALARS) and _plain(found) in wanted for found in find(body))


def _forms(asked: Any) -> Iterator[Any]:
    """What a value asked for may look like in an event: a parameter of a URL is text, a field may be a number."""
    yield _plain(asked)
    if isinstance(asked, str):
        if _is_number(asked):
            yield _number(asked)
        with contextlib.suppress(ValueError):
            yield _Instant(_ms(asked))


class _Instant(NamedTuple):
    """A moment: two spellings of one, in different zones, are equal."""

    ms: int


def _touches(lists: Iterable[str], names: Sequence[str]) -> Predicate:
    exact = frozenset(canonical_name(name) for name in names if not name.endswith("*"))
    starts = tuple(name[:-1].replace(":idpat:", ":id:") for name in names if name.endswith("*"))

    def touches(body: Body) -> bool:
        found = [thing for each in lists for thing in _things(body.get(each))]
        return any(canonical_name(thing) in exact or (starts and thing.startswith(starts)) for thing in found)

    return touches


def _things(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item if isinstance(item, str) else str(item.get("epcClass", "")) for item in value or ()]


def _below(place: Any, wanted: Sequence[str]) -> bool:
    return any(str(place) == each or str(place).startswith(each.rstrip("/") + "/") for each in wanted)


def _measure(compare: Callable[[float, float], bool], find: Finder, limit: Any) -> Predicate:
    """A comparison: of numbers where the limit is one, else of times."""
    bound = float(limit) if isinstance(limit, int | float) else float(_ms(str(limit)))
    timed = not isinstance(limit, int | float)

    def holds(body: Body) -> bool:
        return any(compare(found, bound) for found in map(_as_number(timed=timed), find(body)) if found is not None)

    return holds


def _as_number(*, timed: bool) -> Callable[[Any], float | None]:
    def read(value: Any) -> float | None:
        if timed and isinstance(value, str):
            try:
                return float(_ms(value))
            except ValueError:
                return None
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and not timed else None

    return read


_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]")


def _plain(value: Any) -> Any:
    """A value in the form that is compared: a word of the standard without its prefix, a name canonical."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    if _STAMP.match(value):
        with contextlib.suppress(ValueError):
            return _Instant(_ms(value))
    word = re.fullmatch(
        r"(?:urn:epcglobal:cbv:(?:bizstep|disp|er|btt|sdt):|https://ref\.gs1\.org/cbv/\w+-|cbv:\w+-|gs1:)(.+)", value
    )
    return word.group(1) if word else canonical_name(value)


def _reports(body: Body) -> list[Any]:
    return [report for each in body.get("sensorElementList") or () for report in each.get("sensorReport") or ()]


def _metadata(body: Body) -> list[Any]:
    return [each.get("sensorMetadata") or {} for each in body.get("sensorElementList") or ()]


def _quantities(body: Body) -> list[Any]:
    return [each for name in _QUANTITIES for each in body.get(name) or ()]


_PLAIN_PATHS: Final[Mapping[str, Finder]] = {
    "readPoint": lambda body: _ids(body.get("readPoint")),
    "bizLocation": lambda body: _ids(body.get("bizLocation")),
    "persistentDisposition_set": lambda body: list((body.get("persistentDisposition") or {}).get("set") or ()),
    "persistentDisposition_unset": lambda body: list((body.get("persistentDisposition") or {}).get("unset") or ()),
    "errorReason": lambda body: _some((body.get("errorDeclaration") or {}).get("reason")),
    "correctiveEventID": lambda body: list((body.get("errorDeclaration") or {}).get("correctiveEventIDs") or ()),
    "errorDeclaration_Time": lambda body: _some((body.get("errorDeclaration") or {}).get("declarationTime")),
    "quantity": lambda body: _each(_quantities(body), "quantity"),
    # A measurement's type, not the event's.
    "type": lambda body: _each(_reports(body), "type"),
    **{
        name: partial(lambda name, body: _each([*_metadata(body), *_reports(body)], name), name)
        for name in ("time", "startTime", "endTime", "deviceID", "dataProcessingMethod", "bizRules")
    },
}
_INNER: Final[Mapping[str, Finder]] = {
    "ILMD_": lambda body: _some(body.get("ilmd")),
    "ERROR_DECLARATION_": lambda body: _some(body.get("errorDeclaration")),
    "SENSORELEMENT_": lambda body: list(body.get("sensorElementList") or ()),
    "SENSORMETADATA_": _metadata,
    "SENSORREPORT_": _reports,
    "readPoint_": lambda body: _some(body.get("readPoint")),
    "bizLocation_": lambda body: _some(body.get("bizLocation")),
}
_TYPED_LISTS: Final = {
    "bizTransaction_": ("bizTransactionList", "bizTransaction"),
    "source_": ("sourceList", "source"),
    "destination_": ("destinationList", "destination"),
}


def _finder(rest: str) -> Finder:
    """What looks up every value an event has under a parameter's name; it answers with none where there is none."""
    if rest in _PLAIN_PATHS:
        return _PLAIN_PATHS[rest]
    if ":" in rest:
        return _own_field(rest)
    for prefix, (listed, key) in _TYPED_LISTS.items():
        if rest.startswith(prefix):
            kind = _plain(rest.removeprefix(prefix))
            return lambda body: [e.get(key) for e in body.get(listed) or () if _plain(e.get("type")) == kind]
    name, _, unit = rest.partition("_")
    if name == "quantity":
        return lambda body: _each([each for each in _quantities(body) if each.get("uom") == unit], name)
    if unit or rest in _OF_REPORTS:
        return lambda body: _each([each for each in _reports(body) if not unit or each.get("uom") == unit], name)
    return lambda body: _some(body.get(rest))


_OF_REPORTS: Final = frozenset(
    ("percRank", "microorganism", "chemicalSubstance", "stringValue", "booleanValue", "hexBinaryValue", "uriValue")
)


def _own_field(rest: str) -> Finder:
    """A field in a namespace: of the event, or of the part of it that the name begins with; INNER_: at any depth."""
    deep = rest.startswith("INNER_")
    name = rest.removeprefix("INNER_")
    for prefix, inside in _INNER.items():
        if name.startswith(prefix):
            field_name = name.removeprefix(prefix)
            return lambda body: _named(inside(body), field_name, deep=deep)
    return lambda body: _named([body], name, deep=deep)


def _each(parts: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    return [part[name] for part in parts if name in part]


def _named(roots: list[Any], name: str, *, deep: bool) -> list[Any]:
    found: list[Any] = []
    for root in roots:
        if isinstance(root, Mapping):
            found += _some(root.get(name))
            if deep:
                found += _named(list(root.values()), name, deep=True)
        elif isinstance(root, list):
            found += _named(root, name, deep=deep)
    return found


def _ids(value: Any) -> list[Any]:
    return [value["id"]] if isinstance(value, Mapping) and "id" in value else []


def _some(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]
