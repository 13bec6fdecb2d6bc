"""Scenes with known truth, for tests and for showing the program run. SYNTHETIC: never an accuracy claim.

``county`` draws a hilly patch near Chongqing with terraces of a few hundred square metres, the crops and
fates of each, five-day looks through a cloudy sky with faulty masks, noise, haze, misregistration and
half-corrected terrain light. The truth is known; the land is not real.
"""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from rasterio.transform import Affine

from remote_sensing import states as st
from remote_sensing.cubes import MISSING, Calendar, Float, pack_values
from remote_sensing.evidence import MIN_LOOKS
from remote_sensing.synthetic import phenology as ph
from remote_sensing.synthetic.land import PIXEL_M, Land, fates, make_land, polygons
from remote_sensing.synthetic.paint import FINE, blur_weights, draw
from remote_sensing.synthetic.spectra import HAZE, LEAFIER, roughness, spectra
from remote_sensing.synthetic.weather import USUAL_LOOKS, Sky, fog, random_field, skies, veil

CRS = "EPSG:32648"
ORIGIN = (640_000.0, 3_280_000.0)
"""Upper left corner, metres in UTM 48 N: about 106.45 E, 29.64 N, north of Chongqing."""
LATITUDE = 29.6
FIRST_CROP_YEAR = 2018
BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
OVERCAST = 0.95
"""Share of cloud from which nobody downloads a scene."""
GROUND, PATCH = 1, 16.0
"""Which of a seed's draws the ground's texture is, apart from the others; outer scale of its patches in fine cells."""
TITLE = "SYNTHETIC 合成 county scene: not real land"


@dataclass(frozen=True, slots=True)
class Scene:
    """A synthetic scene. ``cube`` is what a satellite would give; everything else is hidden truth.

    ``parcels``: columns parcel, cell, slope_deg, height_m, geometry (EPSG:32648). ``truth``: parcel, kind,
    fate, states (tuple of names), abandoned_year, recultivated_year (crop years or -1), abandoned_now.
    ``weather``: date, cover 0..1, kept, shift_x_px, shift_y_px. ``height_m`` (y, x).
    """

    cube: xr.Dataset
    parcels: gpd.GeoDataFrame
    truth: pd.DataFrame
    weather: pd.DataFrame
    height_m: NDArray[np.float64]


def county(
    seed: int,
    size: int = 256,
    years: int = 8,
    parcels: int = 1000,
    *,
    looks: float = USUAL_LOOKS,
    radar: bool = False,
    dark_year: bool = True,
) -> Scene:
    """A synthetic county patch of ``size`` x ``size`` 10 m pixels, ``years`` crop years, about ``parcels`` terraces.

    ``looks``: mean clear looks per pixel and year (15 is usual for the region). ``radar``: add speckled
    VV/VH every 12 days. ``dark_year``: one year in the middle with so few looks that it must be undecided.
    Dates under full cloud are not kept in the cube (nobody downloads them) but listed in ``weather``.
    Same seed and settings, same scene. Raises ``LandError("bad_setting")``.
    """
    rng = np.random.default_rng(seed)
    land = make_land(size, parcels, rng)
    plan, names = fates(land, years, rng)
    transform = Affine(PIXEL_M, 0, ORIGIN[0], 0, -PIXEL_M, ORIGIN[1])
    frame = polygons(land, transform, CRS)
    start = Calendar().start(FIRST_CROP_YEAR)
    days = np.arange(start + int(rng.integers(0, 5)), Calendar().start(FIRST_CROP_YEAR + years), 5)
    sky = _weather(days, looks, years if dark_year else 0, rng)
    seen = spectra(days - start, plan, rng)
    kept = np.array([one.cover < OVERCAST for one in sky])
    shifts = np.clip(np.round(rng.normal(0, 0.25 * FINE, (days.size, 2))), -FINE, FINE).astype(int)
    rough = np.stack([roughness(int(day), plan) for day in days - start])
    pattern = random_field(land.painted.shape[0], -2.0, np.random.default_rng([seed, GROUND]), PATCH)
    texture = pattern.astype(np.float32), rough
    cube = _observe(land, np.flatnonzero(kept), (days, sky, seen, shifts), texture, rng)
    cube.attrs["period"] = [str(days[n].astype("datetime64[D]")) for n in (0, -1)]
    if radar:
        cube = cube.merge(_radar(land, start, plan, rng), combine_attrs="override")
    weather = pd.DataFrame(
        {
            "date": days.astype("datetime64[D]").astype("datetime64[s]"),
            "cover": [one.cover for one in sky],
            "kept": kept,
            "shift_x_px": shifts[:, 1] / FINE,
            "shift_y_px": shifts[:, 0] / FINE,
        }
    )
    return Scene(cube, frame, _truth(frame, plan, names), weather, land.height_m)


def _weather(days: NDArray[np.int64], looks: float, years: int, rng: np.random.Generator) -> list[Sky]:
    months = pd.DatetimeIndex(days.astype("datetime64[D]").astype("datetime64[s]")).month.to_numpy()
    thin = np.full(days.size, looks / USUAL_LOOKS)
    if years <= 3:  # noqa: PLR2004 - shorter series keep all their light
        return skies(days, months, rng, thin)
    begin, end = (Calendar().start(FIRST_CROP_YEAR + years // 3 + n) for n in (0, 1))
    dark = (days >= begin) & (days < end)
    thin[dark] *= 0.12
    sky = skies(days, months, rng, thin)
    open_sky = [n for n in np.flatnonzero(dark) if sky[n].cover < OVERCAST]
    for n in open_sky[MIN_LOOKS - 1 :]:  # a thin year of a lucky seed has more looks than that
        sky[n] = Sky(1.0, sky[n].haze)
    return sky


def sun_position(day: int) -> tuple[float, float]:
    """Sun elevation and azimuth, degrees, about 10:40 local solar time at the scene's latitude."""
    season = 2 * np.pi * ((day + 10) % 365.2425) / 365.2425
    tilt = np.radians(-23.44 * np.cos(season))
    hour, lat = np.radians(-20.0), np.radians(LATITUDE)
    sine = np.sin(lat) * np.sin(tilt) + np.cos(lat) * np.cos(tilt) * np.cos(hour)
    height = np.arcsin(sine)
    cosine = (np.sin(tilt) - sine * np.sin(lat)) / (np.cos(height) * np.cos(lat))
    return float(np.degrees(height)), float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _light(land: Land, sun: tuple[float, float], left: float) -> Float:
    """Terrain light that a half-done correction leaves: 1 on flat land."""
    slope, zenith = np.radians(land.slope_deg), np.radians(90 - sun[0])
    falls = np.cos(slope) * np.cos(zenith) + np.sin(slope) * np.sin(zenith) * np.cos(
        np.radians(sun[1]) - land.aspect_rad
    )
    light: Float = np.clip(1 + left * (falls / np.cos(zenith) - 1), 0.35, 1.5).astype(np.float32)
    return light


_Looks = tuple[NDArray[np.int64], list[Sky], Float, NDArray[np.int64]]


def _observe(
    land: Land, kept: NDArray[np.int64], looks: _Looks, texture: tuple[Float, Float], rng: np.random.Generator
) -> xr.Dataset:
    """Draw every kept date and put clouds, light and noise on it."""
    days, sky, seen, shifts = looks
    size = land.height_m.shape[0]
    bare = seen[0].mean(axis=1)[land.painted[::FINE, ::FINE]] > 0.16  # noqa: PLR2004 - bright ground
    bands = np.empty((len(BANDS), kept.size, size, size), np.int16)
    clear = np.empty((kept.size, size, size), bool)
    weights = blur_weights()
    for place, n in enumerate(kept):
        sun = sun_position(int(days[n]))
        here = texture[0], texture[1][n], LEAFIER
        drawn = draw(land.painted, seen[n], here, (int(shifts[n, 0]), int(shifts[n, 1])), weights)
        month = int(days[n].astype("datetime64[D]").astype("datetime64[M]").astype(int)) % 12 + 1
        above = veil(sky[n], sun, bare, rng, fog(month, land.height_m, rng))
        drawn *= _light(land, sun, float(rng.uniform(0.1, 0.25)))
        drawn *= 1 - 0.45 * above.shadow
        drawn += (np.float32(rng.uniform(0.3, 0.8)) - drawn) * (0.9 * above.opacity)
        clear[place] = above.clear
        for band in range(len(BANDS)):
            bands[band, place] = pack_values(_sensor(drawn[band], band, sky[n].haze, rng))
    coords = {
        "time": days[kept].astype("datetime64[D]").astype("datetime64[s]") + np.timedelta64(3 * 3600 + 40 * 60, "s"),
        "y": ORIGIN[1] - PIXEL_M * (np.arange(size) + 0.5),
        "x": ORIGIN[0] + PIXEL_M * (np.arange(size) + 0.5),
    }
    dims = ("time", "y", "x")
    held = {name: (dims, bands[b]) for b, name in enumerate(BANDS)}
    return xr.Dataset(
        {**held, "clear": (dims, clear)},
        coords=coords,
        attrs={"crs": CRS, "synthetic": True, "title": TITLE, "scale": 1e-4, "missing": MISSING},
    )


def _sensor(band: Float, place: int, haze: float, rng: np.random.Generator) -> Float:
    """Haze, residual of the atmospheric correction, view angle and random noise of one band and date."""
    veiling = haze * HAZE[place]
    common = rng.normal(1, 0.05 if place == 0 else 0.03) * rng.uniform(0.96, 1.04)
    noise = rng.standard_normal(band.shape, dtype=np.float32) * (np.float32(0.002) + np.float32(0.015) * band)
    seen: Float = np.clip(band * np.float32(common) + np.float32(veiling) + noise, 0.0005, 1.2).astype(np.float32)
    return seen


def _radar(land: Land, start: int, plan: ph.Plan, rng: np.random.Generator) -> xr.Dataset:
    """Speckled VV/VH in decibel x 100 every 12 days: growth raises VH, flooding drops both."""
    years = plan.kinds.shape[0]
    days = np.arange(start + 3, start + int(years * ph.YEAR_DAYS), 12)
    green = ph.greenness((days - start).astype(float), plan, np.random.default_rng(int(rng.integers(1 << 31))))
    water = ph.flooding((days - start).astype(float), plan)
    grown = np.clip((green - 0.15) / 0.7, 0, 1)
    size = land.height_m.shape[0]
    weights = blur_weights()
    even = np.zeros(land.painted.shape, np.float32), np.zeros(grown.shape[1], np.float32), np.zeros(2, np.float32)
    out = np.empty((2, days.size, size, size), np.int16)
    for n in range(days.size):
        moist = rng.normal(0, 0.8, grown.shape[1])
        built = np.isin(plan.kinds[min(int((days[n] - start) / ph.YEAR_DAYS), years - 1)], (ph.BUILT, ph.GREENHOUSE))
        vv = np.where(built, -6.0, -12 + 2.5 * grown[n] - 7 * water[n] * (1 - grown[n]) + moist)
        vh = np.where(built, -13.0, -21 + 6.5 * grown[n] - 5 * water[n] * (1 - grown[n]) + moist)
        table = (10 ** (np.stack([vv, vh], axis=1) / 10)).astype(np.float32)
        drawn = draw(land.painted, table, even, (0, 0), weights)  # speckle hides what texture there is
        drawn *= rng.gamma(4.4, 1 / 4.4, drawn.shape).astype(np.float32)
        out[:, n] = pack_values(10 * np.log10(np.maximum(drawn, 1e-5)), 1e-2)
    dims = ("time_radar", "y", "x")
    times = days.astype("datetime64[D]").astype("datetime64[s]")
    return xr.Dataset({"vv": (dims, out[0]), "vh": (dims, out[1])}, coords={"time_radar": times})


def _truth(frame: gpd.GeoDataFrame, plan: ph.Plan, names: list[str]) -> pd.DataFrame:
    rows = []
    for name, cell in zip(frame["parcel"], frame["cell"], strict=True):
        states = plan.states[:, cell]
        gone = np.flatnonzero(np.isin(states, (st.YOUNG, st.OLD)))
        back = gone.size and gone[-1] + 1 < states.size
        rows.append(
            {
                "parcel": name,
                "kind": ph.KINDS[int(plan.kinds[0, cell])],
                "fate": names[cell],
                "states": tuple(st.STATES[code] for code in states),
                "abandoned_year": FIRST_CROP_YEAR + int(gone[0]) if gone.size else -1,
                "recultivated_year": FIRST_CROP_YEAR + int(gone[-1]) + 1 if back else -1,
                "abandoned_now": bool(np.isin(states[-2:], (st.YOUNG, st.OLD)).all()),
            }
        )
    return pd.DataFrame(rows)
