"""From greenness and water to six bands: linear mixtures of textbook end members, all invented."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remote_sensing import states as st
from remote_sensing.cubes import Float
from remote_sensing.synthetic import phenology as ph

_VEGETATION = np.array([0.030, 0.070, 0.035, 0.42, 0.20, 0.09])
_SOIL = np.array([0.070, 0.100, 0.140, 0.22, 0.30, 0.25])
_WATER = np.array([0.060, 0.070, 0.050, 0.03, 0.015, 0.01])
_BUILT = np.array([0.140, 0.150, 0.160, 0.20, 0.25, 0.23])
_GREENHOUSE = np.array([0.300, 0.310, 0.310, 0.39, 0.31, 0.26])
_SOLAR = np.array([0.060, 0.060, 0.065, 0.09, 0.08, 0.07])
HAZE = np.array([0.20, 0.12, 0.08, 0.03, 0.012, 0.006])
"""Reflectance that is left in each band per unit of optical depth after a half-done correction."""
SNOW = np.array([0.65, 0.64, 0.62, 0.56, 0.12, 0.10])
LEAFIER = np.array([-1.0, -0.6, -1.0, 0.6, -0.6, -0.9], np.float32)
"""How each band of a spot leafier than its field differs, in shares: leaves are dark but in the near infrared."""
ROUGH, ROUGHER = 0.05, 1.3
"""Sd of the texture inside a worked field, a share of its red (believed), and how much more of it weeds make."""
_YELLOW = np.float32(0.05)
"""What a field in full flower sends back more in green; blue stays dark, which is yellow."""
_COVERS = {ph.BUILT: _BUILT, ph.GREENHOUSE: _GREENHOUSE, ph.SOLAR: _SOLAR, ph.WATER: _WATER}


def spectra(since: NDArray[np.int64], plan: ph.Plan, rng: np.random.Generator) -> Float:
    """Reflectance (T, P, 6) of every cell of a plan on every date (days since its first 1 October).

    Bands blue, green, red, nir, swir1, swir2: a mixture of leaf, soil and water that has the NDVI wanted.
    """
    green = ph.greenness(since.astype(float), plan, rng)
    water = ph.flooding(since.astype(float), plan)
    fraction = np.clip((0.36 * green - 0.08) / (0.305 - 0.095 * green), -0.12, 1.1)[..., None]
    ground = _SOIL * np.exp(rng.normal(0, 0.10, (1, green.shape[1], 1)))
    values = fraction * _VEGETATION + (1 - fraction) * ground
    for kind in ph.FLOWERING:
        values[..., 1] += _YELLOW * ph.flowering(since.astype(float), plan, kind)
    values = (1 - water[..., None]) * values + water[..., None] * _WATER
    year = np.clip((since / ph.YEAR_DAYS).astype(int), 0, plan.kinds.shape[0] - 1)
    kinds, ages, states = plan.kinds[year], plan.ages[year], plan.states[year]
    idle = np.isin(states, (st.YOUNG, st.OLD))
    values[..., 4] -= (0.01 * np.minimum(ages, 6) * idle).astype(values.dtype)
    for kind, colour in _COVERS.items():
        who = kinds == kind
        values[who] = 0.85 * colour + 0.15 * values[who]
    seen: Float = np.clip(values, 0.002, 0.9).astype(np.float32)
    return seen


def roughness(since: int, plan: ph.Plan) -> Float:
    """How far the texture inside each cell (P,) shows on a date (days since the plan's first 1 October)."""
    year = min(max(int(since / ph.YEAR_DAYS), 0), plan.kinds.shape[0] - 1)
    idle = np.isin(plan.states[year], (st.YOUNG, st.OLD))
    rough: Float = (ROUGH * np.where(idle, ROUGHER, 1.0)).astype(np.float32)
    return rough
