"""Loose GeoTIFFs, dated in their names: read like a catalogue; what says too little is left out and named."""

import datetime as dt

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.transform import Affine

from remote_sensing import LandError
from remote_sensing.__main__ import main
from remote_sensing.loose import loose_items
from remote_sensing.scenes import open_scene

pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")

PLACE = Affine(10, 0, 640_000, 0, -10, 3_280_000)
SHAPE = (16, 16)


def write(path, values, count=1):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=16,
        height=16,
        count=count,
        dtype=values.dtype,
        crs="EPSG:32648",
        transform=PLACE,
    ) as file:
        for band in range(1, count + 1):
            file.write(values, band)


def sentinel(folder, dates=26, style="T48RXT_{day:%Y%m%d}T034131_{band}_{pixel}.tif"):
    """A year and more of scenes under Sentinel-2's own names: B04, B08 (10 m), SCL (20 m)."""
    for n in range(dates):
        day = dt.date(2019, 10, 2) + dt.timedelta(days=28 * n)
        for band, value, pixel in (("B04", 400 + n, "10m"), ("B08", 2500, "10m"), ("SCL", 4, "20m")):
            kind = np.uint8 if band == "SCL" else np.int16
            write(folder / style.format(day=day, band=band, pixel=pixel), np.full(SHAPE, value, kind))
    return folder


@pytest.mark.parametrize(
    "style", ["T48RXT_{day:%Y%m%d}T034131_{band}_{pixel}.tif", "{day}_{band}.tif", "{band}.{day:%Y%m%d}.tiff"]
)
def test_a_folder_of_dated_files_becomes_a_cube_that_equals_them(tmp_path, style):
    opened = open_scene(sentinel(tmp_path, 5, style))
    assert opened.notes == ()
    assert opened.cube["red"][:, 3, 3].to_numpy().tolist() == [400, 401, 402, 403, 404]
    assert opened.cube["clear"].to_numpy().all()
    assert str(opened.cube["time"][1].to_numpy())[:10] == "2019-10-30"


def test_the_years_of_landsats_bands_and_sentinels_offset_are_told_by_the_name(tmp_path):
    for name, value in (("SR_B4", 9000), ("SR_B5", 16000), ("QA_PIXEL", 21824)):
        write(tmp_path / f"LC08_L2SP_127040_20200105_20200113_02_T1_{name}.TIF", np.full(SHAPE, value, np.uint16))
    cube = open_scene(tmp_path).cube
    assert int(cube["red"][0, 0, 0]) == round((9000 * 2.75e-5 - 0.2) * 1e4)
    assert int(cube["nir"][0, 0, 0]) == 2400
    assert cube["clear"].to_numpy().all()
    (late := tmp_path / "late").mkdir()
    for name, value in (("B04", 1400), ("B08", 3500), ("SCL", 4)):
        write(late / f"S2A_MSIL2A_20220205T034131_N0400_R061_T48RXT_{name}.tif", np.full(SHAPE, value, np.uint16))
    assert int(open_scene(late).cube["red"][0, 0, 0]) == 400


def test_a_bad_file_is_one_line_and_the_others_are_read(tmp_path):
    sentinel(tmp_path, 4, "{day:%Y%m%d}_{band}.tif")
    write(tmp_path / "mosaic_B04.tif", np.full(SHAPE, 1, np.int16))
    write(tmp_path / "20190231_B04.tif", np.full(SHAPE, 1, np.int16))
    write(tmp_path / "20191002_TCI.tif", np.full(SHAPE, 1, np.int16))
    write(tmp_path / "20191030_B08.tif", np.full(SHAPE, 1, np.int16), count=3)
    for name, left in (("20191127_B08.tif", -100), ("20191225_B08.tif", 200)):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:left])
    opened = open_scene(tmp_path)
    assert opened.cube.sizes["time"] == 1
    assert len(opened.notes) == 6
    said = "\n".join(opened.notes)
    assert "left out 20191225: band b08 has no CRS" in said
    assert "left out mosaic_B04.tif: its name holds no date" in said
    assert "left out 20190231_B04.tif: its name holds no date" in said
    assert "left out 20191002_TCI.tif: its name holds no band that is known" in said
    assert "left out 20191030: band b08 is a file of 3 bands" in said
    assert "left out 20191127: band b08 cannot be read" in said


def test_a_folder_that_says_nothing_is_refused(tmp_path):
    write(tmp_path / "field.tif", np.full(SHAPE, 1, np.int16))
    with pytest.raises(LandError, match=r"no scene can be used; left out field.tif"):
        open_scene(tmp_path)


def test_the_second_file_of_a_band_is_left_out_and_named(tmp_path):
    for pixel in ("10m", "20m"):
        write(tmp_path / f"20191002_B04_{pixel}.tif", np.full(SHAPE, 1, np.int16))
    items, notes = loose_items(tmp_path)
    assert [list(item.assets) for item in items] == [["b04"]]
    assert notes == ("left out 20191002_B04_20m.tif: band b04 of that scene is there already",)


def test_detect_reads_a_folder_of_files_and_heeds_its_dates(tmp_path, capsys):
    sentinel(tmp_path, 28, "{day:%Y%m%d}_{band}.tif")
    asked = [
        "detect",
        str(tmp_path),
        "--out",
        str(tmp_path / "run"),
        "--from",
        "2019-10-01",
        "--to",
        "2020-09-30",
        "--quiet",
    ]
    assert main(asked) == 0
    assert "crop years 2020..2020" in capsys.readouterr().out


def test_a_zarr_store_is_read_by_the_same_path_as_a_file(tmp_path):
    cube = open_scene(sentinel(tmp_path, 4, "{day:%Y%m%d}_{band}.tif")).cube
    plain = cube.drop_vars(["sun_elevation", "sun_azimuth"])
    plain["clear"] = plain["clear"].astype(np.uint8)
    plain.to_zarr(tmp_path / "cube.zarr", consolidated=False)
    plain.to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    store, file = (open_scene(tmp_path / name).cube for name in ("cube.zarr", "cube.nc"))
    for band in ("red", "nir", "clear"):
        np.testing.assert_array_equal(store[band].to_numpy(), cube[band].to_numpy())
    xr.testing.assert_equal(store, file)
    assert store.attrs["crs"] == "EPSG:32648"
