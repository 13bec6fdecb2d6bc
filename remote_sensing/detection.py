"""``detect``: a cube, parcels and a definition in; clues with honest uncertainty out.

A ``Detection`` is a clue for a person, never a finding of fact: it has no field for a verdict.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
import xarray as xr
from numpy.typing import NDArray

from remote_sensing import states as st
from remote_sensing.cubes import Calendar, Float, LandError, Stack, searched_days, stack_of
from remote_sensing.evidence import MIN_LOOKS, gather
from remote_sensing.kept import FinishedTiles
from remote_sensing.neighbours import beside_neighbours
from remote_sensing.parcels import MU_M2, Coverage, checked, coverages, fuse, grid_of, parcel_looks
from remote_sensing.profiles import CN_ADMIN, Profile, Run, years_abandoned
from remote_sensing.reasons import Onset, explain
from remote_sensing.synthetic.textbook import textbook_model
from remote_sensing.tiles import TILE_ROWS, Pace, Progress, Task, Workers

CLASSES = ("cultivated", "idle_season", "abandoned", "converted", "natural")
LEAST_RUN = 5e-4
"""Idle runs less likely than this are not kept with a parcel."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What is believed of one parcel. See ``record`` for the JSON form.

    ``probabilities`` over ``CLASSES`` for ``crop_year``, sum 1, empty when not observable; ``class_name`` one
    of ``CLASSES`` or ``"undecided"``; ``onset`` crop years, None unless abandoned; ``looks`` clear optical
    dates per crop year; ``p_abandoned``/``p_cultivated`` per crop year, None where the year is undecided;
    ``idle_runs`` see ``profiles.Run``: from them every profile is computed again, ``under``.
    """

    parcel: str
    geometry: Mapping[str, Any]
    area_m2: float
    class_name: str
    probabilities: Mapping[str, float]
    crop_year: int
    onset: Onset | None
    observability: str
    pure_pixels: int
    crop_years: tuple[int, ...]
    looks: tuple[int, ...]
    radar_looks: tuple[int, ...]
    p_abandoned: tuple[float | None, ...]
    p_cultivated: tuple[float | None, ...]
    reasons_zh: tuple[str, ...]
    reasons_en: tuple[str, ...]
    idle_runs: tuple[Run, ...]
    profile: str
    model: str
    calibration: str
    synthetic: bool

    @property
    def area_mu(self) -> float:
        """Area in mu (666.67 m2)."""
        return self.area_m2 / MU_M2

    def under(self, profile: Profile) -> Detection:
        """The same beliefs under another definition of abandonment: no image is looked at again."""
        chances = years_abandoned(self.idle_runs, self.crop_years, profile)
        rest = dict(self.probabilities)
        shares, class_name, onset = {}, "undecided", None
        if rest:
            idle = rest["idle_season"] + rest["abandoned"]
            gone = min(chances[-1], idle)
            shares = {**rest, "idle_season": round(idle - gone, 4), "abandoned": round(gone, 4)}
        if shares and self.p_abandoned[-1] is not None:
            class_name = max(shares, key=lambda key: shares[key])
            onset = _onset(self.idle_runs, self.crop_years) if class_name == "abandoned" else None
        seen = self.observability, self.pure_pixels
        zh, en = explain(class_name, onset, seen, self.looks, profile, shares)
        yearly = tuple(
            None if was is None else round(now, 4) for was, now in zip(self.p_abandoned, chances, strict=True)
        )
        return replace(
            self,
            class_name=class_name,
            probabilities=shares,
            onset=onset,
            p_abandoned=yearly,
            reasons_zh=zh,
            reasons_en=en,
            profile=profile.id,
        )

    def record(self) -> dict[str, Any]:
        """All of it as JSON-able values; areas rounded to 0.1 m2 and 0.01 mu, probabilities to 1e-4."""
        return {
            "parcel": self.parcel,
            "geometry": dict(self.geometry),
            "area_m2": round(self.area_m2, 1),
            "area_mu": round(self.area_mu, 2),
            "class_name": self.class_name,
            "probabilities": dict(self.probabilities),
            "crop_year": self.crop_year,
            "onset": self.onset.record() if self.onset else None,
            "observability": self.observability,
            "pure_pixels": self.pure_pixels,
            "crop_years": list(self.crop_years),
            "looks": list(self.looks),
            "radar_looks": list(self.radar_looks),
            "p_abandoned": list(self.p_abandoned),
            "p_cultivated": list(self.p_cultivated),
            "idle_runs": [list(run) for run in self.idle_runs],
            "reasons_zh": list(self.reasons_zh),
            "reasons_en": list(self.reasons_en),
            "profile": self.profile,
            "model": self.model,
            "calibration": self.calibration,
            "synthetic": self.synthetic,
        }


@dataclass(frozen=True, slots=True)
class Detections:
    """The detections of one run, and the maps behind them.

    ``maps``: ``Dataset`` (crop_year, y, x) with ``abandoned`` and ``cultivated`` (uint8, probability x 250;
    255 = undecided) and ``state`` (uint8, place in ``states.STATES``; 255 = undecided).
    """

    items: tuple[Detection, ...]
    crop_years: tuple[int, ...]
    profile: str
    model: str
    calibration: str
    synthetic: bool
    maps: xr.Dataset
    validated: bool = False

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def records(self) -> list[dict[str, Any]]:
        """One JSON-able dict a parcel."""
        return [item.record() for item in self.items]

    def to_geojson(self) -> dict[str, Any]:
        """A FeatureCollection in WGS84 lon/lat (RFC 7946), the records as properties."""
        features = []
        for record in self.records():
            shape = record.pop("geometry")
            features.append({"type": "Feature", "id": record["parcel"], "geometry": shape, "properties": record})
        return {
            "type": "FeatureCollection",
            "features": features,
            "profile": self.profile,
            "model": self.model,
            "calibration": self.calibration,
            "synthetic": self.synthetic,
            "accuracy": "validated" if self.validated else "not validated 未验证",
        }


def default_model(cube: xr.Dataset) -> st.Emission:
    """What judges a cube when nobody brought labels: the textbook classifier for its bands.

    Trained on synthetic curves only, which its id says; ``states.WeakRules`` is the plainer alternative.
    """
    wet = {"red", "nir", "swir1"} <= set(cube.data_vars)
    return textbook_model(("ndvi", "wetness") if wet else ("ndvi",))


def judge_pixels(
    cube: xr.Dataset,
    *,
    model: st.Emission | None = None,
    chain: st.Chain | None = None,
    calendar: Calendar | None = None,
) -> st.Posterior:
    """The pixel-series door: every pixel's posterior over its whole crop years, without parcels.

    ``cube``: as for ``detect``; single series lie along x. ``chain`` defaults to the prior chain for land that
    no register calls cropland. Returns a ``Posterior`` with N = y * x pixels, row-major.
    Raises ``LandError`` as ``detect``.
    """
    season, emission = calendar or Calendar(), model or default_model(cube)
    stack = stack_of(cube)
    years = _years(cube, stack, season)
    evidence = gather(beside_neighbours(stack, emission.layers), season, years, emission.layers)
    links = chain or st.Chain.for_land(known_cropland=False)
    return st.infer(emission.loglik(evidence), st.decided_years(evidence), years, links)


def _years(cube: xr.Dataset, stack: Stack, season: Calendar) -> tuple[int, ...]:
    years = season.whole_years(searched_days(cube, stack.days))
    if not years:
        begins = f"{season.month:02d}-{season.day:02d}"
        raise LandError(
            "too_short",
            f"the series holds no whole crop year beginning {begins}: choose another with --year-start MM-DD",
        )
    return years


def detect(  # noqa: PLR0913 - three things judged, seven ways to judge them
    cube: xr.Dataset,
    parcels: gpd.GeoDataFrame | None = None,
    profile: Profile = CN_ADMIN,
    *,
    model: st.Emission | None = None,
    chain: st.Chain | None = None,
    calendar: Calendar | None = None,
    known_cropland: bool = True,
    progress: Progress | None = None,
    workers: Workers | None = None,
    tile_rows: int = TILE_ROWS,
    finished: FinishedTiles | None = None,
    scratch: Path | None = None,
) -> Detections:
    """Judge every parcel (and pixel) of a cube for its last whole crop year.

    ``cube``: dims (time, y, x), see ``cubes``; ``parcels``: polygons with an id column ``parcel``, any CRS;
    None gives maps only. ``model``: a trained emission, default ``default_model``
    (no labels). ``calendar``:
    agricultural year, default 1 October. ``known_cropland``: the parcels come from a cropland register, so a
    series may begin as abandoned. ``progress(done, total)`` is called after each band of rows.
    ``workers``: a ``dask.distributed.Client``; tiles of rows go to it and the answer is the same. The cube is laid down
    once in ``scratch`` (default: a temporary folder of this machine) and workers that see that folder read their rows
    there themselves; to others the rows are sent.
    ``tile_rows``: rows judged at a time; it decides memory, not the answer.
    ``finished``: where finished tiles are kept, so that a run that was killed goes on where it was; ``clear`` it when
    all is written.
    A year with fewer than five clear looks says nothing and is undecided; gaps are never filled.
    Raises ``LandError`` with one line that names the file, band, parcel or value at fault.
    """
    season = calendar or Calendar()
    emission = model or default_model(cube)
    stack = stack_of(cube)
    years = _years(cube, stack, season)
    links = chain or st.Chain.for_land(known_cropland=known_cropland)
    placed, covers = _laid(parcels, cube) if parcels is not None else (None, [])
    task = Task(season, years, emission, links, profile, fused=bool(covers))
    pixels = _Pixels(beside_neighbours(stack, emission.layers), task)
    pixels.run(Pace(progress, workers, tile_rows, finished, scratch))
    synthetic = bool(cube.attrs.get("synthetic", False))
    made = _Maker(years, profile, emission, synthetic)
    items: tuple[Detection, ...] = ()
    if placed is not None and len(covers):
        items = tuple(made.detections(placed, covers, pixels, links))
    return Detections(
        items=items,
        crop_years=years,
        profile=profile.id,
        model=emission.id,
        calibration=emission.calibration,
        synthetic=synthetic,
        maps=pixels.maps(cube),
    )


def _laid(parcels: gpd.GeoDataFrame, cube: xr.Dataset) -> tuple[gpd.GeoDataFrame, list[Coverage]]:
    grid = grid_of(cube)
    placed = checked(parcels, grid)
    return placed, coverages(list(placed.geometry), grid)


class _Pixels:
    """The pixel side of one run: look log-likelihoods, looks and maps, filled tile by tile."""

    def __init__(self, stack: Stack, task: Task) -> None:
        self.stack, self.task, self.years, fused = stack, task, task.years, task.fused
        years = task.years
        pixels = stack.clear.shape[1]
        self.loglik = np.zeros((len(years), len(st.LOOKS), pixels if fused else 0), np.float32)
        self.looks = np.zeros((len(years), pixels), np.int16)
        self.radar_looks = np.zeros((len(years), pixels), np.int16)
        self.abandoned = np.full((len(years), pixels), 255, np.uint8)
        self.cultivated = np.full((len(years), pixels), 255, np.uint8)
        self.state = np.full((len(years), pixels), 255, np.uint8)

    def run(self, pace: Pace) -> None:
        """Judge tile by tile, here or on workers; the answer is the same."""
        rows, columns = self.stack.shape
        for (first, last), tile in pace.judged(self.stack, self.task):
            here = slice(first * columns, last * columns)
            if self.task.fused:
                self.loglik[:, :, here] = tile.loglik
            self.looks[:, here], self.radar_looks[:, here] = tile.looks, tile.radar_looks
            self.abandoned[:, here], self.cultivated[:, here] = tile.abandoned, tile.cultivated
            self.state[:, here] = tile.state
            if pace.progress:
                pace.progress(last, rows)

    def maps(self, cube: xr.Dataset) -> xr.Dataset:
        rows, columns = self.stack.shape
        dims = ("crop_year", "y", "x")
        shape = (len(self.years), rows, columns)
        held = {"abandoned": self.abandoned, "cultivated": self.cultivated, "state": self.state}
        return xr.Dataset(
            {name: (dims, values.reshape(shape)) for name, values in held.items()},
            coords={"crop_year": list(self.years), "y": cube["y"].to_numpy(), "x": cube["x"].to_numpy()},
            attrs={key: cube.attrs[key] for key in ("crs", "synthetic", "title") if key in cube.attrs},
        )


@dataclass(frozen=True, slots=True)
class _Maker:
    """The parcel side of one run: fused evidence -> detections."""

    years: tuple[int, ...]
    profile: Profile
    emission: st.Emission
    synthetic: bool

    def detections(
        self, placed: gpd.GeoDataFrame, covers: list[Coverage], pixels: _Pixels, chain: st.Chain
    ) -> Iterator[Detection]:
        touched = [cover for cover in covers if cover.pixels.size]
        if len(touched) != len(covers):
            raise LandError("outside", "a parcel touches no pixel of the cube")
        looks = np.stack([fuse(pixels.loglik, cover) for cover in covers], axis=2)
        optical = np.stack([parcel_looks(pixels.looks, cover) for cover in covers], axis=1)
        radar = np.stack([parcel_looks(pixels.radar_looks, cover) for cover in covers], axis=1)
        found = st.infer(looks, (optical + radar) >= MIN_LOOKS, self.years, chain)
        shapes = placed.to_crs(4326).geometry
        judged = _Judged(found, found.abandoned(self.profile))
        for n, name in enumerate(placed["parcel"]):
            yield self._one(n, name, shapes.iloc[n], placed.geometry.iloc[n].area, covers[n], judged, (optical, radar))

    def _one(
        self,
        n: int,
        name: str,
        shape: shapely.Geometry,
        area: float,
        cover: Coverage,
        judged: _Judged,
        looks: tuple[NDArray[np.int16], NDArray[np.int16]],
    ) -> Detection:
        decided = judged.found.decided[:, n] & (cover.observability != "not_observable")
        plain = Detection(
            parcel=name,
            geometry=json.loads(shapely.to_geojson(shapely.set_precision(shape, 1e-7))),
            area_m2=float(area),
            class_name="undecided",
            probabilities=judged.shares(n) if decided.any() else {},
            crop_year=self.years[-1],
            onset=None,
            observability=cover.observability,
            pure_pixels=cover.pure,
            crop_years=self.years,
            looks=tuple(int(count) for count in looks[0][:, n]),
            radar_looks=tuple(int(count) for count in looks[1][:, n]),
            p_abandoned=_yearly(judged.abandoned[:, n], decided),
            p_cultivated=_yearly(judged.found.states[:, st.CULTIVATED, n], decided),
            reasons_zh=(),
            reasons_en=(),
            idle_runs=judged.runs(n) if decided.any() else (),
            profile=self.profile.id,
            model=self.emission.id,
            calibration=self.emission.calibration,
            synthetic=self.synthetic,
        )
        return plain.under(self.profile)


def _yearly(values: NDArray[np.float32], decided: NDArray[np.bool_]) -> tuple[float | None, ...]:
    return tuple(round(float(value), 4) if sure else None for value, sure in zip(values, decided, strict=True))


@dataclass(frozen=True, slots=True)
class _Judged:
    found: st.Posterior
    abandoned: Float

    def shares(self, n: int) -> dict[str, float]:
        """Class probabilities of parcel ``n`` in the last year; the idle rest is idle_season."""
        last = self.found.states[-1, :, n]
        gone = min(float(self.abandoned[-1, n]), float(last[st.IDLE].sum()))
        raw = {
            "cultivated": float(last[st.CULTIVATED]),
            "idle_season": float(last[st.SEASONAL] + last[st.IDLE].sum()) - gone,
            "abandoned": gone,
            "converted": float(last[st.BUILT] + last[st.ORCHARD]),
            "natural": float(last[st.NATURE] + last[st.SHRUBS] + last[st.FOREST]),
        }
        total = sum(raw.values())
        return {key: round(max(value, 0.0) / total, 4) for key, value in raw.items()}

    def runs(self, n: int) -> tuple[Run, ...]:
        """Idle runs of parcel ``n`` that are likelier than ``LEAST_RUN``."""
        years, held = self.found.years, self.found.runs[:, :, n]
        return tuple(
            (years[int(i)], years[int(j)], round(float(held[i, j]), 4)) for i, j in np.argwhere(held >= LEAST_RUN)
        )


def _onset(runs: tuple[Run, ...], years: tuple[int, ...]) -> Onset | None:
    """Years below which 5, 50 and 95 % of the onset posterior of the run lasting in the last year lie."""
    chance = {begin: share for begin, last, share in runs if last == years[-1]}
    began = np.array([chance.get(year, 0.0) for year in years])
    if not began.any():
        return None
    grown = np.cumsum(began / began.sum())
    cut = [years[min(int(np.searchsorted(grown, share)), len(years) - 1)] for share in (0.05, 0.5, 0.95 - 1e-6)]
    return Onset(*cut)
