"""Questions about readings, answered for people who may see only some regions.

`scope` is the set of region codes a person was granted, None inside the process. What lies outside it does not exist
for the asker: the same `NotFound` as for what never was.
"""

import hmac
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from threading import Event, Lock
from typing import Any, NamedTuple

import numpy as np
import orjson
from pydantic import TypeAdapter

from cloud.problems import Invalid, NotFound, TooLarge, Unauthenticated
from cloud.telemetry.answers import CHINA_MS, DAY_MS, Answers, maybe, series_cells
from cloud.telemetry.changes import change_gateway
from cloud.telemetry.cursors import after_conflict, after_event, after_letter
from cloud.telemetry.dead_letters import DeadLetters, Letter, Message
from cloud.telemetry.foreign import understood
from cloud.telemetry.pipeline import OnStored, Pipeline
from cloud.telemetry.registry import Gateway, Registry, Series
from cloud.telemetry.schemas import (
    ConflictView,
    DeadLetterView,
    DeadLetterWhole,
    EpochView,
    EventView,
    ExportWish,
    GatewayChange,
    GatewayView,
    Latest,
    Received,
    RegionStatistics,
    SensorView,
    SeriesPoints,
    SeriesView,
)
from cloud.telemetry.store import NO_VALUE_QUALITY, Arrival, Conflicting, Points, ReadingsStore, gather
from cloud.telemetry.together import Together
from cloud.who import Audit
from edge.wire import DEFAULT_LIMITS, PREFIX

__all__ = ["Scope", "Telemetry"]

Scope = frozenset[str] | None
Row = tuple[str, int, float | None]  # series name, time in ms, value
MAX_POINTS = 5000
MAX_SPAN_MS = 20 * 366 * DAY_MS
_CHINA = timezone(timedelta(hours=8))
_LATEST = TypeAdapter(list[Latest])
_BY_HTTP = "http/"  # head of the topic under which a dead letter stands that came by no broker


class _Pulse(NamedTuple):
    """Number of series, and when which of them spoke last."""

    series: int
    time_ms: int | None
    name: str | None


class Telemetry:
    """Gateways, series and readings, as people ask for them."""

    def __init__(
        self,
        readings: ReadingsStore,
        registry: Registry,
        *,
        clock: Callable[[], int],
        covers: Callable[[str, frozenset[str]], bool],
        audit: Audit,
    ) -> None:
        self._readings = readings
        self._registry = registry
        self._answers = Answers(readings, clock=clock)
        self._letters = DeadLetters(registry.engine)
        self._clock = clock
        self._covers = covers
        self._audit = audit
        self._on_stored: list[OnStored] = []
        self._side = Pipeline(readings, registry, clock=clock, on_stored=self._tell)
        self._side_lock = Lock()
        self._over = Event()
        self._together = Together()

    # --- gateways -----------------------------------------------------------------------------------

    def gateways(self, scope: Scope = None) -> list[GatewayView]:
        """All gateways in scope, by id."""
        statuses, visible, heard = self._registry.statuses(), self._visible(scope), self._readings.heard()
        pulses = self._pulses([one.id for one in visible])
        return [self._gateway_view(one, statuses.get(one.id), pulses[one.id], heard) for one in visible]

    def gateway(self, gateway: str, scope: Scope = None) -> GatewayView:
        """One gateway. Raises `NotFound`."""
        one = self._own(gateway, scope)
        pulse = self._pulses([one.id])[one.id]
        return self._gateway_view(one, self._registry.status(one.id), pulse, self._readings.heard())

    def change_gateway(self, gateway: str, wish: GatewayChange, by: str, scope: Scope = None) -> GatewayView:
        """Rename it, change its quota, disable it or let it send again; audited. Raises `NotFound`."""
        change_gateway(self._registry, self._audit, self._own(gateway, scope), wish, by, self._clock())
        return self.gateway(gateway, scope)

    def _pulses(self, gateways: Sequence[str]) -> dict[str, "_Pulse"]:
        """How many series each of these gateways has, and which spoke last: one question for all of them."""
        held = {one.id: one for one in self._registry.series(gateways=gateways)}
        counts = Counter(one.gateway for one in held.values())
        found = {name: _Pulse(counts[name], None, None) for name in gateways}
        newest = self._readings.last(np.array(list(held), dtype=np.int64))
        for number, at in zip(newest.series.tolist(), newest.time_ms.tolist(), strict=True):
            one = held[number]
            before = found[one.gateway].time_ms
            if before is None or at > before:
                found[one.gateway] = _Pulse(counts[one.gateway], at, one.name)
        return found

    def _visible(self, scope: Scope) -> list[Gateway]:
        found = self._registry.gateways()
        if scope is None:
            return found
        seen = {region: self._covers(region, scope) for region in {one.region for one in found}}
        return [one for one in found if seen[one.region]]

    def _own(self, gateway: str, scope: Scope) -> Gateway:
        one = self._registry.gateway(gateway)
        if scope is not None and not self._covers(one.region, scope):
            raise NotFound(f"there is no gateway {gateway[:36]}", pointer="/gateway")
        return one

    def _gateway_view(
        self, one: Gateway, status: Mapping[str, Any] | None, pulse: "_Pulse", heard: Mapping[str, int]
    ) -> GatewayView:
        ledger = self._readings.ledger(one.id)
        body = dict(status["body"]) if status else {}
        heard_ms = max(heard.get(one.id, 0), status["received_ms"] if status else 0) or None
        silent = heard_ms is None and pulse.time_ms is None
        return GatewayView(
            id=one.id,
            name=one.name,
            farm=one.farm,
            region=one.region,
            disabled=one.disabled_ms is not None,
            max_series=one.max_series,
            state=status["state"] if status else "unheard" if silent else "data",
            heard_ms=heard_ms,
            data_ms=pulse.time_ms,
            data_series=pulse.name,
            version=status["version"] if status else "",
            status=body,
            series=pulse.series,
            backlog=_backlog(body),
            epochs=[
                EpochView(epoch=epoch, watermark=spans.watermark, highest=spans.highest, missing=spans.gaps()[:100])
                for epoch, spans in ledger.items()
            ],
        )

    # --- sensors and series -------------------------------------------------------------------------

    def series(self, gateway: str | None = None, scope: Scope = None) -> list[SeriesView]:
        """Series in scope, or of one gateway, by gateway and name."""
        return [_series_view(one) for one in self._registry.series(gateways=self._names(gateway, scope))]

    def _names(self, gateway: str | None, scope: Scope) -> list[str]:
        if gateway is not None:
            return [self._own(gateway, scope).id]
        return [one.id for one in self._visible(scope)]

    def sensors(self, gateway: str, scope: Scope = None) -> list[SensorView]:
        """The sensors of one gateway: those that were measured and those that were only announced."""
        meta = self._registry.meta(self._own(gateway, scope).id)
        held: dict[str, list[SeriesView]] = {sensor: [] for sensor in meta}
        for one in self.series(gateway, scope):
            held.setdefault(one.sensor, []).append(one)
        return [
            SensorView(gateway=gateway, sensor=sensor, meta=meta.get(sensor, {}), series=found)
            for sensor, found in sorted(held.items())
        ]

    def latest(self, scope: Scope = None, *, gateway: str | None = None, region: str | None = None) -> list[Latest]:
        """The newest reading of every series in scope, of one gateway, or below one region."""
        return _LATEST.validate_json(self._latest(scope, gateway, region))

    def latest_json(self, scope: Scope = None, *, gateway: str | None = None, region: str | None = None) -> bytes:
        """The same as a `Page[Latest]` in JSON, made once for all who ask at the same time."""
        question = (scope, gateway, region)
        return self._together.ask(question, lambda: b'{"items":%b}' % self._latest(*question))

    def _latest(self, scope: Scope, gateway: str | None, region: str | None) -> bytes:
        owners = [self._own(gateway, scope)] if gateway is not None else self._visible(scope)
        if region is not None:
            below = {code: self._covers(code, frozenset({region})) for code in {one.region for one in owners}}
            owners = [one for one in owners if below[one.region]]
        return self._answers.latest(owners, self._registry.series(gateways=[one.id for one in owners]))

    def _own_series(self, series: int, scope: Scope) -> Series:
        one = self._registry.by_id(series)
        if one is None:
            raise NotFound(f"there is no series {series}", pointer="/series")
        if scope is not None and not self._covers(self._registry.gateway(one.gateway).region, scope):
            raise NotFound(f"there is no series {series}")
        return one

    # --- readings -----------------------------------------------------------------------------------

    def points(
        self, series: int, start_ms: int, end_ms: int, max_points: int = 500, scope: Scope = None
    ) -> SeriesPoints:
        """A stretch of one series in at most `max_points` rows: as read where they fit, else in buckets.

        Buckets begin at whole steps of China time, so that the same hour is the same bucket however a chart is moved;
        the first one may therefore begin before `start_ms`. Raises `Invalid`, `TooLarge`, `NotFound`.
        """
        one = self._own_series(series, scope)
        _check(start_ms, end_ms, max_points)
        return SeriesPoints.model_validate(self._answers.course(one, start_ms, end_ms, max_points))

    def points_json(self, series: int, start_ms: int, end_ms: int, max_points: int, scope: Scope) -> bytes:
        """The same as `SeriesPoints` in JSON, made once for all who ask at the same time."""
        one = self._own_series(series, scope)
        _check(start_ms, end_ms, max_points)
        question = (series, start_ms, end_ms, max_points)
        return self._together.ask(
            question, lambda: orjson.dumps(self._answers.course(one, start_ms, end_ms, max_points))
        )

    def statistics(self, quantity: str, start_ms: int, end_ms: int, scope: Scope = None) -> list[RegionStatistics]:
        """Mean, low and high of one quantity by the region of its gateways, over `[start_ms, end_ms)`.

        Regions without a usable reading stand with n = 0: silence is an answer. Raises `Invalid`, `TooLarge`.
        """
        _check(start_ms, end_ms, 2)
        question = (quantity, start_ms, end_ms, scope)
        return self._together.ask(question, lambda: self._by_region(*question))

    def _by_region(self, quantity: str, start_ms: int, end_ms: int, scope: Scope) -> list[RegionStatistics]:
        regions = {one.id: one.region for one in self._visible(scope)}
        series = self._registry.series(gateways=list(regions))
        return self._answers.by_region(quantity, start_ms, end_ms, regions, series)

    def daily_mean(
        self, place: str, start_ms: int, end_ms: int, quantity: str = "water_temperature"
    ) -> dict[str, float]:
        """Mean of a quantity by China-time day (ISO date), over the gateways that stand at a place of the chain."""
        owners = [one.id for one in self._registry.gateways() if one.site and one.site == place]
        sums: dict[str, list[float]] = {}
        for one in self._registry.series(gateways=owners):
            if one.name.rpartition("/")[2] != quantity:
                continue
            start = (start_ms + CHINA_MS) // DAY_MS * DAY_MS - CHINA_MS
            found = self._readings.downsample(one.id, start, end_ms, DAY_MS)
            for at, n, total in zip(found.start_ms.tolist(), found.n.tolist(), found.total.tolist(), strict=True):
                day = datetime.fromtimestamp(at / 1000, UTC).astimezone(_CHINA).date().isoformat()
                held = sums.setdefault(day, [0.0, 0.0])
                held[0] += n
                held[1] += total
        return {day: total / n for day, (n, total) in sorted(sums.items())}

    # --- readings that come by HTTP -----------------------------------------------------------------

    def receive(self, gateway: str, body: bytes, kind: str, signature: str, precision: str = "ns") -> Received:
        """Readings of one gateway in one of three formats, durable when this returns.

        `kind` is the media type: `application/senml+json`, `application/json` (ThingsBoard gateway telemetry) or
        `text/plain` (Influx line protocol, times in `precision`). `signature` is the hex HMAC-SHA256 of the body with
        the gateway's secret. What cannot be taken, whole or in part, stands among the dead letters too; a state (a
        text, a switch) is only named in the answer: no program sends one by mistake, and none becomes a reading later.
        Raises `Unauthenticated`, `TooLarge`, `Invalid`.
        """
        owner = self._registry.known(gateway)
        secret = owner.secret if owner else b"nobody"
        good = hmac.compare_digest(hmac.new(secret, body, "sha256").hexdigest().encode(), signature.lower().encode())
        if owner is None or owner.disabled_ms is not None or not good:
            raise Unauthenticated("this body was not signed with the secret of a registered gateway")
        if len(body) > DEFAULT_LIMITS.wire_bytes:
            raise TooLarge(f"a body may have {DEFAULT_LIMITS.wire_bytes} bytes, not {len(body)}")
        message = Message(f"{_BY_HTTP}{owner.id}/{precision[:10].replace('/', '_')}/{kind[:60]}", body, self._clock())
        try:
            found = understood(owner.id, message.payload, kind, message.received_ms, precision)
            with self._side_lock:
                taken, refused = self._side.give(owner, found.readings, message.received_ms)
        except (Invalid, TooLarge) as why:
            self._letters.keep([Letter(message, why.code, str(why), owner.id)])
            raise
        why_not = [(reason, detail) for part in (found.refused, refused) for reason in part for detail in part[reason]]
        if why_not:  # one letter, whatever the reasons: the count says how often the body came
            more = f" (and {len(why_not) - 1} more)" if len(why_not) > 1 else ""
            self._letters.keep([Letter(message, why_not[0][0], why_not[0][1] + more, owner.id)])
        return Received(taken=taken, refused=[*(detail for _, detail in why_not), *found.states][:20])

    def _again_by_http(self, message: Message) -> None:
        """Take a body once more that came by HTTP, all of it or nothing. Raises `Invalid` where it fails again.

        What has no time of its own is of the time when the body first came: taken twice, it is one reading.
        """
        gateway, precision, kind = message.topic.removeprefix(_BY_HTTP).split("/", 2)
        owner = self._registry.gateway(gateway)
        if owner.disabled_ms is not None:
            raise Invalid(f"gateway {owner.id} was disabled", code="disabled_gateway")
        found = understood(owner.id, message.payload, kind, message.received_ms, precision)
        for reason, details in found.refused.items():
            raise Invalid(details[0], code=reason)
        with self._side_lock:
            self._side.give(owner, found.readings, message.received_ms, whole=True)

    def end_streams(self) -> None:
        """The service stops: whoever listens is sent home."""
        self._over.set()

    def streaming(self) -> bool:
        """Whether streams may go on."""
        return not self._over.is_set()

    def when_stored(self, tell: OnStored) -> None:
        """Call `tell` with what becomes durable by way of this service (HTTP, replays)."""
        self._on_stored.append(tell)

    def _tell(self, arrivals: Sequence[Arrival], position: int) -> None:
        for tell in self._on_stored:
            tell(arrivals, position)

    # --- readings to take away ----------------------------------------------------------------------

    def exportable(self, wish: ExportWish, scope: Scope = None) -> list[str]:
        """The gateways that an export would hold. Raises `NotFound` (out of scope), `Invalid`, `TooLarge`."""
        _check(wish.start_ms, wish.end_ms, 2, names=("start_ms", "end_ms"))
        if bool(wish.gateways) == (wish.region is not None):
            raise Invalid("name gateways, or a region", code="gateways_or_region", pointer="/gateways")
        if wish.region is None:
            return sorted({self._own(one, scope).id for one in wish.gateways})
        below = frozenset({wish.region})
        found = [one.id for one in self._visible(scope) if self._covers(one.region, below)]
        if not found:
            raise NotFound(f"there is no gateway in {wish.region}", pointer="/region")
        return found

    def gateway_in_scope(self, gateway: str, scope: Scope = None) -> None:
        """Raises `NotFound` where the gateway lies outside."""
        self._own(gateway, scope)

    # --- for other contexts, by way of the wiring ---------------------------------------------------

    def samples(self, gateway: str, names: Sequence[str], start_ms: int, end_ms: int) -> list[Row]:
        """Readings of some series of one gateway over `[start_ms, end_ms)`: (name, time, value or None)."""
        found = {one.id: one.name for name in names if (one := self._registry.series_of(gateway, name)) is not None}
        points = self._readings.range(np.array(list(found), dtype=np.int64), start_ms, end_ms)
        return [(found[one], at, value) for one, at, value in _rows(points)]

    def fresh(self, arrivals: Sequence[Arrival], wanted: Callable[[str], Collection[str]]) -> dict[str, list[Row]]:
        """What just became durable, by gateway, of the series whose names `wanted(gateway)` holds."""
        points, _ = gather(arrivals)
        known = {int(one): self._registry.by_id(int(one)) for one in np.unique(points.series)}
        mine = {one: row for one, row in known.items() if row is not None and row.name in wanted(row.gateway)}
        keep = np.isin(points.series, np.fromiter(mine, dtype=np.int64, count=len(mine)))
        found: dict[str, list[Row]] = {}
        for one, at, value in _rows(points.take(keep)):
            found.setdefault(mine[one].gateway, []).append((mine[one].name, at, value))
        return found

    def heard(self) -> list[tuple[Gateway, frozenset[str]]]:
        """Gateways that are not disabled, each with the names of the series it has ever sent."""
        names: dict[str, set[str]] = {}
        for one in self._registry.series():
            names.setdefault(one.gateway, set()).add(one.name)
        return [(one, frozenset(names.get(one.id, ()))) for one in self._registry.gateways() if one.disabled_ms is None]

    def begun(self) -> dict[str, int]:
        """When the present batch or crop of each gateway began (ms UTC), of those whose last status says so."""
        bodies = {name: row["body"].get("begun_ms") for name, row in self._registry.statuses().items()}
        return {name: at for name, at in bodies.items() if isinstance(at, int) and not isinstance(at, bool)}

    # --- what went wrong ----------------------------------------------------------------------------

    def dead_letters(
        self,
        scope: Scope = None,
        *,
        gateway: str | None = None,
        before_ms: int | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[DeadLetterView]:
        """Messages that could not be taken, newest first; `before` is a cursor (see `cursors`).

        Those of senders that nobody registered belong to no region: only who sees every gateway sees them.
        """
        everything = gateway is None and self._sees_all(scope)
        rows = self._letters.list(
            gateways=None if everything else self._names(gateway, scope),
            before_ms=before_ms,
            before=after_letter(before) if before is not None else None,
            limit=limit,
        )
        return [DeadLetterView(**row) for row in rows]

    def dead_letter(self, digest: str, scope: Scope = None) -> DeadLetterWhole:
        """One of them with what it said. Raises `NotFound`, also where its sender is out of scope."""
        message, row = self._letter(digest, scope)
        try:
            return DeadLetterWhole(**row, text=message.payload.decode(), base64=None)
        except UnicodeDecodeError:
            return DeadLetterWhole(**row, text=None, base64=b64encode(message.payload).decode())

    def _letter(self, digest: str, scope: Scope) -> tuple[Message, dict[str, Any]]:
        message, row = self._letters.get(digest)
        sender = message.topic.removeprefix(_BY_HTTP).removeprefix(f"{PREFIX}/").partition("/")[0]
        if not self._sees_all(scope) and sender not in self._names(None, scope):
            raise NotFound(f"there is no dead letter {digest[:64]}", pointer="/digest")
        return message, row

    def _sees_all(self, scope: Scope) -> bool:
        return scope is None or len(self._visible(scope)) == len(self._registry.gateways())

    def set_aside(self, topic: str, payload: bytes, reason: str, detail: str) -> None:
        """Keep a message of a gateway that another context could not take."""
        gateway = topic.removeprefix(f"{PREFIX}/").partition("/")[0][:36]
        self._letters.keep([Letter(Message(topic, payload, self._clock()), reason, detail, gateway)])

    def replay(self, digest: str, scope: Scope = None) -> None:
        """Send a dead letter through the pipeline again; raises `Invalid` with the reason where it fails again.

        Raises `NotFound` where its sender is out of scope.

        Its number in the gateway's sequence was settled long ago, so it goes in by (series, time) alone.
        """
        message, row = self._letter(digest, scope)
        if row["truncated"]:
            raise Invalid("only the beginning of this message was kept; it cannot be replayed", code="truncated")
        if message.topic.startswith(_BY_HTTP):
            self._again_by_http(message)
        else:
            with self._side_lock:
                self._side.again(message)
        self._letters.replayed(digest, self._clock())

    def events(
        self,
        scope: Scope = None,
        *,
        gateway: str | None = None,
        kind: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[EventView]:
        """What gateways reported, newest first; `before` is a cursor (see `cursors`)."""
        place = after_event(before) if before is not None else None
        rows = self._registry.events(gateways=self._names(gateway, scope), kind=kind, before=place, limit=limit)
        return [EventView(**row) for row in rows]

    def conflicts(self, scope: Scope = None, *, before: str | None = None, limit: int = 100) -> list[ConflictView]:
        """Second values that were kept out, newest first; `before` is a cursor (see `cursors`)."""
        upto_ms, skip = after_conflict(before)
        series = {one.id: one for one in self._registry.series(gateways=self._names(None, scope))}
        limit += skip
        asked, found = limit, list[Conflicting]()
        # The store knows no regions: ask for more until enough of them are in scope.
        while True:
            rows = self._readings.conflicts(limit=asked, upto_ms=upto_ms)
            found = [one for one in rows if one.series in series][:limit]
            if len(found) == limit or len(rows) < asked:
                break
            asked *= 10
        return [
            ConflictView(
                series=_series_view(series[one.series]),
                time_ms=one.time_ms,
                kept=one.kept,
                refused=one.refused,
                received_ms=one.received_ms,
            )
            for one in found[skip:]
        ]


def _rows(points: Points) -> Iterator[tuple[int, int, float | None]]:
    """(series, time, value); None where the quality says that the value does not speak for the world."""
    columns = (points.series.tolist(), points.time_ms.tolist(), points.value.tolist(), points.quality.tolist())
    for series, at, value, quality in zip(*columns, strict=True):
        yield series, at, None if quality >= NO_VALUE_QUALITY else maybe(value)


def _check(start_ms: int, end_ms: int, max_points: int, names: tuple[str, str] = ("from", "to")) -> None:
    start, end = names
    if end_ms <= start_ms:
        raise Invalid("the end must lie after the start", code="empty_range", pointer=f"/{end}")
    if end_ms - start_ms > MAX_SPAN_MS:
        raise TooLarge("a question may span 20 years at most", code="range_too_large", pointer=f"/{start}")
    if not 2 <= max_points <= MAX_POINTS:  # noqa: PLR2004 - one bucket needs a second to show a course
        raise Invalid(f"max_points must lie in 2..{MAX_POINTS}", code="bad_max_points", pointer="/max_points")


def _series_view(one: Series) -> SeriesView:
    return SeriesView(**series_cells(one))


def _backlog(body: Mapping[str, Any]) -> int | None:
    spool = body.get("spool")
    found = spool.get("backlog") if isinstance(spool, Mapping) else None
    return found if isinstance(found, int) else None
