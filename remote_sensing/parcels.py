"""From pixels to terraces: can this parcel be seen at all, and what do its pixels say together?

Shape decides, not area: a 1-mu strip 8:1 holds no pixel that is wholly its own. So observability counts pure
pixels by exact geometry, and such parcels are answered "not observable", never "cultivated" or "abandoned".
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine

from remote_sensing.cubes import Float, LandError

SURE_PIXELS = 4
"""Pure pixels from which a parcel is observable; 1..3 are partly."""
MU_M2 = 666.67


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which pixels a parcel touches: flat positions (row-major), share of the pixel inside (0..1]."""

    pixels: NDArray[np.int64]
    shares: NDArray[np.float32]

    @property
    def pure(self) -> int:
        """Pixels wholly inside the parcel."""
        return int((self.shares >= 1 - 1e-6).sum())

    @property
    def observability(self) -> str:
        """``observable``, ``partly`` or ``not_observable`` by the count of pure pixels."""
        if self.pure >= SURE_PIXELS:
            return "observable"
        return "partly" if self.pure else "not_observable"


def grid_of(cube: xr.Dataset) -> GeoBox:
    """The grid of a cube. Raises ``LandError("wrong_crs")`` when the cube does not say its CRS."""
    crs = cube.attrs.get("crs")
    if not crs:
        raise LandError("wrong_crs", "cube has no attrs['crs']: parcels cannot be laid on it")
    x, y = (cube[name].to_numpy().astype(float) for name in ("x", "y"))
    step_x = float(x[1] - x[0]) if x.size > 1 else float(cube.attrs.get("resolution", 1))
    step_y = float(y[1] - y[0]) if y.size > 1 else -step_x
    transform = Affine(step_x, 0, x[0] - step_x / 2, 0, step_y, y[0] - step_y / 2)
    return GeoBox((y.size, x.size), transform, crs)


def checked(parcels: gpd.GeoDataFrame, grid: GeoBox) -> gpd.GeoDataFrame:
    """Parcels with an id column ``parcel``, valid, in the grid's CRS.

    Raises ``LandError``: ``wrong_crs`` (none given, or GCJ-02/BD-09 declared), ``bad_polygon`` (self-crossing,
    empty, not a polygon), ``duplicate_parcel``, ``outside`` (does not touch the cube).
    """
    placed, faults = sorted_out(parcels, grid)
    if faults:
        raise faults[0]
    return placed


def sorted_out(parcels: gpd.GeoDataFrame, grid: GeoBox) -> tuple[gpd.GeoDataFrame, tuple[LandError, ...]]:
    """The parcels that can be used, as ``checked`` returns them, and what is wrong with each of the others.

    Raises ``LandError("wrong_crs")`` when the whole layer does not say where it lies.
    """
    if parcels.crs is None:
        raise LandError("wrong_crs", "parcels have no CRS: WGS84 or CGCS2000 must be declared")
    frame = parcels.copy()
    if "parcel" not in frame:
        frame["parcel"] = frame.index
    frame["parcel"] = frame["parcel"].astype(str)
    _refuse_shifted(frame)
    twice = frame["parcel"].duplicated(keep=False)
    faults: dict[int, LandError] = {}
    for n, (name, shape) in enumerate(zip(frame["parcel"], frame.geometry, strict=True)):
        if twice.iloc[n]:
            faults[n] = LandError("duplicate_parcel", f"parcel {name} appears twice")
        elif shapely.is_empty(shape) or not isinstance(shape, shapely.Polygon | shapely.MultiPolygon):
            faults[n] = LandError("bad_polygon", f"parcel {name}: not a polygon")
        elif not shape.is_valid:
            faults[n] = LandError("bad_polygon", f"parcel {name}: {shapely.is_valid_reason(shape)}")
    sound = [n for n in range(len(frame)) if n not in faults]
    placed = frame.iloc[sound].to_crs(str(grid.crs))
    inside = placed.intersects(shapely.box(*grid.extent.boundingbox.bbox)).to_numpy()
    for n, name, touches in zip(sound, placed["parcel"], inside, strict=True):
        if not touches:
            faults[n] = LandError("outside", f"parcel {name} lies outside the cube ({int((~inside).sum())} such)")
    return placed[inside], tuple(faults[n] for n in sorted(faults))


def _refuse_shifted(frame: gpd.GeoDataFrame) -> None:
    for column in ("datum", "coordinate_system", "crs_name"):
        if column in frame:
            for name, datum in zip(frame["parcel"], frame[column], strict=True):
                if str(datum).upper().replace("-", "").replace("_", "") in {"GCJ02", "BD09", "BD09LL"}:
                    raise LandError(
                        "wrong_crs", f"parcel {name}: {datum} is shifted by some 500 m; give WGS84 or CGCS2000"
                    )


def coverage(shape: shapely.Geometry, grid: GeoBox) -> Coverage:
    """Exact share of every pixel inside one polygon, see ``coverages``."""
    return coverages([shape], grid)[0]


def coverages(shapes: Sequence[shapely.Geometry], grid: GeoBox) -> list[Coverage]:
    """Exact share of every pixel inside each polygon, in the grid's CRS, by exactextract.

    Squares outside the grid are left out. Equal to brute force over all pixels (tested).
    """
    box = grid.extent.boundingbox
    # exactextract wants values where only the squares count: one zero, seen everywhere
    nothing = np.broadcast_to(np.zeros((1, 1), np.float32), grid.shape)
    raster = NumPyRasterSource(nothing, xmin=box.left, ymin=box.bottom, xmax=box.right, ymax=box.top)
    frame = gpd.GeoDataFrame(geometry=list(shapes), crs=str(grid.crs))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Spatial reference system")
        found = exact_extract(raster, frame, ["cell_id", "coverage"], output="pandas")
    return [
        _touched(np.asarray(cells, np.int64), np.asarray(shares, np.float64))
        for cells, shares in zip(found["cell_id"], found["coverage"], strict=True)
    ]


def _touched(cells: NDArray[np.int64], shares: NDArray[np.float64]) -> Coverage:
    keep = shares > 0
    return Coverage(cells[keep], shares[keep].astype(np.float32))


def fuse(looks: Float, cover: Coverage) -> Float:
    """One parcel's log-likelihood (Y, E) from its pixels' (Y, E, N): coverage-weighted.

    Border pixels count by the square of their share (half of another field is more than half misleading).
    Pixels of one field err together (one cloud, one haze), so n pixels speak with the voice of sqrt(n).
    """
    weights = cover.shares**2 if not cover.pure else np.where(cover.shares >= 1 - 1e-6, 1.0, 0.1)
    total = float(weights.sum())
    mean = looks[:, :, cover.pixels] @ (weights / total).astype(np.float32)
    fused: Float = (mean * np.sqrt(max(total, 1.0))).astype(np.float32)
    return fused


def parcel_looks(looks: NDArray[np.int16], cover: Coverage) -> NDArray[np.int16]:
    """Median clear looks (Y,) over the parcel's pixels (Y, N), rounded down."""
    middle: NDArray[np.int16] = np.floor(np.median(looks[:, cover.pixels], axis=1)).astype(np.int16)
    return middle
