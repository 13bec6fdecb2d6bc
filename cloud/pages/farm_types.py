"""What a farm type's data file says about its sensors, for people: names in both languages and how often they speak.

The files belong to `edge/farms`; the pages only read names and intervals. A gateway of a third party may have a farm
type nobody described, or sensors that no file names: then the quantity's own name is used, and silence is judged by
`DEFAULT_INTERVAL_MS`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

from cloud.pages.words import Language
from edge.quantities import quantity_of

__all__ = ["FarmType", "farm_type"]

DEFAULT_INTERVAL_MS = 600_000


@dataclass(frozen=True, slots=True)
class SensorName:
    """One sensor of a farm type."""

    zh: str
    en: str
    interval_ms: int


@dataclass(frozen=True, slots=True)
class FarmType:
    """A kind of farm and what its sensors are called."""

    zh: str
    en: str
    sensors: Mapping[str, SensorName] = field(default_factory=dict)

    def title(self, language: Language) -> str:
        """The kind of farm in the reader's language."""
        return self.zh if language is Language.ZH else self.en

    def label(self, series: str, language: Language) -> str:
        """A sensor's name for people; an unknown one is called by its quantity and its own name."""
        known = self.sensors.get(series)
        if known is not None:
            return known.zh if language is Language.ZH else known.en
        quantity = quantity_of(series)
        if quantity is None:
            return series
        return f"{quantity.zh if language is Language.ZH else quantity.en} · {series}"

    def interval_ms(self, series: str) -> int:
        """How often the sensor is asked, in ms."""
        known = self.sensors.get(series)
        return known.interval_ms if known else DEFAULT_INTERVAL_MS

    def rank(self, series: str) -> int:
        """Place in the farm's own order: the file names first what matters most."""
        return list(self.sensors).index(series) if series in self.sensors else len(self.sensors)


@lru_cache
def farm_type(name: str) -> FarmType:
    """The farm type `name`; where no file describes it, one that is called by its own name."""
    file = files("edge").joinpath("farms", f"{name}.toml")
    if not name.isidentifier() or not file.is_file():
        return FarmType(name, name)
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    sensors = {
        row["name"]: SensorName(row["zh"], row["en"], int(row["interval_s"] * 1000)) for row in table.get("series", ())
    }
    return FarmType(table["zh"], table["en"], sensors)
