"""Files as they are found -> one cube. Recognised by structure (dims, names, attributes), never by file name.

NetCDF and zarr: a time dim, one or two space dims, bands under any usual name, integers with or without a
declared scale, fill values declared or not, a mask of one of the usual kinds (Fmask, SCL, s2cloudless,
plain). What cannot be used is refused with one line that names file, band and value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
import xarray as xr
from numpy.typing import NDArray

from remote_sensing.catalogues import Wanted, is_catalogue, load_items, local_items, search
from remote_sensing.cubes import MISSING, OPTICAL, RADAR, SCALE, LandError, pack_values
from remote_sensing.loose import is_loose, loose_items
from remote_sensing.masks import MASK_CLEAR, clear_sky, heights_on, shade_hidden
from remote_sensing.parcels import grid_of
from remote_sensing.sensors import ALIASES, inside

_DIMS: Mapping[str, tuple[str, ...]] = {
    "time": ("t", "date"),
    "y": ("lat", "latitude", "row"),
    "x": ("lon", "longitude", "col"),
}
CLOUD_PROBABILITY = ("cloud_probability", "clp", "cloudprob")
CLOUDY_FROM = 0.4
_ABSURD_SHARE = 0.5
_FIRST_IMAGES = np.datetime64("1970-01-01")


@dataclass(frozen=True, slots=True)
class Opened:
    """A cube and what was noticed on the way: ``notes`` one line each, for the person who asked."""

    cube: xr.Dataset
    notes: tuple[str, ...] = ()


def open_scene(source: Path | str, dem: Path | None = None, wanted: Wanted | None = None) -> Opened:
    """Open a netCDF file, zarr store, STAC catalogue, folder of dated GeoTIFFs or STAC API (``https://...``) as a cube.

    ``dem``: a height model (metres, any grid with a CRS); looks in the cast shadow of its hills are not clear.
    ``wanted``: what to take from a catalogue; of a file, its dates alone are heeded.

    Raises ``LandError``: ``no_file``, ``truncated``, ``unknown_format``, ``bad_dims``, ``missing_band``,
    ``absurd_values``, ``duplicate_dates``, ``wrong_crs``, ``no_catalogue``, ``no_dates``; the text
    names the file, the band and the value.
    """
    asked = wanted or Wanted()
    if re.match(r"https?://", str(source)):
        opened = Opened(*load_items(search(str(source), asked), asked))
    else:
        opened = _from_disk(Path(source), asked)
    cube = opened.cube
    shaded: tuple[str, ...] = ()
    if dem is not None:
        grid = grid_of(cube)
        cube, shaded = shade_hidden(cube, heights_on(dem, grid), abs(float(grid.transform.a)))
    return Opened(cube, (*opened.notes, *shaded))


def _from_disk(path: Path, wanted: Wanted) -> Opened:
    if not path.exists():
        raise LandError("no_file", f"{path}: no such file")
    if is_catalogue(path):
        return Opened(*load_items(local_items(path, wanted), wanted))
    if is_loose(path) and not _is_zarr(path):
        if wanted.collections:
            raise LandError("bad_setting", f"{path.name}: --collection is for STAC catalogues; these are loose files")
        items, nameless = loose_items(path)
        cube, notes = load_items([item for item in items if wanted.holds(item)], wanted)
        return Opened(cube, (*nameless, *notes))
    if wanted.collections or wanted.bbox:
        raise LandError("bad_setting", f"{path.name}: --collection and --bbox are for STAC catalogues; this is a file")
    with _opened(path) as raw:
        return read_dataset(_of_dates(raw, wanted, path.name), path.name)


def _of_dates(raw: xr.Dataset, wanted: Wanted, name: str) -> xr.Dataset:
    """The dates of a file between the first and the last that are wanted."""
    dim = next((dim for dim in ("time", *_DIMS["time"]) if dim in raw.dims), "")
    if not dim or not (wanted.first or wanted.last):
        return raw
    days = raw[dim].to_numpy().astype("datetime64[D]")
    keep = np.ones(days.shape, bool)
    if wanted.first:
        keep &= days >= np.datetime64(wanted.first)
    if wanted.last:
        keep &= days <= np.datetime64(wanted.last)
    if not keep.any():
        raise LandError("no_dates", f"{name}: no date between {wanted.first or '..'} and {wanted.last or '..'}")
    return raw.isel({dim: keep})


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and ((path / "zarr.json").exists() or (path / ".zgroup").exists())


def _opened(path: Path) -> xr.Dataset:
    try:
        if _is_zarr(path):
            store: xr.Dataset = xr.open_zarr(path, mask_and_scale=False, consolidated=False)
            return store
        if path.suffix.lower() in {".nc", ".nc4", ".h5", ".hdf5", ".cdf"}:
            return xr.open_dataset(path, engine="h5netcdf", mask_and_scale=False)
    except (OSError, ValueError, KeyError, RuntimeError) as why:
        reason = str(why).splitlines()[0][:160]
        raise LandError("truncated", f"{path.name}: cannot be read, truncated or damaged ({reason})") from why
    raise LandError(
        "unknown_format", f"{path.name}: not a netCDF file, zarr store, STAC catalogue or folder of GeoTIFFs"
    )


def read_dataset(raw: xr.Dataset, name: str) -> Opened:
    """A dataset as found (undecoded integers) -> a checked cube; ``name`` goes into every message."""
    notes: list[str] = []
    shaped = _shaped(raw, name, notes)
    file_scale = str(raw.attrs.get("scale", ""))
    found = {band: _find(shaped, aliases) for band, aliases in ALIASES.items()}
    optical = [band for band in OPTICAL if found[band]]
    if not found["ndvi"] and not (found["red"] and found["nir"]):
        have = ", ".join(sorted(str(v) for v in shaped.data_vars)) or "none"
        raise LandError("missing_band", f"{name}: bands found: {have}; needs ndvi, or red and nir")
    bands = {band: _band(shaped[found[band]], _Reading(band, name, file_scale, notes)) for band in optical}
    _zeros_are_nothing(shaped, found, bands, name, notes)
    clear = _clear(shaped, bands, notes)
    dims = ("time", "y", "x")
    cube = xr.Dataset(
        {**{band: (dims, values) for band, values in bands.items()}, "clear": (dims, clear)},
        coords={"time": shaped["time"].to_numpy(), "y": shaped["y"].to_numpy(), "x": shaped["x"].to_numpy()},
        attrs=_attributes(raw, name, notes),
    )
    for angle in ("sun_elevation", "sun_azimuth"):
        if angle in shaped.variables and shaped[angle].dims == ("time",):
            cube = cube.assign_coords({angle: ("time", shaped[angle].to_numpy().astype(float))})
    for band in RADAR:
        if found[band] and "time_radar" in shaped[found[band]].dims:
            cube[band] = (("time_radar", "y", "x"), shaped[found[band]].transpose("time_radar", "y", "x").to_numpy())
            cube = cube.assign_coords(time_radar=shaped["time_radar"].to_numpy())
    return Opened(cube, tuple(notes))


def _shaped(raw: xr.Dataset, name: str, notes: list[str]) -> xr.Dataset:
    """Rename dims to (time, y, x), add a missing space dim, check the dates."""
    shaped = raw.rename(
        {
            other: wanted
            for wanted, usual in _DIMS.items()
            for other in usual
            if wanted not in raw.dims and other in raw.dims
        }
    )
    if "time" not in shaped.dims:
        raise LandError("bad_dims", f"{name}: dims {tuple(raw.dims)}: no time dim")
    for dim in ("y", "x"):
        if dim not in shaped.dims:
            shaped = shaped.expand_dims({dim: [0.0]})
        if dim not in shaped.coords:
            shaped = shaped.assign_coords({dim: np.arange(shaped.sizes[dim], dtype=float)})
    for dim in ("time", "y", "x"):
        if not shaped.sizes[dim]:
            raise LandError(
                "no_dates" if dim == "time" else "bad_dims", f"{name}: dim '{dim}' is empty, nothing to see"
            )
    return _in_order(shaped, name, notes)


def _in_order(shaped: xr.Dataset, name: str, notes: list[str]) -> xr.Dataset:
    times = shaped["time"].to_numpy()
    if not np.issubdtype(times.dtype, np.datetime64):
        raise LandError("bad_dims", f"{name}: time is {times.dtype}, not dates")
    seconds = times.astype("datetime64[s]")
    wrong = np.isnat(seconds) | (seconds < _FIRST_IMAGES)
    if wrong.all():
        raise LandError("absurd_values", f"{name}: date {seconds[0]} is not the date of a satellite image")
    notes += [f"left out date {second}: not the date of a satellite image" for second in np.unique(seconds[wrong])]
    keep = ~wrong & ~_told_twice(shaped, seconds, notes)
    if not keep.any():
        raise LandError("duplicate_dates", f"{name}: date {seconds[~wrong][0]} appears twice with different values")
    shaped = shaped if keep.all() else shaped.isel(time=keep)
    return shaped if (np.diff(seconds[keep]) > np.timedelta64(0, "s")).all() else shaped.sortby("time")


def _told_twice(shaped: xr.Dataset, seconds: NDArray[np.datetime64], notes: list[str]) -> NDArray[np.bool_]:
    """Dates (T,) to leave out: the copies of a scene, and all that contradict each other of one date."""
    out = np.zeros(seconds.shape, bool)
    unique, counts = np.unique(seconds, return_counts=True)
    for second in unique[counts > 1]:
        places = np.flatnonzero(seconds == second)
        first, *rest = (shaped.isel(time=place).drop_vars("time") for place in places)
        other = next((band for one in rest for band in _differing(first, one)), "")
        out[places if other else places[1:]] = True
        if other:
            notes.append(f"left out date {second}: {places.size} scenes of it differ in {other}; which is right?")
        else:
            notes.append(f"date {second} is there {places.size} times, the same each time: one is kept")
    return out


def _differing(first: xr.Dataset, second: xr.Dataset) -> list[str]:
    """Variables in which two scenes differ."""
    return [str(name) for name in first.data_vars if not first[name].equals(second[name])]


def _find(data: xr.Dataset, aliases: tuple[str, ...]) -> str:
    by_name = {str(v).lower(): str(v) for v in data.data_vars if data[v].ndim > 1}
    return next((by_name[alias] for alias in aliases if alias in by_name), "")


@dataclass(frozen=True, slots=True)
class _Reading:
    """One band being read: what it is, whose file, what the file says of its scale, where to note things."""

    band: str
    name: str
    file_scale: str
    notes: list[str]


def _scale_of(raw: xr.DataArray, reading: _Reading) -> tuple[float, float]:
    """Value per step and offset: declared on the band, else told in words by the file, else judged by range."""
    if "scale_factor" in raw.attrs:
        return float(raw.attrs["scale_factor"]), float(raw.attrs.get("add_offset", 0.0))
    if np.issubdtype(raw.dtype, np.floating):
        return 1.0, 0.0
    told = re.search(r"(?:reflectance|ndvi|value)s?\s*\*\s*(\d+)", reading.file_scale, re.IGNORECASE)
    if told:
        return 1.0 / float(told.group(1)), 0.0
    note = f"no scale declared: integers read as value x {round(1 / SCALE)}"
    if note not in reading.notes:
        reading.notes.append(note)
    return SCALE, float(raw.attrs.get("add_offset", 0.0))


_NEVER_REAL = (-9999, -32768)
_USUAL_FILLS = (-3000, 65535, 20000, 16000, 255)


def _band(raw: xr.DataArray, reading: _Reading) -> NDArray[np.int16]:
    """One band (T, y, x) as int16 steps of 1e-4; fills and what lies outside the physical range are missing."""
    band, name = reading.band, reading.name
    if "time" not in raw.dims:
        raise LandError("bad_dims", f"{name}: band {band} has dims {raw.dims}: no time")
    _refuse_strange_dims(raw, f"{name}: band {band}")
    values = raw.transpose("time", "y", "x").to_numpy()
    scale, offset = _scale_of(raw, reading)
    fill = raw.attrs.get("_FillValue", raw.attrs.get("missing_value", raw.attrs.get("nodata")))
    real = values.astype(np.float32) * np.float32(scale) + np.float32(offset)
    known = np.isfinite(real)
    if fill is not None and np.isfinite(fill):
        known &= values != fill
    if not np.issubdtype(values.dtype, np.floating):
        known &= ~np.isin(values, _NEVER_REAL) & ~(np.isin(values, _USUAL_FILLS) & ~inside(real, band))
    good = known & inside(real, band)
    strange = known & ~good
    whole = strange.sum(axis=(1, 2)) > _ABSURD_SHARE * known.sum(axis=(1, 2))
    if strange.any() and not good[~whole].any():
        share = float(strange.sum()) / int(known.sum())
        raise LandError(
            "absurd_values",
            f"{name}: band {band}: value {values[strange][0]} (scale {scale:g}) and {share:.0%} of all are no {band}",
        )
    if not good.any():
        raise LandError("absurd_values", f"{name}: band {band}: nothing but fill values ({values.flat[0]})")
    dates = raw["time"].to_numpy().astype("datetime64[D]")
    for place in np.flatnonzero(whole):
        value = values[place][strange[place]][0]
        reading.notes.append(f"left out date {dates[place]}: band {band}: value {value} (scale {scale:g})")
        good[place] = False
    some = strange & ~whole[:, None, None]
    if some.any():
        date = dates[int(np.argmax(some.any(axis=(1, 2))))]
        first = f"the first {values[some][0]} on {date}"
        reading.notes.append(f"band {band}: {int(some.sum())} absurd values set to missing, {first}")
    return pack_values(np.where(good, real, np.float32(np.nan)))


def _refuse_strange_dims(raw: xr.DataArray, what: str) -> None:
    strange = [str(dim) for dim in raw.dims if dim not in {"time", "y", "x"}]
    if strange:
        usual = " and ".join("/".join((dim, *_DIMS[dim])) for dim in ("y", "x"))
        raise LandError("bad_dims", f"{what} has a dim '{strange[0]}' that is not known: call the space dims {usual}")


def _zeros_are_nothing(
    data: xr.Dataset,
    found: Mapping[str, str],
    bands: dict[str, NDArray[np.int16]],
    name: str,
    notes: list[str],
) -> None:
    """Where every band is exactly zero there is no look: a nodata that was written as zero."""
    if any("_FillValue" in data[found[band]].attrs for band in bands):
        return
    zero: NDArray[np.bool_] = np.logical_and.reduce([values == 0 for values in bands.values()])
    if zero.all():
        raise LandError("absurd_values", f"{name}: band {next(iter(bands))}: value 0 everywhere, nothing but nodata")
    if len(bands) == 1:
        # one band alone is zero on water's edge too; only a date that is zero all over is nothing
        zero = zero & np.logical_and.reduce(zero, axis=(1, 2), keepdims=True) if zero[0].size > 1 else zero & False
    if zero.any():
        notes.append(f"{int(zero.sum())} looks are 0 in every band: read as missing")
        for values in bands.values():
            values[zero] = MISSING


def _clear(data: xr.Dataset, bands: Mapping[str, NDArray[np.int16]], notes: list[str]) -> NDArray[np.bool_]:
    known = np.stack([values != MISSING for values in bands.values()]).all(axis=0)
    for mask in (*MASK_CLEAR, "qa_pixel"):
        held = _find(data, (mask,))
        if held and "time" in data[held].dims:
            _refuse_strange_dims(data[held], f"mask {held}")
            return np.asarray(known & clear_sky(data[held].transpose("time", "y", "x").to_numpy(), mask))
    held = _find(data, CLOUD_PROBABILITY)
    if held:
        cloud = data[held].transpose("time", "y", "x").to_numpy() * float(data[held].attrs.get("scale_factor", 1.0))
        return np.asarray(known & (cloud < CLOUDY_FROM))
    notes.append("no cloud mask found: every value present counts as a clear look")
    return np.asarray(known)


def _attributes(raw: xr.Dataset, name: str, notes: list[str]) -> dict[str, object]:
    attrs: dict[str, object] = {"title": str(raw.attrs.get("title", name)), "source": name}
    for key in ("synthetic", "period"):
        if key in raw.attrs:
            attrs[key] = bool(raw.attrs[key]) if key == "synthetic" else raw.attrs[key]
    for key in ("crs", "crs_wkt", "crs_proj4", "proj4", "spatial_ref"):
        text = raw.attrs.get(key)
        if text:
            attrs["crs"] = _known_crs(str(text), name)
            return attrs
    for holder in ("spatial_ref", "crs", "grid_mapping"):
        if holder in raw.variables and "crs_wkt" in raw[holder].attrs:
            attrs["crs"] = _known_crs(str(raw[holder].attrs["crs_wkt"]), name)
            return attrs
    notes.append("no CRS declared: results stay on the file's own rows and columns")
    return attrs


def _known_crs(text: str, name: str) -> str:
    try:
        crs = pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError as why:
        raise LandError("wrong_crs", f"{name}: CRS {text[:60]!r} is not known") from why
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.to_wkt()
