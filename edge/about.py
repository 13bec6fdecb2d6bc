"""What a gateway says once about its sensors: who each is, what it measures, how often."""

from __future__ import annotations

import json
from collections.abc import Iterator

from edge.farms import Farm
from edge.wire import Kind, Topic, identity

__all__ = ["sensor_notes"]


def sensor_notes(gateway: str, farm: Farm) -> Iterator[tuple[Topic, bytes]]:
    """One retained message for each sensor of the farm: JSON with its URN (RFC 9039) and its series by name.

    A series says its unit, the names people know it by and its interval in seconds.
    """
    sensors: dict[str, dict[str, object]] = {}
    for name, series in farm.series.items():
        said = {"unit": series.unit, "interval_s": series.interval_s, "zh": series.zh, "en": series.en}
        sensors.setdefault(name.partition("/")[0], {})[name] = said
    for sensor, series_of in sensors.items():
        body = {"urn": identity(gateway, sensor), "series": series_of}
        yield Topic(gateway, Kind.META, name=sensor), json.dumps(body, ensure_ascii=False).encode()
