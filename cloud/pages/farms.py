"""Farms as the console shows them: is it live, what did each sensor last say, and where are the gaps.

Silence is judged by each sensor's own habit: three missed intervals (and at least half a minute more, for the way)
make a sensor silent, and a farm is silent when the sensor that spoke last is. A reading whose quality says that it does
not speak for the world is shown with that word, not hidden.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cloud.pages.charts import Gap, Plot, Point, gaps, plot
from cloud.pages.farm_types import farm_type
from cloud.pages.speech import Speech
from cloud.pages.words import Language
from cloud.telemetry.schemas import Bucket
from edge.wire import Quality

if TYPE_CHECKING:
    from cloud.alarms import Alarms
    from cloud.telemetry import Telemetry
    from cloud.telemetry.schemas import GatewayView, Latest, SeriesPoints

__all__ = [
    "ChartView",
    "FarmRow",
    "FarmView",
    "ReadingView",
    "RegionName",
    "chart_view",
    "farm_rows",
    "farm_views",
    "one_farm",
    "series_columns",
]

Scope = frozenset[str]
RegionName = Callable[[str], str]
"""Name of a region by its code, the code itself where it is unknown."""
_GRACE_MS = 30_000
_HOUR_MS = 3_600_000
_MOST_POINTS = 720
# A page of a whole county must not ask for a thousand courses every five seconds, nor show a thousand cards.
_MOST_CARDS = 12
_SPARK_HOURS = 6
_SPARK_POINTS = 120


@dataclass(frozen=True, slots=True)
class ReadingView:
    """The newest reading of one series; `note` says what is wrong with it, "" where nothing is."""

    series: int
    name: str
    label: str
    value: float | None
    unit: str
    quality: int
    time_ms: int
    interval_ms: int
    silent: bool
    note: str


@dataclass(frozen=True, slots=True)
class FarmView:
    """One farm: `state` is live, silent or never; `mood` the matching colour class."""

    id: str
    name: str
    kind: str
    region: str
    state: str
    last_ms: int | None
    readings: tuple[ReadingView, ...]
    spark: Plot | None = None

    @property
    def mood(self) -> str:
        """ok, bad or "" for a farm that has not begun."""
        return _MOODS.get(self.state, "")


@dataclass(frozen=True, slots=True)
class FarmRow:
    """One line of the list of farms; `connection` is what its gateway last said of itself, `backlog` in packs."""

    id: str
    name: str
    kind: str
    region: str
    state: str
    last_ms: int | None
    connection: str
    backlog: int | None
    missing: int
    series: int
    critical: int
    warnings: int

    @property
    def mood(self) -> str:
        """As of a farm."""
        return _MOODS.get(self.state, "")

    @property
    def worry(self) -> tuple[int, int, int, int, str]:
        """What needs a look comes first."""
        late = {"silent": 0, "never": 1}.get(self.state, 2)
        return -self.critical, late, -self.warnings, -(self.backlog or 0), self.id


_MOODS = {"live": "ok", "silent": "bad"}


@dataclass(frozen=True, slots=True)
class ChartView:
    """One series over the last `hours`, drawn, and the same in a sentence."""

    name: str
    label: str
    hours: int
    plot: Plot
    text: str
    data_url: str


def farm_views(
    telemetry: "Telemetry", rows: Sequence[FarmRow], scope: Scope, speech: Speech, region_name: RegionName
) -> list[FarmView]:
    """The farms that need a look first, as cards with their newest readings; `rows` as `farm_rows` gives them."""
    wanted = sorted(rows, key=lambda row: row.worry)[:_MOST_CARDS]
    farms = [one_farm(telemetry, row.id, scope, speech, region_name) for row in sorted(wanted, key=lambda row: row.id)]
    return [replace(farm, spark=_spark(telemetry, farm, scope, speech)) for farm in farms]


def farm_rows(
    telemetry: "Telemetry", alarms: "Alarms", scope: Scope, speech: Speech, region_name: RegionName
) -> list[FarmRow]:
    """Every farm in scope in one line each, by gateway id."""
    ringing, regions = alarms.open_counts(scope), dict[str, str]()
    rows = []
    for gateway in telemetry.gateways(scope):
        if gateway.region not in regions:
            regions[gateway.region] = region_name(gateway.region)
        rows.append(
            FarmRow(
                id=gateway.id,
                name=gateway.name,
                kind=farm_type(gateway.farm).title(speech.words.language),
                region=regions[gateway.region],
                state=_state(gateway, speech.now_ms),
                last_ms=gateway.data_ms,
                connection=gateway.state,
                backlog=gateway.backlog,
                missing=sum(last - first + 1 for epoch in gateway.epochs for first, last in epoch.missing),
                series=gateway.series,
                critical=ringing.get((gateway.id, "critical"), 0),
                warnings=ringing.get((gateway.id, "warning"), 0),
            )
        )
    return rows


def _state(gateway: "GatewayView", now_ms: int) -> str:
    if gateway.data_ms is None:
        return "never"
    interval = farm_type(gateway.farm).interval_ms(gateway.data_series or "")
    return "silent" if now_ms - gateway.data_ms > 3 * interval + _GRACE_MS else "live"


def one_farm(telemetry: "Telemetry", gateway: str, scope: Scope, speech: Speech, region_name: RegionName) -> FarmView:
    """One farm; raises `NotFound` outside the scope too."""
    return _farm(telemetry.gateway(gateway, scope), telemetry.latest(scope, gateway=gateway), speech, region_name)


def chart_view(
    telemetry: "Telemetry", farm: FarmView, reading: ReadingView, hours: int, scope: Scope, speech: Speech
) -> ChartView:
    """The last `hours` of one series up to now."""
    end = speech.now_ms
    found = telemetry.points(reading.series, end - hours * _HOUR_MS, end, _MOST_POINTS, scope)
    points, doubtful = _points(found), _doubtful(found)
    gap = _gap_ms(found, reading)
    since = _since(telemetry, reading, points, end - hours * _HOUR_MS, scope)
    text = _in_words(points, hours, gaps(points, since, end, gap), speech)
    return ChartView(
        name=reading.name,
        label=f"{reading.label} {speech.unit(reading.unit)}".strip(),
        hours=hours,
        plot=plot(points, end - hours * _HOUR_MS, end, gap, since_ms=since, doubtful=doubtful),
        text=text + _how_whole(found, doubtful, since, speech),
        data_url=f"/console/gateways/{farm.id}/series.json?series={reading.name}&hours={hours}",
    )


def series_columns(
    telemetry: "Telemetry", reading: ReadingView, hours: int, scope: Scope, speech: Speech
) -> dict[str, object]:
    """The same points for the chart's script: seconds and values, null where a line must break."""
    end = speech.now_ms
    found = telemetry.points(reading.series, end - hours * _HOUR_MS, end, _MOST_POINTS, scope)
    gap = _gap_ms(found, reading)
    rows = found.points if found.resolution == "raw" else found.buckets
    spread = [(point.low, point.high) if isinstance(point, Bucket) else (None, None) for point in rows]
    doubtful = dict(_doubtful(found))
    columns: dict[str, list[float | None]] = {name: [] for name in ("times", "values", "lows", "highs", "doubtful")}
    last: int | None = None
    for (at, value), (low, high) in zip(_points(found), spread, strict=True):
        if last is not None and at - last > gap:
            for name, cell in zip(columns, ((last + at) / 2000, None, None, None, None), strict=True):
                columns[name].append(cell)
        for name, cell in zip(columns, (at / 1000, value, low, high, doubtful.get(at)), strict=True):
            columns[name].append(cell)
        last = at
    return {"label": reading.label, "unit": speech.unit(reading.unit), **columns}


def _farm(gateway: "GatewayView", latest: "Sequence[Latest]", speech: Speech, region_name: RegionName) -> FarmView:
    kind = farm_type(gateway.farm)
    language = speech.words.language
    readings = sorted(
        (_reading(each, gateway.farm, speech) for each in latest), key=lambda r: (kind.rank(r.name), r.name)
    )
    return FarmView(
        id=gateway.id,
        name=gateway.name,
        kind=kind.title(language),
        region=region_name(gateway.region),
        state=_state(gateway, speech.now_ms),
        last_ms=gateway.data_ms,
        readings=tuple(readings),
    )


def _spark(telemetry: "Telemetry", farm: FarmView, scope: Scope, speech: Speech) -> Plot | None:
    """The course of the farm's first series over the last hours, without axes."""
    if not farm.readings:
        return None
    reading, end = farm.readings[0], speech.now_ms
    start = end - _SPARK_HOURS * _HOUR_MS
    found = telemetry.points(reading.series, start, end, _SPARK_POINTS, scope)
    points, gap = _points(found), _gap_ms(found, reading)
    since = _since(telemetry, reading, points, start, scope)
    # A short course of a new farm still gets a quarter of an hour, else two readings would look like a cliff.
    start = max(start, min(since, end - _HOUR_MS // 4))
    shown = [point for point in points if point[0] >= start]
    return plot(shown, start, end, gap, since_ms=since, bare=True)


def _since(telemetry: "Telemetry", reading: ReadingView, points: Sequence[Point], start_ms: int, scope: Scope) -> int:
    """From when on a missing reading is a gap: the window's start, or the first reading of a series that is new."""
    if not points or points[0][0] - start_ms < reading.interval_ms:
        return start_ms
    before = telemetry.points(reading.series, start_ms - 168 * _HOUR_MS, start_ms, 2, scope)
    older = bool(before.points) or any(bucket.n for bucket in before.buckets)
    return start_ms if older else points[0][0]


def _reading(latest: "Latest", farm: str, speech: Speech) -> ReadingView:
    kind = farm_type(farm)
    interval = kind.interval_ms(latest.name)
    silent = speech.now_ms - latest.time_ms > 3 * interval + _GRACE_MS
    note = ""
    if latest.quality != Quality.GOOD:
        note = speech.words.named("quality", str(latest.quality))
    elif silent:
        note = speech.words("overview.sensor_silent")
    return ReadingView(
        series=latest.id,
        name=latest.name,
        label=kind.label(latest.name, speech.words.language),
        value=latest.value,
        unit=latest.unit,
        quality=latest.quality,
        time_ms=latest.time_ms,
        interval_ms=interval,
        silent=silent,
        note=note,
    )


def _points(found: "SeriesPoints") -> list[Point]:
    if found.resolution == "raw":
        bad = Quality.DEVICE_ERROR
        return [(point.time_ms, point.value if point.quality < bad else None) for point in found.points]
    half = (found.step_ms or 0) // 2
    return [(bucket.time_ms + half, bucket.mean) for bucket in found.buckets]


def _doubtful(found: "SeriesPoints") -> list[tuple[int, float]]:
    """Readings that are shown but not to be trusted wholly (uncertain, substituted)."""
    return [
        (point.time_ms, point.value)
        for point in found.points
        if point.value is not None and Quality.GOOD < point.quality < Quality.DEVICE_ERROR
    ]


def _how_whole(found: "SeriesPoints", doubtful: Sequence[object], since_ms: int, speech: Speech) -> str:
    """How many of the expected readings there are, counted from when the series began, and how many are doubtful."""
    words, stop = speech.words, speech.words("punctuation.stop")
    told = "" if words.language is Language.ZH else " "
    if found.coverage is not None:
        share = found.coverage * (found.end_ms - found.start_ms) / max(1, found.end_ms - since_ms)
        told += words("gateway.coverage", share=speech.percent(min(1.0, share))) + stop
    if doubtful:
        told += words("gateway.doubtful", n=len(doubtful)) + stop
    return told


def _gap_ms(found: "SeriesPoints", reading: ReadingView) -> int:
    habit = found.interval_ms or reading.interval_ms
    return 3 * max(habit, found.step_ms or 0) + _GRACE_MS


def _in_words(points: Sequence[Point], hours: int, holes: Sequence[Gap], speech: Speech) -> str:
    """The chart as sentences, computed from the same points."""
    words = speech.words
    values = [value for _, value in points if value is not None]
    title = words("gateway.chart", hours=hours)
    stop = words("punctuation.stop")
    if not values:
        return f"{title}{stop}{words('gateway.no_points')}"
    ends = words("gateway.low_high", low=speech.number(min(values)), high=speech.number(max(values)))
    if not holes:
        return f"{title}{stop}{ends}{stop}{words('gateway.no_gaps')}"
    longest = speech.span(max(hole.length_ms for hole in holes))
    return f"{title}{stop}{ends}{stop}{words('gateway.gaps', n=len(holes), longest=longest)}"
