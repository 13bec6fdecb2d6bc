"""What a run leaves behind: COG maps with overviews and colours, zarr, GeoJSON, GeoParquet, a quick-look PNG.

Everything made from a synthetic scene carries the word SYNTHETIC 合成 in its metadata and on its face, and
everything without an accuracy assessment the words "not validated".
"""

from __future__ import annotations

import datetime as dt
import json
from importlib.metadata import version
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import rasterio
import xarray as xr
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rasterio.io import MemoryFile
from rasterio.shutil import copy as copy_raster

from remote_sensing import styles
from remote_sensing.cubes import LandError
from remote_sensing.detection import Detections
from remote_sensing.parcels import grid_of

COLOURS = {
    0: (84, 148, 63, 255),
    1: (190, 205, 110, 255),
    2: (231, 213, 120, 255),
    3: (235, 150, 60, 255),
    4: (196, 62, 40, 255),
    5: (130, 130, 135, 255),
    6: (150, 100, 170, 255),
    7: (175, 195, 150, 255),
    8: (130, 160, 110, 255),
    9: (40, 90, 70, 255),
    255: (0, 0, 0, 0),
}
"""Colour of each state, place in ``states.STATES``; 255 = undecided."""

ALERT_COLOURS = {0: (255, 255, 255, 0), 1: (250, 220, 90, 255), 2: (240, 150, 50, 255), 3: (196, 62, 40, 255)}
"""Colour of each alert level of the monitor: none, watch, seasonal idle, abandoned."""


def honest_words(found: Detections) -> dict[str, str]:
    """Metadata that every product carries."""
    return {
        "model": found.model,
        "calibration": found.calibration,
        "profile": found.profile,
        "accuracy": "validated" if found.validated else "not validated 未验证",
        "data": "SYNTHETIC 合成" if found.synthetic else "observed",
    }


def write_all(found: Detections, out: Path) -> list[Path]:
    """Write every product into ``out`` (made if need be); returns the paths written, maps first.

    Without a CRS no GeoTIFF can be placed on earth: the maps go to zarr alone. Raises ``LandError("no_place")``
    when the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as why:
        raise LandError("no_place", f"{out}: cannot be made ({why.strerror})") from why
    written = [write_zarr(found, out / "maps.zarr"), write_quicklook(found, out / "quicklook.png")]
    if "crs" in found.maps.attrs:
        written += [write_cog(found, name, out / f"{name}.tif") for name in ("state", "state_now", "abandoned")]
        written += styles.write_styles(out, COLOURS)
    if found.items:
        written += [
            write_geojson(found, out / "parcels.geojson"),
            write_parquet(found, out / "parcels.parquet"),
            write_geopackage(found, out / "parcels.gpkg"),
        ]
    else:
        written.append(write_geojson(found, out / "parcels.geojson"))
    if "crs" in found.maps.attrs:
        written.append(write_item(found, out, [path for path in written if path.is_file()]))
    return written


def write_zarr(found: Detections, path: Path) -> Path:
    """All yearly maps as zarr, int8, chunked (year, 256, 256)."""
    maps = found.maps.assign_attrs(**found.maps.attrs, **honest_words(found))
    maps.attrs["synthetic"] = int(found.synthetic)
    maps.to_zarr(path, mode="w", consolidated=False)
    return path


def write_cog(found: Detections, name: str, path: Path) -> Path:
    """One map, one band a crop year, as a cloud-optimised GeoTIFF with overviews.

    ``state_now`` is the state of the last crop year alone, with colours: a GeoTIFF of many bands can hold no table.
    """
    now = name == "state_now"
    years = found.crop_years[-1:] if now else found.crop_years
    values = found.maps["state" if now else name].to_numpy()[-len(years) :]
    grid = grid_of(found.maps)
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": values.shape[0],
        "height": values.shape[1],
        "width": values.shape[2],
        "crs": rasterio.crs.CRS.from_user_input(str(found.maps.attrs["crs"])),
        "transform": grid.transform,
        "nodata": 255,
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as draft:
            draft.write(values)
            draft.update_tags(**honest_words(found))
            for band, year in enumerate(years, 1):
                draft.set_band_description(band, f"crop year {year}")
            if now:
                draft.write_colormap(1, COLOURS)
        with memory.open() as draft:
            copy_raster(draft, path, driver="COG", compress="deflate", overview_resampling="nearest", blocksize=256)
    return path


def write_alerts(cube: xr.Dataset, levels: NDArray[np.uint8], path: Path) -> Path:
    """Alert level per pixel (place in ``monitor.LEVELS``) as a small GeoTIFF with colours."""
    grid = grid_of(cube)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=1,
        height=grid.shape[0],
        width=grid.shape[1],
        crs=rasterio.crs.CRS.from_user_input(str(grid.crs)),
        transform=grid.transform,
        compress="deflate",
    ) as file:
        file.write(levels.reshape(grid.shape), 1)
        file.write_colormap(1, ALERT_COLOURS)
        synthetic = "SYNTHETIC 合成" if cube.attrs.get("synthetic") else "observed"
        file.update_tags(accuracy="not validated 未验证", data=synthetic)
    return path


def write_geojson(found: Detections, path: Path) -> Path:
    """Parcels as GeoJSON (WGS84), one line of text a feature."""
    whole = found.to_geojson()
    features = whole.pop("features")
    head = json.dumps(whole, ensure_ascii=False)[:-1]
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False) for feature in features)
    path.write_text(f'{head}, "features": [\n{lines}\n]}}\n', encoding="utf-8")
    return path


def write_parquet(found: Detections, path: Path) -> Path:
    """Parcels as GeoParquet; lists and dicts of the record as JSON text."""
    _table(found).to_parquet(path)
    return path


def write_geopackage(found: Detections, path: Path) -> Path:
    """Parcels as GeoPackage, layer ``parcels``; lists and dicts of the record as JSON text."""
    _table(found).assign(**honest_words(found)).to_file(path, driver="GPKG", layer="parcels", mode="w")
    return path


def write_item(found: Detections, out: Path, files: list[Path]) -> Path:
    """A STAC item over the maps: processing and accuracy beside every asset, so that no file travels unlabelled."""
    box = grid_of(found.maps).extent.to_crs("EPSG:4326")
    years = found.crop_years
    words = {f"tianmai:{key}": value for key, value in honest_words(found).items()}
    item = pystac.Item(
        id=f"abandoned-land-{years[0]}-{years[-1]}",
        geometry=box.json,
        bbox=list(box.boundingbox.bbox),
        datetime=None,
        start_datetime=dt.datetime(years[0] - 1, 1, 1, tzinfo=dt.UTC),
        end_datetime=dt.datetime(years[-1], 12, 31, tzinfo=dt.UTC),
        properties={
            **words,
            "tianmai:crop_years": list(years),
            "processing:level": "L4",
            "processing:lineage": f"annual evidence, {found.model}, hidden Markov chain over years, parcels fused",
            "processing:software": {"tianmai-land": version("tianmai")},
        },
    )
    for path in files:
        kind = _MEDIA.get(path.suffix, "application/octet-stream")
        item.add_asset(path.stem if path.suffix == ".tif" else path.name, pystac.Asset(path.name, media_type=kind))
    target = out / "item.json"
    target.write_text(json.dumps(item.to_dict(include_self_link=False), ensure_ascii=False, indent=1), encoding="utf-8")
    return target


_MEDIA = {
    ".tif": pystac.MediaType.COG,
    ".png": pystac.MediaType.PNG,
    ".geojson": pystac.MediaType.GEOJSON,
    ".gpkg": pystac.MediaType.GEOPACKAGE,
    ".parquet": "application/vnd.apache.parquet",
    ".qml": "application/xml",
}


def _table(found: Detections) -> gpd.GeoDataFrame:
    frame = gpd.GeoDataFrame.from_features(found.to_geojson()["features"], crs=4326)
    for column in frame.columns:
        if column != "geometry" and frame[column].map(lambda value: isinstance(value, dict | list)).any():
            frame[column] = frame[column].map(lambda value: json.dumps(value, ensure_ascii=False))
    return frame


def write_quicklook(found: Detections, path: Path) -> Path:
    """A PNG of the last judged year for a first look; says SYNTHETIC 合成 when the scene is invented."""
    state = found.maps["state"].to_numpy()[-1]
    factor = max(1, 512 // max(state.shape))
    picture = Image.fromarray(_coloured(state)).resize(
        (state.shape[1] * factor, state.shape[0] * factor), Image.Resampling.NEAREST
    )
    canvas = Image.new("RGB", (max(picture.width, 360), picture.height + 34), "white")
    canvas.paste(picture, (0, 34))
    words = honest_words(found)
    title = "SYNTHETIC scene, not real land | " if found.synthetic else ""
    ImageDraw.Draw(canvas).text(
        (6, 4),
        f"{title}crop year {found.crop_years[-1]}\n{words['model']} | {words['profile']} | {words['accuracy'][:13]}",
        fill="black",
    )
    canvas.save(path)
    return path


def _coloured(state: NDArray[np.uint8]) -> NDArray[np.uint8]:
    table = np.full((256, 3), 255, np.uint8)
    for code, colour in COLOURS.items():
        if colour[3]:
            table[code] = colour[:3]
    coloured: NDArray[np.uint8] = table[state]
    return coloured


def write_cube(cube: xr.Dataset, path: Path) -> Path:
    """A cube as netCDF (h5netcdf, deflate), readable by ``scenes.open_scene``."""
    plain = cube.copy()
    for name in plain.data_vars:
        if plain[name].dtype == bool:
            plain[name] = plain[name].astype(np.uint8)
        else:
            scale = 1e-2 if name in {"vv", "vh"} else 1e-4
            plain[name].attrs = {"scale_factor": scale, "_FillValue": np.int16(-32768)}
    plain.attrs["synthetic"] = int(bool(cube.attrs.get("synthetic", False)))
    encoding = {str(name): {"zlib": True, "complevel": 1} for name in plain.data_vars}
    plain.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return path
