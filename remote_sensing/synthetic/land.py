"""Synthetic hills: a fractal terrain, terraces along its contours, and what each cell goes through."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

from remote_sensing import states as st
from remote_sensing.cubes import LandError
from remote_sensing.synthetic import phenology as ph
from remote_sensing.synthetic.paint import FINE, terraces
from remote_sensing.synthetic.weather import random_field

PIXEL_M = 10.0
MEDIAN_M2 = 600.0
FATES = (
    "stable",
    "abandoned",
    "fallow",
    "seasonal",
    "recultivated",
    "orchard",
    "forest",
    "built",
    "merged",
    "landslide",
)
AGAIN = 0.2
"""Chance a year that land left idle for two years or more is worked again."""
HEDGED = 0.2
"""Share of terraces whose edges carry slowly growing shrub while the field inside is worked as ever."""


@dataclass(frozen=True, slots=True)
class Land:
    """Terrain and cells: ``height_m`` (rows, columns), ``owners`` fine grid of cell numbers, seeds' facts.

    ``painted`` is ``owners`` with the shrubby edges as cells of their own, numbered after all others; ``hedged``
    the terraces they belong to. ``beside`` (fields,): a field that touches each field, or the field itself.
    """

    height_m: NDArray[np.float64]
    slope_deg: NDArray[np.float64]
    aspect_rad: NDArray[np.float64]
    owners: NDArray[np.int32]
    fields: NDArray[np.int64]
    cell_height: NDArray[np.float64]
    cell_slope: NDArray[np.float64]
    painted: NDArray[np.int32]
    hedged: NDArray[np.int64]
    beside: NDArray[np.int64]


def make_land(size: int, parcels: int, rng: np.random.Generator) -> Land:
    """Terrain (Hurst about 0.8) and cells: ``parcels`` terraces, log-normal, in field zones; woods between."""
    if size * size * PIXEL_M**2 < parcels * MEDIAN_M2:
        raise LandError("bad_setting", f"{parcels} parcels do not fit into {size} x {size} pixels")
    relief = random_field(size, -3.6, rng, outer_px=200.0)
    height = 450 + 130 * relief
    down_y, down_x = np.gradient(height, PIXEL_M)
    slope = np.degrees(np.arctan(np.hypot(down_y, down_x)))
    aspect = np.arctan2(down_x, -down_y)
    seeds, fields = _seeds(size, parcels, np.arctan2(down_x, -down_y), rng)
    fine = size * FINE
    owners = terraces(fine, seeds, 48)
    at = tuple(np.clip((seeds[:, k] / FINE).astype(int), 0, size - 1) for k in (1, 0))
    painted, hedged = _edges(owners, fields.size, len(seeds), rng)
    beside = _touching(owners, fields.size)
    return Land(height, slope, aspect, owners, fields, height[at], slope[at], painted, hedged, beside)


def _edges(
    owners: NDArray[np.int32], fields: int, cells: int, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The drawing with one fine cell of shrub along the edges of some terraces; and which terraces."""
    border = np.zeros(owners.shape, bool)
    for axis in (0, 1):
        parted = np.diff(owners, axis=axis) != 0
        border |= np.pad(parted, [(0, int(axis == 0)), (0, int(axis == 1))])
        border |= np.pad(parted, [(int(axis == 0), 0), (int(axis == 1), 0)])
    hedged = np.flatnonzero(rng.random(fields) < HEDGED)
    number = np.full(cells, -1, np.int32)
    number[hedged] = cells + np.arange(hedged.size)
    shrub = border & (number[owners] >= 0)
    return np.where(shrub, number[owners], owners).astype(np.int32), hedged


def _touching(owners: NDArray[np.int32], fields: int) -> NDArray[np.int64]:
    out = np.arange(fields)
    left, right = owners[:, :-1], owners[:, 1:]
    both = (left != right) & (left < fields) & (right < fields)
    out[left[both]] = right[both]
    return out


def _seeds(
    size: int, parcels: int, contour: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Seeds (P, 5) of all cells and the numbers of those that are fields."""
    room = 1300.0 * parcels / (size * size * PIXEL_M**2)
    fertile = random_field(size, -3.0, rng, outer_px=80.0)
    zone = fertile > np.quantile(fertile, 1 - min(0.85, room))
    inside, outside = np.argwhere(zone), np.argwhere(~zone)
    woods = max(8, size * size // 300)
    chosen = np.concatenate(
        [inside[rng.integers(0, len(inside), parcels)], outside[rng.integers(0, len(outside), woods)]]
    )
    place = (chosen + rng.random(chosen.shape)) * FINE
    angle = contour[chosen[:, 0], chosen[:, 1]] + rng.normal(0, 0.15, len(chosen))
    weight = np.exp(rng.normal(0, 0.35, len(chosen)))
    weight[parcels:] *= 1.6
    seeds = np.stack([place[:, 1], place[:, 0], np.cos(angle), np.sin(angle), weight], axis=1)
    return seeds.astype(np.float32), np.arange(parcels)


def polygons(land: Land, transform: Affine, crs: str) -> gpd.GeoDataFrame:
    """The fields as polygons on the 2.5 m drawing, columns parcel, cell, slope_deg, height_m, geometry."""
    fine = Affine(transform.a / FINE, 0, transform.c, 0, transform.e / FINE, transform.f)
    is_field = land.owners < land.fields.size
    pieces: dict[int, list[shapely.Geometry]] = {}
    for shape, cell in rasterio.features.shapes(land.owners, mask=is_field, transform=fine):
        pieces.setdefault(int(cell), []).append(shapely.geometry.shape(shape))
    rows = []
    for cell in sorted(pieces):
        # a stretched cell may leave crumbs behind its neighbours; the largest piece is the terrace
        shape = max(pieces[cell], key=lambda part: float(shapely.area(part)))
        if float(shapely.area(shape)) >= 60.0:  # noqa: PLR2004 - m2, smaller crumbs are no terrace
            rows.append((f"SYN-{cell + 1:05d}", cell, shape))
    frame = gpd.GeoDataFrame(
        {"parcel": [row[0] for row in rows], "cell": [row[1] for row in rows]},
        geometry=[row[2] for row in rows],
        crs=crs,
    )
    frame["slope_deg"] = land.cell_slope[frame["cell"].to_numpy()].round(1)
    frame["height_m"] = land.cell_height[frame["cell"].to_numpy()].round(0)
    return frame


def fates(land: Land, years: int, rng: np.random.Generator) -> tuple[ph.Plan, list[str]]:
    """What each cell carries and goes through, year by year, and the fate's name per cell."""
    cells, edges = land.cell_height.size, land.hedged.size
    kinds = np.empty(cells + edges, np.int64)
    low, high = np.quantile(land.cell_height, [0.4, 0.85])
    for cell in range(cells):
        kinds[cell] = _kind(cell < land.fields.size, land.cell_height[cell], (low, high), rng)
    kinds[cells:] = ph.MAIZE_POTATO
    plan_kinds = np.repeat(kinds[None], years, axis=0)
    states = np.full((years, cells + edges), st.CULTIVATED)
    ages = np.zeros((years, cells + edges), np.int64)
    states[:, cells:] = st.OLD
    ages[:, cells:] = np.arange(years)[:, None] // 2 + rng.integers(0, 3, edges)
    names = []
    for cell in range(cells):
        steep = land.cell_slope[cell] > 15 or land.cell_height[cell] > 800  # noqa: PLR2004 - degrees, metres
        fate = _fate(int(kinds[cell]), steep=bool(steep), years=years, rng=rng)
        names.append(fate)
        _live(fate, (plan_kinds[:, cell], states[:, cell], ages[:, cell]), rng)
    for cell in (cell for cell, fate in enumerate(names) if fate == "merged"):
        # one farmer works two terraces as one from some year on: the crop changes, the cultivation goes on
        other = int(kinds[land.beside[cell]])
        plan_kinds[int(rng.integers(1, years - 1)) :, cell] = other if other in ph.CROPS else kinds[cell]
    drought = (int(rng.integers(1, years)),) if years > 3 else ()  # noqa: PLR2004 - short series keep their rain
    return ph.Plan(plan_kinds, states, ages, drought), names


def _kind(field: bool, height: float, marks: tuple[float, float], rng: np.random.Generator) -> int:  # noqa: FBT001 - one of two kinds of cell
    if not field:
        return int(rng.choice([ph.FOREST, ph.GRASS, ph.BUILT], p=[0.75, 0.15, 0.10]))
    if height < marks[0]:
        return int(rng.choice([ph.RICE, ph.RAPE_RICE, ph.GARDEN], p=[0.45, 0.45, 0.10]))
    if height < marks[1]:
        return int(rng.choice([ph.MAIZE_POTATO, ph.RAPE_RICE, ph.CITRUS, ph.GARDEN], p=[0.6, 0.2, 0.12, 0.08]))
    return int(rng.choice([ph.MAIZE_POTATO, ph.CITRUS], p=[0.9, 0.1]))


def _fate(kind: int, *, steep: bool, years: int, rng: np.random.Generator) -> str:
    if kind not in ph.CROPS or years < 4:  # noqa: PLR2004 - a story needs four years
        return "stable"
    gone = 0.25 if steep else 0.15
    shares = np.array([0.49, gone, 0.07, 0.07, 0.05, 0.05, 0.04, 0.03, 0.03, 0.01])
    return FATES[int(rng.choice(len(FATES), p=shares / shares.sum()))]


Column = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _live(fate: str, column: Column, rng: np.random.Generator) -> None:
    """Write one cell's years in place."""
    kinds, states, ages = column
    years = kinds.size
    fixed = {
        ph.CITRUS: st.ORCHARD,
        ph.FOREST: st.FOREST,
        ph.BUILT: st.BUILT,
        ph.GRASS: st.NATURE,
    }
    if int(kinds[0]) in fixed:
        states[:] = fixed[int(kinds[0])]
        ages[:] = 9
        return
    begin = int(rng.integers(1, max(2, years)))
    if fate == "abandoned":
        _idle(states, ages, begin, years)
    elif fate == "recultivated":
        begin = int(rng.integers(1, max(2, years - 3)))
        _idle(states, ages, begin, min(years - 1, begin + 1 + int(rng.geometric(AGAIN))))
    elif fate == "fallow":
        states[begin] = st.FALLOW
    elif fate == "seasonal":
        states[begin] = st.SEASONAL
    elif fate == "orchard":
        states[begin:] = st.ORCHARD
        ages[begin:] = np.arange(years - begin)
    elif fate == "forest":
        states[begin:] = st.FOREST
        kinds[begin:] = ph.FOREST
    elif fate == "built":
        states[begin:] = st.BUILT
        kinds[begin:] = int(rng.choice([ph.BUILT, ph.GREENHOUSE, ph.SOLAR]))
    elif fate == "landslide":
        # buried under rubble the land is lost, not left: no owner could work it
        states[begin:] = st.BUILT
        kinds[begin:] = ph.RUBBLE


def _idle(states: NDArray[np.int64], ages: NDArray[np.int64], begin: int, end: int) -> None:
    age = np.arange(end - begin)
    ages[begin:end] = age
    states[begin:end] = np.where(age < 2, st.YOUNG, st.OLD)  # noqa: PLR2004 - grass for two years, then shrub
