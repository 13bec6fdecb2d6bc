"""Spectral indices on packed bands, each with its unit and source: what the eye of the science is made of.

All functions take ``Stack.bands`` (int16, reflectance x 1e-4, missing -32768) and return float32 of the
same shape, dimensionless, NaN where a band is missing or the denominator is not positive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from remote_sensing.cubes import MISSING, SCALE, Float, Int16, LandError, Stack
from remote_sensing.kernels import keep_clear, normalized_difference

Bands = Mapping[str, Int16]


def plain(band: Int16) -> Float:
    """A band as it is, -3.2768..3.2767; NaN where missing."""
    scaled = band.astype(np.float32) * np.float32(SCALE)
    return np.where(band == MISSING, np.float32(np.nan), scaled)


def ndvi(bands: Bands) -> Float:
    """(nir - red) / (nir + red), -1..1, or the band ``ndvi`` as delivered. Rouse et al. 1974."""
    if "ndvi" in bands:
        return plain(bands["ndvi"])
    return normalized_difference(bands["nir"], bands["red"])


def wetness(bands: Bands) -> Float:
    """(nir - swir) / (nir + swir), -1..1: NDMI with swir1 (Gao 1996), NBR with swir2 where only that is there."""
    return normalized_difference(bands["nir"], bands["swir1" if "swir1" in bands else "swir2"])


def evi(bands: Bands) -> Float:
    """Enhanced vegetation index, about -1..1, as delivered or computed. Huete et al. 2002."""
    if "evi" in bands:
        return plain(bands["evi"])
    nir, red, blue = (plain(bands[name]) for name in ("nir", "red", "blue"))
    below = nir + 6 * red - np.float32(7.5) * blue + 1
    value = np.float32(2.5) * (nir - red) / np.where(below > np.float32(0.1), below, np.float32(np.nan))
    return np.clip(value, np.float32(-1), np.float32(1)).astype(np.float32)


LAYERS: Mapping[str, tuple[tuple[frozenset[str], ...], Callable[[Bands], Float]]] = {
    "ndvi": ((frozenset({"ndvi"}), frozenset({"red", "nir"})), ndvi),
    "wetness": ((frozenset({"nir", "swir1"}), frozenset({"nir", "swir2"})), wetness),
    "evi": ((frozenset({"evi"}), frozenset({"nir", "red", "blue"})), evi),
    "red": ((frozenset({"red"}),), lambda bands: plain(bands["red"])),
    "nir": ((frozenset({"nir"}),), lambda bands: plain(bands["nir"])),
    "blue": ((frozenset({"blue"}),), lambda bands: plain(bands["blue"])),
    "swir2": ((frozenset({"swir2"}),), lambda bands: plain(bands["swir2"])),
    "contrast": ((frozenset({"contrast"}),), lambda bands: plain(bands["contrast"])),
}
"""Layer -> (the sets of bands any of which is enough, how to compute it)."""


def available(bands: Bands) -> tuple[str, ...]:
    """Names of the layers that can be computed from these bands, in table order."""
    return tuple(name for name, (needs, _) in LAYERS.items() if any(need <= bands.keys() for need in needs))


def layers_of(stack: Stack, names: tuple[str, ...]) -> Float:
    """The layers (L, T, N) of a stack, float32, NaN where unclear; missing in one layer is missing in all.

    Raises ``LandError("missing_band")`` when a layer cannot be computed from the bands there are.
    """
    lacking = [name for name in names if name not in available(stack.bands)]
    if lacking:
        raise LandError("missing_band", f"layers {lacking} cannot be made of bands {sorted(stack.bands)}")
    out = np.empty((len(names), *stack.clear.shape), np.float32)
    for place, name in enumerate(names):
        out[place] = LAYERS[name][1](stack.bands)
    keep_clear(out, stack.clear)
    return out
