"""What telemetry answers, as it goes over the wire. Times are integer ms UTC, values in the unit beside them."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Bucket",
    "ConflictView",
    "DeadLetterView",
    "DeadLetterWhole",
    "EpochView",
    "EventView",
    "ExportView",
    "ExportWish",
    "GatewayChange",
    "GatewayView",
    "Latest",
    "Page",
    "Point",
    "Received",
    "RegionStatistics",
    "SensorView",
    "SeriesPoints",
    "SeriesView",
]


Item = TypeVar("Item")


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class EpochView(_View):
    """How far one spool of a gateway is accounted for, and which numbers are missing below the newest."""

    epoch: str
    watermark: int
    highest: int
    missing: list[tuple[int, int]] = Field(description="closed ranges, at most 100")


class GatewayView(_View):
    """A gateway, what it last said about itself, and how complete its data are."""

    id: str
    name: str
    farm: str
    region: str
    disabled: bool
    max_series: int = Field(description="new series beyond this number are refused")
    state: Literal["online", "degraded", "offline", "data", "unheard"] = Field(
        description="as it last said; data: it sends readings and no status; unheard: nothing"
    )
    heard_ms: int | None = Field(description="when anything of it last arrived; null: never, or not lately")
    data_ms: int | None = Field(description="time of its newest reading")
    data_series: str | None = Field(description="the series that reading belongs to")
    version: str
    status: dict[str, Any]
    series: int
    backlog: int | None = Field(description="packs it still holds, as its last status says")
    epochs: list[EpochView]


class GatewayChange(BaseModel):
    """What to change about a gateway; what is left away stays."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = None
    max_series: Annotated[int, Field(ge=1, le=100_000)] | None = None
    disabled: bool | None = None


class SeriesView(_View):
    """One quantity of one sensor."""

    id: int
    gateway: str
    name: str
    sensor: str
    quantity: str
    unit: str
    zh: str
    en: str


class SensorView(_View):
    """A sensor, its series, and what its gateway says about it."""

    gateway: str
    sensor: str
    meta: dict[str, Any]
    series: list[SeriesView]


class Latest(SeriesView):
    """The newest reading of a series. `value` is null where the sensor could not say."""

    farm: str
    region: str
    time_ms: int
    value: float | None
    quality: int
    age_ms: int


class Point(_View):
    """One reading."""

    time_ms: int
    value: float | None
    quality: int


class Bucket(_View):
    """One stretch `[time_ms, time_ms + step_ms)`; without usable readings n is 0 and the rest null: a gap is a gap."""

    time_ms: int
    n: int
    mean: float | None
    low: float | None
    high: float | None
    coverage: float | None = Field(description="share of the readings expected in this stretch, 0..1")


class SeriesPoints(_View):
    """A stretch of one series, as read or in buckets; `[start_ms, end_ms)` is what was really answered."""

    series: SeriesView
    start_ms: int
    end_ms: int
    resolution: Literal["raw", "buckets"]
    step_ms: int | None
    interval_ms: int | None = Field(description="usual time between two readings, null where not known")
    coverage: float | None = Field(description="share of the readings expected that are there, 0..1")
    points: list[Point]
    buckets: list[Bucket]


class RegionStatistics(_View):
    """One quantity over all series of one region and a stretch of time."""

    region: str
    quantity: str
    unit: str
    series: int
    n: int
    mean: float | None
    low: float | None
    high: float | None


class Received(_View):
    """What became of readings that came by HTTP."""

    taken: int
    refused: list[str] = Field(description="why single readings were not, at most 20")


class DeadLetterView(_View):
    """A message that could not be taken."""

    digest: str
    topic: str
    gateway: str | None
    reason: str
    detail: str
    count: int
    first_ms: int
    last_ms: int
    bytes: int
    truncated: bool
    replayed_ms: int | None


class DeadLetterWhole(DeadLetterView):
    """A message that could not be taken, with what it said as far as it was kept (64 KB)."""

    text: str | None = Field(description="the payload, where it is UTF-8")
    base64: str | None = Field(description="the payload, where it is not")


class EventView(_View):
    """Something a gateway reported."""

    gateway: str
    epoch: str
    seq: int
    kind: str
    time_ms: int
    received_ms: int
    body: dict[str, Any]


class ExportWish(BaseModel):
    """Which readings to take away: of some gateways, or of all in a region; one of the two."""

    model_config = ConfigDict(extra="forbid")

    gateways: list[Annotated[str, Field(max_length=36)]] = Field(default=[], max_length=5000)
    region: str | None = Field(default=None, max_length=20)
    quantity: str | None = Field(default=None, max_length=96, description="only this one, for example `ammonia`")
    start_ms: int = Field(ge=0, le=2**53)
    end_ms: int = Field(ge=0, le=2**53, description="not included")
    format: Literal["csv", "parquet"] = "csv"


class ExportView(_View):
    """An export and how far it is; `file` where it is ready, until `expires_ms`."""

    id: str
    state: Literal["waiting", "running", "done", "failed"]
    format: Literal["csv", "parquet"]
    gateways: int
    quantity: str | None
    start_ms: int
    end_ms: int
    asked_ms: int
    expires_ms: int | None
    progress: float = Field(description="0..1")
    readings: int
    bytes: int
    code: str | None
    detail: str | None
    file: str | None


class ConflictView(_View):
    """A second value at an occupied time: kept out, on record."""

    series: SeriesView
    time_ms: int
    kept: float | None
    refused: float | None
    received_ms: int


class Page(BaseModel, Generic[Item]):
    """Some items, and where the next ones begin (null: there are no more)."""

    items: list[Item]
    next: str | None = None
