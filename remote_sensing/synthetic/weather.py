"""Clouds of a cloudy basin: mostly all or nothing, sunshine in August, hardly any in December; all invented."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLEAR_SHARE = (0.12, 0.14, 0.20, 0.28, 0.30, 0.30, 0.42, 0.44, 0.35, 0.22, 0.18, 0.12)
"""Clear share of a look, January..December: sunshine hours over day length in Chongqing, rounded."""
SHADOW_AND_HAZE = 0.8
LINK = 0.35
"""Chance that the sky of five days ago still holds."""
USUAL_LOOKS = 15.0


@dataclass(frozen=True, slots=True)
class Sky:
    """One date: share of the scene under cloud and its shadow; haze as optical depth."""

    cover: float
    haze: float


def skies(
    days: NDArray[np.int64], months: NDArray[np.int64], rng: np.random.Generator, thin: NDArray[np.floating]
) -> list[Sky]:
    """The sky of every date; ``thin`` (T,) multiplies the clear share (looks wanted / 15, dark year ...)."""
    made: list[Sky] = []
    luck = rng.random()
    for n in range(days.size):
        luck = luck if n and rng.random() < LINK else rng.random()
        share = float(np.clip(CLEAR_SHARE[months[n] - 1] * SHADOW_AND_HAZE * thin[n], 0, 0.68))
        haze = float(rng.uniform(0.05, 0.3))
        if luck < 0.46 * share:
            made.append(Sky(0.0, haze))
        elif luck < 1.46 * share:
            made.append(Sky(float(np.clip(rng.beta(2.0, 2.3), 0.06, 0.94)), haze))
        else:
            made.append(Sky(1.0, haze))
    return made


def random_field(size: int, slope: float, rng: np.random.Generator, outer_px: float) -> NDArray[np.float64]:
    """Gaussian random field (size, size), mean 0, sd 1, power ~ frequency^slope beyond the outer scale."""
    noise = np.fft.rfft2(rng.standard_normal((size, size)))
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    radius = np.hypot(np.hypot(fy, fx), 1 / outer_px)
    field = np.fft.irfft2(noise * radius ** (slope / 2), s=(size, size))
    spread = field.std()
    return np.asarray((field - field.mean()) / (spread if spread > 0 else 1.0))


@dataclass(frozen=True, slots=True)
class Veil:
    """Clouds of one date on the grid: ``opacity`` 0..1, ``shadow`` 0..1, ``clear`` what the mask says."""

    opacity: NDArray[np.float32]
    shadow: NDArray[np.float32]
    clear: NDArray[np.bool_]
    truly_clear: NDArray[np.bool_]


FOG_MONTHS, FOG_TOP_M, FOGGY = (11, 12, 1, 2), 400.0, 1 / 3
"""Winter mornings with fog in the valleys: when, up to which height, and how often (believed)."""


def fog(month: int, height_m: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Where fog lies this morning, (rows, columns)."""
    lies = rng.random() < FOGGY and month in FOG_MONTHS
    return np.asarray((height_m < FOG_TOP_M) & lies)


def _cloud_alone(cover: float) -> float:
    """Share under the clouds themselves, when they and the shadows beside them hide ``cover`` of a scene from the mask.

    Of a cloud 95 % is found; of its shadow, as large and lying anywhere, 85 % where no cloud covers it: the smaller
    root of 0.95 q + 0.85 q (1 - q) = cover. The clear share of a look says already what shadows take.
    """
    return float((1.8 - np.sqrt(3.24 - 3.4 * cover)) / 1.7)


def veil(
    sky: Sky,
    sun: tuple[float, float],
    bare: NDArray[np.bool_],
    rng: np.random.Generator,
    low: NDArray[np.bool_],
) -> Veil:
    """Lay a sky over the grid; ``sun`` = elevation and azimuth in degrees; ``bare`` bright ground fools masks.

    ``low``: where fog lies; it is thick and is found.

    Mask errors: 5 % of cloudy pixels missed (the thin ones), 15 % of the shadows, 3 % of bare ground flagged.
    """
    size = bare.shape[0]
    if sky.cover <= 0:
        opacity = np.zeros((size, size))
        shadow = np.zeros((size, size))
    else:
        field = random_field(size, -3.0, rng, outer_px=float(rng.uniform(300, 1000)))
        mark = np.quantile(field, 1 - _cloud_alone(sky.cover))
        opacity = np.clip((field - mark) / 0.5 + 0.25, 0, 1) * (field > mark)
        height = rng.uniform(100, 400)
        reach = min(height / np.tan(np.radians(sun[0])), size / 3)
        move = (round(reach * np.cos(np.radians(sun[1]))), round(-reach * np.sin(np.radians(sun[1]))))
        shadow = np.roll(opacity, move, axis=(0, 1)) * (opacity <= 0)
    cloudy, shaded = opacity > 0, shadow > 0
    found = cloudy & (opacity > np.quantile(opacity[cloudy], 0.05) if cloudy.any() else cloudy) | low
    opacity, cloudy = np.where(low, 1.0, opacity), cloudy | low
    blind = np.roll(random_field(size, -2.0, rng, 40.0) > 1.04, 3, axis=1)  # noqa: PLR2004 - 15 % of a normal field lie above
    flagged = found | (shaded & ~blind) | (bare & (rng.random((size, size)) < 0.03))  # noqa: PLR2004 - 3 %
    return Veil(opacity.astype(np.float32), shadow.astype(np.float32), ~flagged, ~(cloudy | shaded))
