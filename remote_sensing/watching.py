"""``monitor`` between two runs: one state file and its scenes in a folder per area, a scene at a time.

The state file holds what a pixel carries, the list of scenes taken in and the judged years; the scenes themselves lie
beside it, because a late one makes its year be read again. A scene is stored before the state that knows it: whoever
is stopped in between feeds the same scene again and ends at the same place. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remote_sensing.cubes import Calendar, LandError, stack_of
from remote_sensing.detection import default_model
from remote_sensing.kept import read_arrays, write_arrays
from remote_sensing.monitor import LEVELS, Monitor, OneScene, Updated
from remote_sensing.parcels import coverages, grid_of

STATE_FILE = "state.npz"
FORMAT = "tianmai-land-state@2"
_MOSTLY = 0.5
"""Share of a pixel that must be farmland for it to be watched."""
START_SLACK_DAYS = 31
"""A first scene so late in its crop year leaves that year unwatched: the first year is the next one."""


@dataclass(frozen=True, slots=True)
class FolderArchive:
    """Scenes as npz files named by day; the disk's side of ``monitor.SceneArchive``."""

    folder: Path

    def put(self, scene: OneScene) -> None:
        """See ``SceneArchive``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"band_{name}": band for name, band in scene.bands.items()}
        write_arrays(self.folder / f"{scene.day:06d}.npz", {"clear": scene.clear, **arrays})

    def between(self, begin: int, end: int) -> list[OneScene]:
        """See ``SceneArchive``."""
        days = sorted(int(path.stem) for path in self.folder.glob("*.npz") if path.stem.isdigit())
        return [self._read(day) for day in days if begin <= day < end]

    def _read(self, day: int) -> OneScene:
        held = read_arrays(self.folder / f"{day:06d}.npz")
        bands = {name[5:]: values for name, values in held.items() if name.startswith("band_")}
        return OneScene(day, bands, held["clear"])


@dataclass(frozen=True, slots=True)
class Farmland:
    """The parcels of a watch: ``names`` and the pixels (flat positions) that lie in each at least by half."""

    names: tuple[str, ...]
    pixels: tuple[NDArray[np.int64], ...]

    def table(self, levels: NDArray[np.uint8]) -> pd.DataFrame:
        """One row a parcel: parcel, pixels, how many at each level but none, and level: what half of them reach.

        A parcel too narrow for a pixel of its own has no pixels and the level "not_observable".
        """
        rows = []
        for name, own in zip(self.names, self.pixels, strict=True):
            counts = np.bincount(levels[own], minlength=len(LEVELS))
            reached = np.cumsum(counts[::-1])[::-1] * 2 >= max(own.size, 1)
            level = LEVELS[int(np.flatnonzero(reached)[-1])] if own.size else "not_observable"
            rows.append((name, own.size, *counts[1:].tolist(), level))
        return pd.DataFrame(rows, columns=["parcel", "pixels", *LEVELS[1:], "level"])


@dataclass
class Watched:
    """An area under watch: its monitor, its grid ``grid`` (crs, x, y) and shape, its folder."""

    folder: Path
    monitor: Monitor
    grid: str
    shape: tuple[int, int]
    synthetic: bool

    def save(self) -> None:
        """Write the state file; the old one stays whole until the new one is."""
        monitor = self.monitor
        years = sorted(monitor.history)
        facts = {
            "format": FORMAT,
            "grid": self.grid,
            "shape": self.shape,
            "synthetic": self.synthetic,
            "first_year": monitor.first_year,
            "open_year": monitor.open_year,
            "last_day": monitor.last_day,
            "calendar": [monitor.calendar.month, monitor.calendar.day],
            "model": monitor.model.id,
            "years": years,
            "ledger": {str(day): print_ for day, print_ in sorted(monitor.ledger.items())},
        }
        arrays: dict[str, NDArray[Any]] = {
            "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
            "counters": monitor.counters,
            "forward": monitor.forward,
            "level": monitor.level,
            "settled": monitor.settled,
            "farmland": monitor.farmland,
        }
        for year in years:
            arrays[f"look_{year}"], arrays[f"decided_{year}"] = monitor.history[year]
        write_arrays(self.folder / STATE_FILE, arrays)

    def counts(self) -> dict[str, int]:
        """Watched pixels at each alert level, by name."""
        levels = self.monitor.alerts()[self.monitor.farmland]
        return {name: int((levels == place).sum()) for place, name in enumerate(LEVELS)}

    def restrict(self, parcels: gpd.GeoDataFrame, cube: xr.Dataset) -> Farmland:
        """Watch only pixels that lie in these parcels at least by half, and keep to that; see ``Monitor.restrict``.

        ``parcels`` as ``parcels.checked`` returns them. Raises ``LandError("outside")`` if no pixel is left.
        """
        covers = coverages(list(parcels.geometry), grid_of(cube))
        share = np.zeros(self.monitor.pixels)
        for cover in covers:
            share[cover.pixels] += cover.shares
        mostly = share >= _MOSTLY
        if not mostly.any():
            raise LandError("outside", f"{len(covers)} parcels: no pixel lies in them even by half, nothing to watch")
        self.monitor.restrict(mostly)
        self.save()
        own = tuple(cover.pixels[mostly[cover.pixels] & (cover.shares >= _MOSTLY)] for cover in covers)
        return Farmland(tuple(parcels["parcel"]), own)

    def feed(self, cube: xr.Dataset) -> Iterator[tuple[int, Updated | LandError]]:
        """Take in the dates of a cube one by one; yields (day, what happened) and saves the state after each.

        A refused date (another scene of that day is in, or too early) is yielded as its error; the rest goes on.
        Raises ``LandError("wrong_grid")`` for a cube of another area.
        """
        if _grid(cube) != self.grid:
            raise LandError("wrong_grid", f"{cube.attrs.get('source', 'cube')}: not the grid watched in {self.folder}")
        for scene in _scenes(cube):
            try:
                done = self.monitor.update(scene)
            except LandError as why:
                yield scene.day, why
                continue
            self.save()
            yield scene.day, done


def open_area(
    folder: Path, cube: xr.Dataset, calendar: Calendar | None = None, first_year: int | None = None
) -> Watched:
    """The watched area of a folder; made for this cube's grid when the folder holds none yet.

    ``first_year``: first crop year watched, by default the first one that the cube's first date does not cut short.
    Raises ``LandError``: ``damaged_state``, ``wrong_model``, ``wrong_setting``, ``no_place``.
    """
    path = folder / STATE_FILE
    if path.exists():
        return _resumed(folder, cube, calendar, first_year)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as why:
        raise LandError("no_place", f"{folder}: cannot be made ({why.strerror})") from why
    season = calendar or Calendar()
    stack = stack_of(cube)
    begin = first_year or _first_year(int(stack.days[0]), season)
    made = Monitor(
        stack.clear.shape[1],
        begin,
        model=default_model(cube),
        calendar=season,
        archive=FolderArchive(folder / "scenes"),
        shape=stack.shape,
    )
    return Watched(folder, made, _grid(cube), stack.shape, bool(cube.attrs.get("synthetic", False)))


def _resumed(folder: Path, cube: xr.Dataset, calendar: Calendar | None, first_year: int | None) -> Watched:
    held = read_arrays(folder / STATE_FILE)
    try:
        facts = json.loads(held["facts"].tobytes())
        season = Calendar(*facts["calendar"])
        rows, columns = facts["shape"]
        if facts["format"] != FORMAT:
            raise LandError("damaged_state", f"{folder / STATE_FILE}: format {facts['format']}, not {FORMAT}")
        if calendar not in (None, season) or first_year not in (None, facts["first_year"]):
            raise LandError("wrong_setting", f"{folder}: watched since {facts['first_year']} with another year's start")
        model = default_model(cube)
        if model.id != facts["model"]:
            raise LandError("wrong_model", f"{folder}: watched with model {facts['model']}, not {model.id}")
        monitor = Monitor(
            rows * columns,
            facts["first_year"],
            model=model,
            calendar=season,
            archive=FolderArchive(folder / "scenes"),
            shape=(rows, columns),
        )
        monitor.ledger = {int(day): print_ for day, print_ in facts["ledger"].items()}
        monitor.open_year, monitor.last_day = facts["open_year"], facts["last_day"]
        monitor.counters, monitor.forward = held["counters"], held["forward"]
        monitor.level, monitor.settled = held["level"], held["settled"]
        # states written before parcels could be given watch every pixel
        monitor.farmland = held.get("farmland", monitor.farmland)
        monitor.history = {year: (held[f"look_{year}"], held[f"decided_{year}"]) for year in facts["years"]}
    except (KeyError, ValueError, TypeError) as why:
        raise LandError("damaged_state", f"{folder / STATE_FILE}: not a state of tianmai-land ({why})") from why
    synthetic = bool(facts["synthetic"]) or bool(cube.attrs.get("synthetic", False))
    return Watched(folder, monitor, facts["grid"], (rows, columns), synthetic)


def _first_year(day: int, season: Calendar) -> int:
    year = 1970 + day // 366
    while season.start(year + 1) <= day:
        year += 1
    return year if day - season.start(year) <= START_SLACK_DAYS else year + 1


def _scenes(cube: xr.Dataset) -> Iterator[OneScene]:
    stack = stack_of(cube)
    for t, day in enumerate(stack.days):
        yield OneScene(int(day), {name: band[t] for name, band in stack.bands.items()}, stack.clear[t])


def _grid(cube: xr.Dataset) -> str:
    """A name for the grid: same CRS, rows and columns, same bands."""
    digest = hashlib.sha256(str(cube.attrs.get("crs", "")).encode())
    for axis in ("y", "x"):
        digest.update(np.round(cube[axis].to_numpy().astype(np.float64), 6).tobytes())
    digest.update(",".join(sorted(stack_of(cube.isel(time=slice(0, 1))).bands)).encode())
    return digest.hexdigest()
