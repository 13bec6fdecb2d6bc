"""Land without polygons: fields drawn from many years' evidence, and terraces too narrow to see taken together.

Fields of one holder share their rhythm over years, so pixels are joined by what several years showed, never by one
date. A drawn field is a guess of where a border runs and says so in its id: "seg-" fields and "cluster-" groups are
no register.
"""

from __future__ import annotations

import warnings

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio.features
import shapely
import xarray as xr
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from remote_sensing.cubes import Calendar, Float, LandError, searched_days, stack_of
from remote_sensing.evidence import gather
from remote_sensing.parcels import MU_M2, SURE_PIXELS, checked, coverage, coverages, grid_of
from remote_sensing.tiles import TILE_ROWS

FEATURES = ("ndvi.low", "ndvi.middle", "ndvi.high", "ndvi.rise", "ndvi.fall")
CONTRAST = 30.0
"""How many times the noise two pieces of one pixel may differ and still be joined; the more, the larger the fields."""
_SCALE_UNIT = 255.0
"""skimage divides its ``scale`` by this before use."""


def draw_fields(cube: xr.Dataset, min_mu: float = 1.0, calendar: Calendar | None = None) -> gpd.GeoDataFrame:
    """Fields of a cube without polygons: columns ``parcel`` ("seg-00001"), ``area_mu``, ``geometry`` in its CRS.

    Graph segmentation (Felzenszwalb and Huttenlocher 2004) over every whole year's NDVI levels, rise and fall;
    nothing smaller than the minimum mapping unit ``min_mu`` (mu, 666.67 m2) is kept apart. Pixels never observed,
    and crumbs cut off smaller than the unit, belong to no field.
    Raises ``LandError``: ``bad_setting``, ``too_short``, ``wrong_crs``.
    """
    if not min_mu > 0:
        raise LandError("bad_setting", f"minimum mapping unit {min_mu} mu: must be above 0")
    grid = grid_of(cube)
    pixel_m2 = abs(float(grid.transform.a * grid.transform.e))
    if grid.crs is not None and grid.crs.geographic:
        raise LandError("wrong_crs", "the cube is in degrees: fields in mu need a grid in metres")
    image, seen = _picture(cube, calendar or Calendar())
    least = int(np.ceil(min_mu * MU_M2 / pixel_m2))
    with warnings.catch_warnings():
        # it wonders about pictures of other than three colours; many channels are what is meant
        warnings.filterwarnings("ignore", "Got image with third dimension", RuntimeWarning)
        labels: NDArray[np.int64] = felzenszwalb(
            image, scale=CONTRAST * _SCALE_UNIT, sigma=0.0, min_size=least, channel_axis=-1
        )
    pieces = rasterio.features.shapes(labels.astype(np.int32), mask=seen, connectivity=4, transform=grid.transform)
    shapes = [shapely.geometry.shape(piece) for piece, _ in pieces]
    kept = [shape for shape in shapes if shape.area >= min_mu * MU_M2]
    names = [f"seg-{n:05d}" for n in range(1, len(kept) + 1)]
    areas = [shape.area / MU_M2 for shape in kept]
    return gpd.GeoDataFrame({"parcel": names, "area_mu": areas}, geometry=kept, crs=str(grid.crs))


def _picture(cube: xr.Dataset, season: Calendar) -> tuple[Float, NDArray[np.bool_]]:
    """Evidence (y, x, features) in units of its own local noise, missing years left out; and where any was seen."""
    stack = stack_of(cube)
    years = season.whole_years(searched_days(cube, stack.days))
    if not years:
        raise LandError("too_short", "the series holds no whole crop year: no fields can be drawn")
    rows, columns = stack.shape
    found = np.full((len(years) * len(FEATURES), rows, columns), np.nan, np.float32)
    for first in range(0, rows, TILE_ROWS):
        tile = stack.rows(first, min(first + TILE_ROWS, rows))
        evidence = gather(tile, season, years, ("ndvi",))
        layers = np.stack([evidence.get(name) for name in FEATURES])
        found[:, first : first + tile.shape[0]] = layers.reshape(-1, *tile.shape)
    seen = np.isfinite(found).any(axis=0)
    steps = np.abs(np.diff(found, axis=2))
    noise = np.array([np.nanmedian(step) if np.isfinite(step).any() else np.nan for step in steps])
    used = np.isfinite(noise)
    scaled = found[used] / np.maximum(noise[used], 1e-3)[:, None, None]
    filled = np.where(np.isfinite(scaled), scaled, 0) / np.sqrt(max(int(used.sum()), 1))
    return np.moveaxis(filled, 0, -1).astype(np.float32), np.asarray(seen)


def terrace_clusters(parcels: gpd.GeoDataFrame, cube: xr.Dataset, *, reach_m: float = 5.0) -> gpd.GeoDataFrame:
    """Neighbouring terraces that cannot be seen one by one, joined until they can be seen together.

    Columns ``parcel`` ("cluster-0001"), ``members`` (their ids with spaces between), ``geometry`` in the cube's CRS.
    A group grows from its westernmost terrace to the nearest free one within ``reach_m`` metres and ends as soon
    as four pixels lie wholly inside; bunds narrower than ``reach_m`` between members count as inside. Groups that
    never get there are left out: they stay unseen. What is said of a group is said of all its members, not of one.
    Raises ``LandError`` as ``parcels.checked``.
    """
    grid = grid_of(cube)
    placed = checked(parcels, grid)
    hidden = [
        (str(name), shape)
        for name, shape, cover in zip(
            placed["parcel"], placed.geometry, coverages(list(placed.geometry), grid), strict=True
        )
        if cover.observability == "not_observable"
    ]
    shapes = np.array([shape for _, shape in hidden], dtype=object)
    tree = shapely.STRtree(shapes)
    free = set(range(len(hidden)))
    rows = []
    for start in sorted(free, key=lambda n: shapely.bounds(shapes[n])[0]):
        if start not in free:
            continue
        members, together = [start], shapes[start]
        while coverage(together, grid).pure < SURE_PIXELS:
            near = [int(n) for n in tree.query(together, "dwithin", reach_m) if n in free and n not in members]
            if not near:
                break
            whole = shapely.union_all(shapes[members])
            members.append(min(near, key=lambda n: (shapely.distance(whole, shapes[n]), n)))
            together = _closed(shapes[members], reach_m)
        free -= set(members)
        if coverage(together, grid).pure >= SURE_PIXELS:
            rows.append((" ".join(sorted(hidden[n][0] for n in members)), together))
    names = [f"cluster-{n:04d}" for n in range(1, len(rows) + 1)]
    table = pd.DataFrame({"parcel": names, "members": [row[0] for row in rows]})
    return gpd.GeoDataFrame(table, geometry=[row[1] for row in rows], crs=str(grid.crs))


def _closed(shapes: NDArray[np.object_], reach_m: float) -> shapely.Geometry:
    """Their union with the gaps between them filled, and no wider outside."""
    half = reach_m / 2
    return shapely.buffer(
        shapely.buffer(shapely.union_all(shapes), half, join_style="mitre"), -half, join_style="mitre"
    )
