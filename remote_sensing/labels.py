"""Field labels beside a cube: "this pixel carried soybean from September 2011 to September 2012"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import xarray as xr
from numpy.typing import NDArray

from remote_sensing.cubes import Calendar, LandError
from remote_sensing.parcels import grid_of

_CROP_WORDS = """
    crop cropland cultivated soy soybean corn maize cotton millet sunflower wheat rice rape rapeseed potato
    bean sugarcane cane vegetables tobacco barley alfalfa sorghum sesame melon carrot onion 水稻 油菜 玉米
"""
_OTHER_WORDS = """
    forest cerrado cerradao pasture grass grassland shrub shrubland savanna water built urban artificial
    bare wetland natural fallow abandoned idle nonforest orchard vineyard
"""
_FAR = 1e9
"""Pixels beyond which a place is simply elsewhere."""
_CROPS, _OTHER = frozenset(_CROP_WORDS.split()), frozenset(_OTHER_WORDS.split())


def is_cultivated(label: str) -> bool:
    """Whether a land-cover word means "worked this year": any crop in it does ("Cotton-fallow" is worked).

    Raises ``LandError("unknown_label")`` for words that are in neither list: guessing would flatter or harm.
    """
    words = [word for word in re.split(r"[^a-z一-鿿]+", label.lower()) if word]
    if any(word in _CROPS for word in words):
        return True
    if words and all(word in _OTHER for word in words):
        return False
    raise LandError("unknown_label", f"label {label!r} is neither a crop nor a known other land cover")


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels on a cube's grid: ``pixels`` flat positions, ``crop_years``, ``names``, ``cultivated``; all (n,)."""

    pixels: NDArray[np.int64]
    crop_years: NDArray[np.int64]
    names: tuple[str, ...]
    cultivated: NDArray[np.bool_]
    calendar: Calendar


def read_labels(path: Path, cube: xr.Dataset) -> Labels:
    """Read a CSV with label, from, to and row, col (or longitude, latitude) and lay it on the cube.

    The agricultural year of the labels is the commonest month and day of ``from``. Raises ``LandError``:
    ``no_file``, ``missing_column``, ``outside`` (label not on the cube), ``unknown_label``,
    ``truncated``, ``bad_date``, ``bad_number``; the text names the file and the line.
    """
    if not path.exists():
        raise LandError("no_file", f"{path}: no such file")
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as why:
        said = " ".join(str(why).split())[:100]
        raise LandError("truncated", f"{path.name}: cannot be read as a CSV ({said})") from why
    if table.empty:
        raise LandError("missing_column", f"{path.name}: holds no labels")
    table.columns = [str(column).strip().lower() for column in table.columns]
    lacking = {"label", "from"} - set(table.columns)
    if lacking:
        raise LandError("missing_column", f"{path.name}: no column {min(lacking)}")
    rows, columns = _positions(table, cube, path.name)
    wrong = (rows < 0) | (rows >= cube.sizes["y"]) | (columns < 0) | (columns >= cube.sizes["x"])
    if wrong.any():
        n = int(np.argmax(wrong))
        raise LandError("outside", f"{path.name}: line {n + 2}: row {rows[n]}, col {columns[n]} is outside the cube")
    begins = pd.to_datetime(table["from"], errors="coerce", format="mixed")
    if begins.isna().any():
        n = int(begins.isna().to_numpy().argmax())
        raise LandError(
            "bad_date", f"{path.name}: line {n + 2}: from {table['from'].iloc[n]!r} is no date (YYYY-MM-DD)"
        )
    common = begins.dt.strftime("%m-%d").mode().iloc[0]
    calendar = Calendar(int(common[:2]), min(int(common[3:]), 28))
    years = begins.dt.year.to_numpy() + (0 if common == "01-01" else 1)
    names = tuple(str(name) for name in table["label"])
    worked = np.array([_worked(name, f"{path.name}: line {n}") for n, name in enumerate(names, 2)])
    return Labels(rows * cube.sizes["x"] + columns, years.astype(np.int64), names, worked, calendar)


def _worked(name: str, where: str) -> bool:
    try:
        return is_cultivated(name)
    except LandError as why:
        raise LandError(why.code, f"{where}: {why}") from why


def _numbers(table: pd.DataFrame, column: str, name: str) -> NDArray[np.float64]:
    """A column of finite numbers. Raises ``LandError("bad_number")`` naming the line."""
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(values).all():
        n = int(np.argmin(np.isfinite(values)))
        raise LandError("bad_number", f"{name}: line {n + 2}: {column} {table[column].iloc[n]!r} is no number")
    return values


def _positions(table: pd.DataFrame, cube: xr.Dataset, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if {"row", "col"} <= set(table.columns):
        return _numbers(table, "row", name).astype(np.int64), _numbers(table, "col", name).astype(np.int64)
    if not {"longitude", "latitude"} <= set(table.columns) or "crs" not in cube.attrs:
        raise LandError("missing_column", f"{name}: needs row and col, or longitude and latitude and a cube with CRS")
    moved = pyproj.Transformer.from_crs(4326, str(cube.attrs["crs"]), always_xy=True)
    x, y = moved.transform(_numbers(table, "longitude", name), _numbers(table, "latitude", name))
    column, row = ~grid_of(cube).transform @ (x, y)
    wild = ~(np.isfinite(column) & np.isfinite(row)) | (np.abs(column) > _FAR) | (np.abs(row) > _FAR)
    return np.where(wild, -1, np.floor(row)).astype(np.int64), np.where(wild, -1, np.floor(column)).astype(np.int64)


def yearly_accuracy(labels: Labels, cultivated: NDArray[np.uint8], years: tuple[int, ...]) -> pd.DataFrame:
    """Cultivated or not, per crop year: columns crop_year, labels, right, accuracy; undecided counts as wrong.

    ``cultivated`` uint8 (Y, N): probability x 250, 255 = undecided. Years outside the series are left out.
    """
    rows = []
    for year in sorted(set(labels.crop_years.tolist()) & set(years)):
        here = labels.crop_years == year
        said = cultivated[years.index(year), labels.pixels[here]]
        right = (said != 255) & ((said >= 125) == labels.cultivated[here])  # noqa: PLR2004 - the coding above
        rows.append((year, int(here.sum()), int(right.sum()), float(right.mean())))
    return pd.DataFrame(rows, columns=["crop_year", "labels", "right", "accuracy"])
