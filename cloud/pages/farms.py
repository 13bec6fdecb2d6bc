"""Farms as the console shows them: is it live, what did each sensor last say, and where are the gaps.

Silence is judged by each sensor's own habit: three missed intervals (and at least half a minute more, for the way)
make a sensor silent, and a farm whose sensors are all silent is silent. A reading whose quality says that it does not
speak for the world is shown with that word, not hidden.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cloud.pages.charts import Gap, Plot, Point, gaps, plot
from cloud.pages.farm_types import farm_type
from cloud.pages.speech import Speech
from edge.wire import Quality

if TYPE_CHECKING:
    from cloud.telemetry import Telemetry
    from cloud.telemetry.schemas import GatewayView, Latest, SeriesPoints

__all__ = [
    "ChartView",
    "FarmView",
    "ReadingView",
    "RegionName",
    "chart_view",
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
# A page of a whole county must not ask for a thousand courses every five seconds.
_MOST_SPARKS = 12
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
        return {"live": "ok", "silent": "bad"}.get(self.state, "")


@dataclass(frozen=True, slots=True)
class ChartView:
    """One series over the last `hours`, drawn, and the same in a sentence."""

    name: str
    label: str
    hours: int
    plot: Plot
    text: str
    data_url: str


def farm_views(telemetry: "Telemetry", scope: Scope, speech: Speech, region_name: RegionName) -> list[FarmView]:
    """Every farm in scope with its newest readings, by gateway id."""
    latest: dict[str, list[Latest]] = {}
    for each in telemetry.latest(scope):
        latest.setdefault(each.gateway, []).append(each)
    farms = [_farm(gateway, latest.get(gateway.id, []), speech, region_name) for gateway in telemetry.gateways(scope)]
    return [replace(farm, spark=_spark(telemetry, farm, scope, speech)) for farm in farms[:_MOST_SPARKS]] + farms[
        _MOST_SPARKS:
    ]


def one_farm(telemetry: "Telemetry", gateway: str, scope: Scope, speech: Speech, region_name: RegionName) -> FarmView:
    """One farm; raises `NotFound` outside the scope too."""
    return _farm(telemetry.gateway(gateway, scope), telemetry.latest(scope, gateway=gateway), speech, region_name)


def chart_view(
    telemetry: "Telemetry", farm: FarmView, reading: ReadingView, hours: int, scope: Scope, speech: Speech
) -> ChartView:
    """The last `hours` of one series up to now."""
    end = speech.now_ms
    found = telemetry.points(reading.series, end - hours * _HOUR_MS, end, _MOST_POINTS, scope)
    points = _points(found)
    gap = _gap_ms(found, reading)
    since = _since(telemetry, reading, points, end - hours * _HOUR_MS, scope)
    return ChartView(
        name=reading.name,
        label=f"{reading.label} {speech.unit(reading.unit)}".strip(),
        hours=hours,
        plot=plot(points, end - hours * _HOUR_MS, end, gap, since_ms=since),
        text=_in_words(points, hours, gaps(points, since, end, gap), speech),
        data_url=f"/console/gateways/{farm.id}/series.json?series={reading.name}&hours={hours}",
    )


def series_columns(
    telemetry: "Telemetry", reading: ReadingView, hours: int, scope: Scope, speech: Speech
) -> dict[str, object]:
    """The same points for the chart's script: seconds and values, null where a line must break."""
    end = speech.now_ms
    found = telemetry.points(reading.series, end - hours * _HOUR_MS, end, _MOST_POINTS, scope)
    gap = _gap_ms(found, reading)
    times: list[float] = []
    values: list[float | None] = []
    for at, value in _points(found):
        if times and at - times[-1] * 1000 > gap:
            times.append((times[-1] * 1000 + at) / 2000)
            values.append(None)
        times.append(at / 1000)
        values.append(value)
    return {"label": reading.label, "unit": speech.unit(reading.unit), "times": times, "values": values}


def _farm(gateway: "GatewayView", latest: "Sequence[Latest]", speech: Speech, region_name: RegionName) -> FarmView:
    kind = farm_type(gateway.farm)
    language = speech.words.language
    readings = sorted(
        (_reading(each, gateway.farm, speech) for each in latest), key=lambda r: (kind.rank(r.name), r.name)
    )
    last = max((reading.time_ms for reading in readings), default=None)
    all_silent = all(reading.silent for reading in readings)
    state = "never" if last is None else "silent" if all_silent else "live"
    return FarmView(
        id=gateway.id,
        name=gateway.name,
        kind=kind.title(language),
        region=region_name(gateway.region),
        state=state,
        last_ms=last,
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
    return plot(shown, start, end, gap, since_ms=since, size=(220, 34), bare=True)


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
