"""Spectral indices on packed bands, each with its unit and source: what the eye of the science is made of.

Layers are made of ``Stack.bands`` (int16, reflectance x 1e-4, missing -32768) by one table, as float32 of the same
shape or in the evidence kernel itself: dimensionless, NaN where a band is missing or the denominator is not positive.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from remote_sensing.cubes import SCALE, Float, Int16, LandError, Stack, pack_values
from remote_sensing.kernels import Made, keep_clear, normalized_difference, scaled

Bands = Mapping[str, Int16]
PAIR, EVI = 2, 3
"""Bands that a normalised difference is made of, and EVI."""

LAYERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "ndvi": (("ndvi",), ("nir", "red")),
    "wetness": (("nir", "swir1"), ("nir", "swir2")),
    "evi": (("evi",), ("nir", "red", "blue")),
    **{name: ((name,),) for name in ("red", "nir", "blue", "swir2", "contrast")},
}
"""Layer -> what it is made of, the first that is there: one band as it is, the normalised difference of two, or EVI.

NDVI: (nir - red) / (nir + red), -1..1, or as delivered; Rouse et al. 1974. Wetness: (nir - swir) / (nir + swir), -1..1,
NDMI with swir1 (Gao 1996), NBR with swir2 where only that is there. Bands as they are: -3.2768..3.2767.
"""


def _evi(bands: Bands, out: Float) -> None:
    """Enhanced vegetation index, about -1..1. Huete et al. 2002."""
    nir, red, blue = (np.empty(out.shape, np.float32) for _ in range(3))
    for name, band in (("nir", nir), ("red", red), ("blue", blue)):
        scaled(bands[name], SCALE, band)
    below = nir + 6 * red - np.float32(7.5) * blue + 1
    value = np.float32(2.5) * (nir - red) / np.where(below > np.float32(0.1), below, np.float32(np.nan))
    np.clip(value, np.float32(-1), np.float32(1), out=out)


def available(bands: Bands) -> tuple[str, ...]:
    """Names of the layers that can be computed from these bands, in table order."""
    return tuple(name for name in LAYERS if _made_of(name, bands))


def _made_of(name: str, bands: Bands) -> tuple[str, ...]:
    """The bands that a layer is made of, the first of the table that are there; none where there are none."""
    return next((need for need in LAYERS.get(name, ()) if bands.keys() >= set(need)), ())


def made_of(names: tuple[str, ...], bands: Bands) -> tuple[tuple[str, ...], ...]:
    """What each of these layers is made of, see ``LAYERS``.

    Raises ``LandError("missing_band")`` when a layer cannot be computed from the bands there are.
    """
    needs = tuple(_made_of(name, bands) for name in names)
    lacking = [name for name, need in zip(names, needs, strict=True) if not need]
    if lacking:
        raise LandError("missing_band", f"layers {lacking} cannot be made of bands {sorted(bands)}")
    return needs


def packed_for(needs: tuple[tuple[str, ...], ...], bands: Bands) -> tuple[Int16, Made]:
    """The bands (B, T, N) that layers of these ``needs`` are made of, side by side, and how; for ``annual_evidence``.

    A computed EVI becomes a band of its own, rounded to 1e-4 like every other.
    """
    parts = [("evi",) if len(need) == EVI else need for need in needs]
    names = sorted({name for part in parts for name in part})
    shape = next(iter(bands.values())).shape
    packed = np.empty((len(names), *shape), np.int16)
    for place, name in enumerate(names):
        if name in bands:
            packed[place] = bands[name]
        else:
            value = np.empty(shape, np.float32)
            _evi(bands, value)
            packed[place] = pack_values(value)
    of = [(names.index(part[0]), names.index(part[1]) if len(part) == PAIR else -1) for part in parts]
    return packed, (np.array(of, np.int64), np.array([(SCALE, 0.0)] * len(needs), np.float32))


def layers_of(stack: Stack, names: tuple[str, ...]) -> Float:
    """The layers (L, T, N) of a stack, float32, NaN where unclear; missing in one layer is missing in all.

    Raises as ``made_of``.
    """
    needs = made_of(names, stack.bands)
    out = np.empty((len(names), *stack.clear.shape), np.float32)
    for place, need in enumerate(needs):
        held = [stack.bands[name] for name in need]
        if len(need) == EVI:
            _evi(stack.bands, out[place])
        elif len(need) == PAIR:
            normalized_difference(held[0], held[1], out[place])
        else:
            scaled(held[0], SCALE, out[place])
    keep_clear(out, stack.clear)
    return out
