"""Labelled pixel series of the conformance data as cubes, and what is trained from them. Reads and scores only."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from remote_sensing.classifier import Recipe, Trained
from remote_sensing.cubes import Calendar, LandError, day_numbers, pack_values
from remote_sensing.labels import is_cultivated
from remote_sensing.states import LOOKS
from remote_sensing.teaching import Lesson, Skies, teach

MODIS_LAYERS = ("ndvi", "wetness", "red", "nir", "blue", "swir2")
"""No EVI: it is made of nir, red and blue, and on the training samples nothing was lost without it."""
MODIS_BANDS = ("ndvi", "red", "nir", "blue", "mir")
BLOCK_DEGREES = 0.25
STEADY = Recipe(boosts=60, step=0.12, shake=0.3)


def first(folder: Path, pattern: str) -> Path | None:
    """The first file of a pattern, anywhere below the folder."""
    return next(iter(sorted(folder.rglob(pattern))), None)


def series_cube(times, bands, clear) -> xr.Dataset:
    """Series (N, T) as a cube with the series along x; NaN = missing."""
    dims = ("time", "y", "x")
    held = {}
    for name, values in bands.items():
        held["swir2" if name == "mir" else name] = (dims, pack_values(np.asarray(values).T)[:, None, :])
    known = np.logical_and.reduce([np.isfinite(values) for values in bands.values()])
    held["clear"] = (dims, (np.asarray(clear) & known).T[:, None, :])
    size = next(iter(bands.values())).shape[0]
    return xr.Dataset(held, coords={"time": times, "y": [0.0], "x": np.arange(size, dtype=float)})


@dataclass(frozen=True)
class Samples:
    """Labelled single years: ids, place, label, values band -> (S, T), the year's dates, name of the scene."""

    ids: np.ndarray
    lon: np.ndarray
    lat: np.ndarray
    label: np.ndarray
    bands: dict
    times: np.ndarray
    scene: np.ndarray

    def pick(self, rows):
        return Samples(
            self.ids[rows],
            self.lon[rows],
            self.lat[rows],
            self.label[rows],
            {name: values[rows] for name, values in self.bands.items()},
            self.times,
            self.scene[rows],
        )

    def cube(self, calendar):
        """All of them side by side along x."""
        cube = series_cube(
            self.times.astype("datetime64[s]"), self.bands, np.ones((self.ids.size, self.times.size), bool)
        )
        if not calendar.whole_years(day_numbers(self.times)):
            cube.attrs["period"] = [str(self.times[0])[:4] + end for end in ("-01-01", "-12-31")]
        return cube

    @property
    def block(self):
        """Number of the place block of each sample."""
        return pd.factorize(pd.Series(np.floor(self.lon / BLOCK_DEGREES) * 1e4 + np.floor(self.lat / BLOCK_DEGREES)))[0]

    @property
    def looks(self):
        """Place in ``LOOKS`` of each label."""
        return np.array([look_of(label) for label in self.label])


def look_of(label: str) -> int:
    """A land-cover word of the data sets as a look."""
    words = label.lower()
    with contextlib.suppress(LandError):
        if is_cultivated(label):
            return LOOKS.index("crop")
    for word, look in (("forest", "forest"), ("cerrado", "shrub"), ("shrub", "shrub"), ("pasture", "idle")):
        if word in words:
            return LOOKS.index(look)
    if words in {"orchard", "vineyard"}:
        return LOOKS.index("orchard")
    # the field lists name more crops than the product knows; only "fallow" itself means not worked
    return LOOKS.index("idle" if "fallow" in words or "grass" in words else "crop")


def read_samples(path: Path, times=None) -> Samples:
    """A long table id, lon, lat, label, date, bands."""
    table = pd.read_csv(path)
    table.columns = [str(column).lower() for column in table.columns]
    size = int(table.groupby("id").size().mode().iloc[0])
    table = table[table.groupby("id")["id"].transform("size") == size].sort_values(["id", "date"])
    head = table.groupby("id", sort=True).first()
    bands = {name: table[name].to_numpy(float).reshape(-1, size) for name in MODIS_BANDS if name in table}
    start = np.datetime64("2001-09-14")
    return Samples(
        head.index.to_numpy(),
        head["lon"].to_numpy(),
        head["lat"].to_numpy(),
        head["label"].to_numpy(str),
        bands,
        start + 16 * np.arange(size),
        np.zeros(len(head), int),
    )


def train_on(samples: Samples, masks, layers, calendar: Calendar, *, draws=8, seed=0) -> Trained:
    """Train on labelled single years under the masks of the pool, by the product's own door."""
    lessons = []
    for scene in np.unique(samples.scene):
        here = samples.scene == scene
        part = samples.pick(here)
        lessons.append(Lesson(part.cube(calendar), part.looks, samples.block[here], part.label))
    skies = Skies(draws, np.asarray(masks, dtype=bool))
    return teach(lessons, layers, calendar=calendar, skies=skies, recipe=STEADY, seed=seed)
