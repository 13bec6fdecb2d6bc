"""The stable-land sets: a program that never alarms passes them, so each has a power test beside it.

The power test plants a change from crops to weeds into the very pixels: curves of the synthetic phenology plus
the pixel's own departures from its usual year, under the same masks, judged at the same setting.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from land_series import first

from remote_sensing import CN_ADMIN, ONE_YEAR, Calendar
from remote_sensing import states as st
from remote_sensing.cubes import MISSING, SCALE, day_numbers, pack_values
from remote_sensing.detection import default_model, judge_pixels
from remote_sensing.scenes import open_scene
from remote_sensing.synthetic import phenology as ph
from remote_sensing.synthetic.spectra import spectra

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")


def alarms(cube, profile):
    """Per pixel: any crop year with P(abandoned) >= 0.5; and the share of pixel-years decided."""
    found = judge_pixels(cube, model=default_model(cube))
    chance = np.where(found.decided, found.abandoned(profile), 0)
    return (chance >= 0.5).any(axis=0), float(found.decided.mean()), found


def residuals(values, days):
    """Each pixel's departure from its own median year (in eighths of a year): float (T, N), NaN = missing."""
    slot = ((days % 365.2425) / 365.2425 * 8).astype(int)
    out = np.full(values.shape, np.nan)
    for one in range(8):
        here = slot == one
        if here.any():
            part = values[here]
            with np.errstate(all="ignore"):
                out[here] = part - np.nanmedian(part, axis=0)
    return np.clip(out, -0.25, 0.25)


def planted(cube, years, rng, kinds=(ph.RICE, ph.RAPE_RICE)):
    """The cube with a crop-to-idle change planted in every pixel; and the first idle year's place, per pixel."""
    days = day_numbers(cube["time"].to_numpy())
    pixels = cube.sizes["y"] * cube.sizes["x"]
    first_year, span = years[0] - 1, len(years) + 2
    start = Calendar().start(first_year)
    turn = rng.integers(1, max(2, len(years) - 1 if len(years) > 2 else 2), pixels)
    order = np.arange(span)[:, None] - 1
    idle = order >= turn[None, :]
    chosen = rng.choice(kinds, pixels)
    plan = ph.Plan(
        np.repeat(chosen[None], span, axis=0),
        np.where(idle, st.YOUNG, st.CULTIVATED),
        np.clip(order - turn[None, :], 0, 8),
    )
    drawn = spectra((days - start).astype(float), plan, rng)
    made = cube.copy()
    shape = (days.size, cube.sizes["y"], cube.sizes["x"])
    if "red" in cube:
        for place, band in enumerate(BANDS):
            if band in cube:
                real = _real(cube[band])
                values = drawn[:, :, place] + residuals(real, days) * 0.5
                made[band] = (cube[band].dims, _packed(values, real, shape))
    if "ndvi" in cube:
        real = _real(cube["ndvi"])
        green = (drawn[:, :, 3] - drawn[:, :, 2]) / (drawn[:, :, 3] + drawn[:, :, 2])
        made["ndvi"] = (cube["ndvi"].dims, _packed(green + residuals(real, days), real, shape))
    return made, turn


def _real(band):
    values = band.transpose("time", "y", "x").to_numpy().reshape(band.sizes["time"], -1)
    return np.where(values == MISSING, np.nan, values * SCALE)


def _packed(values, real, shape):
    return pack_values(np.where(np.isfinite(real), np.clip(values, -0.3, 1.0), np.nan)).reshape(shape)


def score_slovenia(report, data_folder):
    """Sentinel-2 forest and built-up: no alarm; planted change: found (definition one_year)."""
    path = first(data_folder, "s2_slovenia*.nc")
    if path is None:
        report.figure("slovenia_stable_alarm_share", None, cases=0)
        report.figure("slovenia_power_recall", None, cases=0)
        return
    cube = open_scene(path).cube
    with xr.open_dataset(path) as raw:
        cover = raw["lulc"].to_numpy().ravel()
    stable = np.isin(cover, (2, 8))
    _score(report, "slovenia", cube, stable, ONE_YEAR, 0.005)


def score_landsat(report, data_folder):
    """Thirty years of stable forest in New England."""
    path = first(data_folder, "landsat_p013r030*.nc")
    if path is None:
        report.figure("landsat_stable_alarm_share", None, cases=0)
        report.figure("landsat_power_recall", None, cases=0)
        return
    cube = open_scene(path).cube
    _score(report, "landsat", cube, np.ones(cube.sizes["y"] * cube.sizes["x"], bool), CN_ADMIN, 0.01)


def _score(report, name, cube, stable, profile, most):
    alarmed, _, found = alarms(cube, profile)
    report.figure(
        f"{name}_stable_alarm_share",
        float(alarmed[stable].mean()),
        cases=int(stable.sum()),
        wrong=int(alarmed[stable].sum()),
        at_most=most,
    )
    report.figure(f"{name}_decided_share", float(found.decided[:, stable].mean()), at_least=0.9)
    made, _ = planted(cube, found.years, np.random.default_rng(0))
    seen, _, _ = alarms(made, profile)
    report.figure(
        f"{name}_power_recall",
        float(seen[stable].mean()),
        cases=int(stable.sum()),
        wrong=int((~seen[stable]).sum()),
        at_least=0.8,
    )
