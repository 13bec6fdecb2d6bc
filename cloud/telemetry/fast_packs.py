"""The straight road for ordinary packs: the same answer as topic, `edge.wire.decode_pack` and registry, or none at all.

Nearly every pack of a gateway looks like the one before: the same names and units in the same order, numbers in `v`,
nothing odd. Such packs are turned into columns by the batch, without an object per reading. Whatever is unusual (a
label that is not expected, a name not seen before, a missing value, a time from the future) is left out, and the strict
decoder judges that pack, so that there is one place that knows what is allowed.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from cloud.telemetry.dead_letters import Message
from cloud.telemetry.store import Arrival, PackKey, Points
from edge.wire import DEFAULT_LIMITS, Topic

__all__ = ["QuickPacks"]

_EARLIEST_S = 2**28  # below it a SenML time is relative (RFC 8428, 4.5.3)
_QUALITIES = frozenset({None, 0, 1, 2, 4, 5, 6, 7})
_NUMBERS = frozenset({int, float})  # and no bool, which is an int to Python only
_OFFSETS = _NUMBERS | {type(None)}
_WHOLE = frozenset({int, type(None)})
_SEQ_DIGITS = 18  # of a number that fits int64 whatever its digits are
_MOST_LANES = 100_000
_MOST_SHAPES = 200
_Names = tuple[tuple[str, ...], tuple[str | None, ...]]


@dataclass(slots=True)
class _Lane:
    """One gateway's sequence of packs, as its topics and base name spell it."""

    gateway: str
    epoch: str
    base_name: str
    shapes: dict[_Names, list[int]] = field(default_factory=dict)  # series ids of packs seen before


@dataclass(slots=True)
class _Columns:
    """Readings of many packs, one after the other."""

    series: list[int] = field(default_factory=list)
    offset: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    quality: list[int] = field(default_factory=list)
    bases: list[float] = field(default_factory=list)  # one per pack, as are:
    counts: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # among the messages


class QuickPacks:
    """Ordinary packs by the batch. It answers only what it was taught by packs that took the strict road."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._known: dict[str, dict[tuple[str, str | None], int]] = {}

    def meet(self, topic: Topic) -> None:
        """From now on numbered packs of this gateway and epoch may be ordinary."""
        if topic.epoch is None or topic.seq is None:
            return
        if len(self._lanes) >= _MOST_LANES:
            self._lanes.clear()
        prefix = topic.text.rpartition("/")[0]
        base_name = f"urn:dev:org:32473-{topic.gateway}:"
        self._lanes.setdefault(prefix, _Lane(topic.gateway, topic.epoch, base_name))

    def learn(self, gateway: str, name: str, unit: str, series: int) -> None:
        """The registry accepts this name with this unit, and numbers it so."""
        # A unit that is empty is not written.
        self._known.setdefault(gateway, {})[name, unit or None] = series

    def take(
        self, messages: Sequence[Message], latest_ms: int, may_send: Callable[[str], bool]
    ) -> list[Arrival | None]:
        """For each message its arrival; None where it is not quite ordinary, or its gateway may not send."""
        columns = _Columns()
        keys: list[PackKey] = []
        for place, message in enumerate(messages):
            prefix, _, seq = message.topic.rpartition("/")
            lane = self._lanes.get(prefix)
            if lane is None or not _is_seq(seq) or not may_send(lane.gateway):
                continue
            try:
                ordinary = self._add(lane, message.payload, columns)
            except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, AttributeError):
                continue  # not even the shape of a pack
            if ordinary:
                columns.places.append(place)
                keys.append(PackKey(lane.gateway, lane.epoch, int(seq)))
        return _arrivals(messages, columns, keys, latest_ms)

    def _add(self, lane: _Lane, payload: bytes, columns: _Columns) -> bool:
        """Add one pack's readings, all or none; their times and values are still to be looked at."""
        text = _inflated(payload)
        if text is None:
            return False
        records: list[dict[str, Any]] = orjson.loads(text)
        base = records[0].pop("bt")
        if records[0].pop("bn") != lane.base_name or type(base) not in _NUMBERS:
            return False
        labels = sum(map(len, records))
        # A label that stands twice in one object contradicts itself; the quick parser keeps the last and does not tell.
        if len(records) > DEFAULT_LIMITS.readings or text.count(b'":') != labels + 2:
            return False
        units = tuple([one.get("u") for one in records])
        offsets = [one.get("t") for one in records]
        qualities = [one.get("q") for one in records]
        values = [one["v"] for one in records]
        rare = units.count(None) + offsets.count(None) + qualities.count(None)
        if labels != 5 * len(records) - rare or not _plain(values, offsets, qualities):
            return False
        series = self._series(lane, (tuple([one["n"] for one in records]), units))
        if series is None:
            return False
        columns.series += series
        columns.offset += [at or 0 for at in offsets]
        columns.quality += [quality or 0 for quality in qualities]
        columns.value += values
        columns.bases.append(float(base))
        columns.counts.append(len(records))
        return True

    def _series(self, lane: _Lane, names: _Names) -> list[int] | None:
        found = lane.shapes.get(names)
        if found is None:
            known = self._known.get(lane.gateway, {})
            ids = [known.get(pair) for pair in zip(*names, strict=True)]
            found = [one for one in ids if one is not None]
            if len(found) < len(ids):
                return None
            if len(lane.shapes) >= _MOST_SHAPES:
                lane.shapes.clear()
            lane.shapes[names] = found
        return found


def _is_seq(text: str) -> bool:
    return text.isdecimal() and text.isascii() and text[0] != "0" and len(text) <= _SEQ_DIGITS


def _plain(values: list[Any], offsets: list[Any], qualities: list[Any]) -> bool:
    return (
        _NUMBERS.issuperset(map(type, values))
        and _OFFSETS.issuperset(map(type, offsets))
        and _WHOLE.issuperset(map(type, qualities))
        and _QUALITIES.issuperset(qualities)
    )


def _inflated(payload: bytes) -> bytes | None:
    if len(payload) > DEFAULT_LIMITS.wire_bytes or payload[:1] != b"\x78":
        return payload if len(payload) <= DEFAULT_LIMITS.wire_bytes else None
    inflater = zlib.decompressobj()
    most = min(DEFAULT_LIMITS.inflated_bytes, DEFAULT_LIMITS.ratio * len(payload))
    try:
        text = inflater.decompress(payload, most)
    except zlib.error:
        return None
    return text if inflater.eof and not inflater.unused_data else None


def _arrivals(
    messages: Sequence[Message], columns: _Columns, keys: Sequence[PackKey], latest_ms: int
) -> list[Arrival | None]:
    found: list[Arrival | None] = [None] * len(messages)
    if not keys:
        return found
    counts = np.array(columns.counts)
    seconds = np.repeat(np.array(columns.bases), counts) + np.array(columns.offset, dtype=np.float64)
    value = np.array(columns.value, dtype=np.float64)
    sound = np.isfinite(value) & (seconds >= _EARLIEST_S) & (seconds <= latest_ms / 1000)
    odd = set(np.repeat(np.arange(len(counts)), counts)[~sound].tolist())
    time_ms = np.rint(np.where(sound, seconds, 0.0) * 1000).astype(np.int64)
    series = np.array(columns.series, dtype=np.int64)
    quality = np.array(columns.quality, dtype=np.uint8)
    at = 0
    for n, (place, count, key) in enumerate(zip(columns.places, columns.counts, keys, strict=True)):
        if n not in odd:
            mine = slice(at, at + count)
            points = Points(series[mine], time_ms[mine], value[mine], quality[mine])
            message = messages[place]
            found[place] = Arrival(key, points, message.digest[:8], None, message.received_ms)
        at += count
    return found
