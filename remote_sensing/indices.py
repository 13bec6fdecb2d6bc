"""Spectral indices on packed bands, each with its unit and source: what the eye of the science is made of.

All functions take ``Stack.bands`` (int16, reflectance x 1e-4, missing -32768) and fill float32 of the
same shape, dimensionless, NaN where a band is missing or the denominator is not positive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from remote_sensing.cubes import SCALE, Float, Int16, LandError, Stack
from remote_sensing.kernels import keep_clear, normalized_difference, scaled

Bands = Mapping[str, Int16]


def plain(name: str) -> Callable[[Bands, Float], None]:
    """A band as it is, -3.2768..3.2767; NaN where missing."""
    return lambda bands, out: scaled(bands[name], SCALE, out)


def ndvi(bands: Bands, out: Float) -> None:
    """(nir - red) / (nir + red), -1..1, or the band ``ndvi`` as delivered. Rouse et al. 1974."""
    if "ndvi" in bands:
        scaled(bands["ndvi"], SCALE, out)
    else:
        normalized_difference(bands["nir"], bands["red"], out)


def wetness(bands: Bands, out: Float) -> None:
    """(nir - swir) / (nir + swir), -1..1: NDMI with swir1 (Gao 1996), NBR with swir2 where only that is there."""
    normalized_difference(bands["nir"], bands["swir1" if "swir1" in bands else "swir2"], out)


def evi(bands: Bands, out: Float) -> None:
    """Enhanced vegetation index, about -1..1, as delivered or computed. Huete et al. 2002."""
    if "evi" in bands:
        return scaled(bands["evi"], SCALE, out)
    nir, red, blue = (np.empty(out.shape, np.float32) for _ in range(3))
    for name, band in (("nir", nir), ("red", red), ("blue", blue)):
        scaled(bands[name], SCALE, band)
    below = nir + 6 * red - np.float32(7.5) * blue + 1
    value = np.float32(2.5) * (nir - red) / np.where(below > np.float32(0.1), below, np.float32(np.nan))
    np.clip(value, np.float32(-1), np.float32(1), out=out)
    return None


LAYERS: Mapping[str, tuple[tuple[frozenset[str], ...], Callable[[Bands, Float], None]]] = {
    "ndvi": ((frozenset({"ndvi"}), frozenset({"red", "nir"})), ndvi),
    "wetness": ((frozenset({"nir", "swir1"}), frozenset({"nir", "swir2"})), wetness),
    "evi": ((frozenset({"evi"}), frozenset({"nir", "red", "blue"})), evi),
    "red": ((frozenset({"red"}),), plain("red")),
    "nir": ((frozenset({"nir"}),), plain("nir")),
    "blue": ((frozenset({"blue"}),), plain("blue")),
    "swir2": ((frozenset({"swir2"}),), plain("swir2")),
    "contrast": ((frozenset({"contrast"}),), plain("contrast")),
}
"""Layer -> (the sets of bands any of which is enough, what fills it)."""


def available(bands: Bands) -> tuple[str, ...]:
    """Names of the layers that can be computed from these bands, in table order."""
    return tuple(name for name in LAYERS if _made_of(name, bands) is not None)


def _made_of(name: str, bands: Bands) -> frozenset[str] | None:
    """The bands that fill a layer, the first set of the table that is there; None where there is none."""
    return next((need for need in LAYERS[name][0] if need <= bands.keys()), None) if name in LAYERS else None


def bands_of(names: tuple[str, ...], bands: Bands) -> frozenset[str]:
    """Names of the bands that these layers are computed from.

    Raises ``LandError("missing_band")`` when a layer cannot be computed from the bands there are.
    """
    needs = {name: _made_of(name, bands) for name in names}
    lacking = [name for name, need in needs.items() if need is None]
    if lacking:
        raise LandError("missing_band", f"layers {lacking} cannot be made of bands {sorted(bands)}")
    return frozenset().union(*(need for need in needs.values() if need is not None))


def raw_layers(stack: Stack, names: tuple[str, ...]) -> Float:
    """The layers (L, T, N) of a stack, float32, clear or not, NaN where a layer has nothing.

    Raises as ``bands_of``.
    """
    bands_of(names, stack.bands)
    out = np.empty((len(names), *stack.clear.shape), np.float32)
    for place, name in enumerate(names):
        LAYERS[name][1](stack.bands, out[place])
    return out


def layers_of(stack: Stack, names: tuple[str, ...]) -> Float:
    """The layers (L, T, N) of a stack, float32, NaN where unclear; missing in one layer is missing in all.

    Raises as ``bands_of``.
    """
    out = raw_layers(stack, names)
    keep_clear(out, stack.clear)
    return out
