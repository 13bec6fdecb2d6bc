"""What a farm type's data file says about its sensors, for people: names in both languages and how often they speak.

The files belong to `edge.farms`; the pages only read names and intervals. A gateway of a third party may have a farm
type nobody described, or sensors that no file names: then the quantity's own name is used, and silence is judged by
`DEFAULT_INTERVAL_MS`.
"""

from dataclasses import dataclass

from cloud.pages.words import Language
from edge.farms import Farm, FarmError, load_farm
from edge.quantities import quantity_of

__all__ = ["FarmType", "farm_type"]

DEFAULT_INTERVAL_MS = 600_000


@dataclass(frozen=True, slots=True)
class FarmType:
    """A kind of farm as pages speak of it; `farm` is None where no file describes it."""

    name: str
    farm: Farm | None

    def title(self, language: Language) -> str:
        """The kind of farm in the reader's language."""
        if self.farm is None:
            return self.name
        return self.farm.zh if language is Language.ZH else self.farm.en

    def label(self, series: str, language: Language) -> str:
        """A sensor's name for people; an unknown one is called by its quantity and its own name."""
        known = self.farm.series.get(series) if self.farm else None
        if known is not None:
            return known.zh if language is Language.ZH else known.en
        quantity = quantity_of(series)
        if quantity is None:
            return series
        return f"{quantity.zh if language is Language.ZH else quantity.en} · {series}"

    def interval_ms(self, series: str) -> int:
        """How often the sensor is asked, in ms."""
        known = self.farm.series.get(series) if self.farm else None
        return known.interval_s * 1000 if known else DEFAULT_INTERVAL_MS

    def rank(self, series: str) -> int:
        """Place in the farm's own order: the file names first what matters most."""
        order = list(self.farm.series) if self.farm else []
        return order.index(series) if series in order else len(order)


def farm_type(name: str) -> FarmType:
    """The farm type `name`; where no file describes it, one that is called by its own name."""
    try:
        return FarmType(name, load_farm(name))
    except FarmError:
        return FarmType(name, None)
