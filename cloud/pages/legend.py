"""What each status of a parcel looks like; the map's island draws the same (frontend/src/palette.ts, and a test).

Palette "A" was computed to stay apart under the three kinds of colour-vision deficiency. Colour is never the only sign:
suspected land is hatched, verified abandoned land is outlined heavily, and what no image shows is dotted.
"""

from dataclasses import dataclass

__all__ = ["CLASS_COLOURS", "PALETTE", "Look", "Share", "shares"]


@dataclass(frozen=True, slots=True)
class Look:
    """Fill colour and the mark over it: "", "hatch", "dots", "outline" or "lines"."""

    colour: str
    mark: str = ""


PALETTE = {
    "suspected": Look("#f28e2b", "hatch"),
    "abandoned": Look("#8c1d18", "outline"),
    "cultivated": Look("#4d9a6a"),
    "fallow": Look("#e6d38a"),
    "converted": Look("#3b4ba3"),
    "natural": Look("#a9c7c0", "lines"),
    "excused": Look("#f4efe3", "outline"),
    "not_observable": Look("#b8bec4", "dots"),
    "unknown": Look("#e4e6e8"),
}
"""By parcel status, in the order in which an official cares."""

CLASS_COLOURS = {
    "abandoned": "#c5531b",
    "cultivated": "#4d9a6a",
    "idle_season": "#c9b458",
    "converted": "#3b4ba3",
    "natural": "#7fa79e",
}
"""By class of a detection, for the bars of its probabilities."""


@dataclass(frozen=True, slots=True)
class Share:
    """One status in the bar of all parcels; `start` and `width` in thousandths."""

    status: str
    count: int
    start: float
    width: float


def shares(counts: dict[str, int]) -> tuple[Share, ...]:
    """Statuses that occur, in the order of `PALETTE`, laid end to end over a thousand units."""
    total = sum(counts.values())
    found, at = [], 0.0
    for status in PALETTE:
        count = counts.get(status, 0)
        if count:
            width = round(1000 * count / total, 2)
            found.append(Share(status, count, round(at, 2), width))
            at += width
    return tuple(found)
