"""Clouds, cast shadow and misregistration: what may be believed of a date."""

import math

import numpy as np
import pytest
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine
from scipy import ndimage

from remote_sensing import LandError
from remote_sensing.masks import cast_shadow, clear_sky, heights_on, registration, shade_hidden

PLACE = Affine(10, 0, 640_000, 0, -10, 3_280_000)


def test_each_kind_of_mask_keeps_land_and_water_only():
    assert clear_sky(np.array([0, 3, 4, 5, 6, 8, 9, 11]), "scl").tolist() == [False] * 2 + [True] * 3 + [False] * 3
    assert clear_sky(np.array([0, 1, 2, 3, 4, 255]), "fmask").tolist() == [True, True] + [False] * 4
    # 21824: clear land, 21952: clear water, 22280: cloud, 23888: cloud shadow, 1: fill (USGS examples)
    assert clear_sky(np.array([21824, 21952, 22280, 23888, 1]), "qa_pixel").tolist() == [True, True] + [False] * 3
    with pytest.raises(LandError, match="known are"):
        clear_sky(np.zeros(1, np.uint8), "colour")


def at(height, row, column):
    """Bilinear height, None outside."""
    r, c = math.floor(row), math.floor(column)
    fr, fc = row - r, column - c
    total = 0.0
    for dr, wr in ((0, 1 - fr), (1, fr)):
        for dc, wc in ((0, 1 - fc), (1, fc)):
            if wr * wc == 0:
                continue
            if not (0 <= r + dr < height.shape[0] and 0 <= c + dc < height.shape[1]):
                return None
            total += wr * wc * height[r + dr, c + dc]
    return total


def brute_force(height, pixel, up, around):
    shade = np.zeros(height.shape, bool)
    north, east = math.cos(math.radians(around)), math.sin(math.radians(around))
    for row, column in np.ndindex(height.shape):
        for step in range(1, 40):
            seen = at(height, round(row - north * step, 9), round(column + east * step, 9))
            if seen is not None and seen - height[row, column] > step * pixel * math.tan(math.radians(up)):
                shade[row, column] = True
    return shade


@pytest.mark.parametrize(("up", "around"), [(35.0, 157.0), (20.0, 90.0), (50.0, 301.0), (12.0, 180.0)])
def test_cast_shadow_equals_a_walk_from_every_pixel(up, around):
    rough = np.random.default_rng(4).normal(0, 1, (18, 22))
    height = ndimage.gaussian_filter(rough, 1.5) * 90
    wanted = brute_force(height, 10.0, up, around)
    assert wanted.any()
    np.testing.assert_array_equal(cast_shadow(height, 10.0, up, around), wanted)


def test_a_wall_throws_its_shadow_away_from_the_sun():
    height = np.zeros((9, 21))
    height[:, 10] = 30.0
    shade = cast_shadow(height, 10.0, 46.0, 90.0)  # the sun stands in the east
    assert shade[4].nonzero()[0].tolist() == [8, 9]
    assert cast_shadow(height, 10.0, -3.0, 90.0).all()
    assert not cast_shadow(np.full((4, 4), np.nan), 10.0, 30.0, 90.0).any()
    with pytest.raises(LandError, match="deg up"):
        cast_shadow(height, 10.0, 120.0, 90.0)


def cube(bands, clear=None, **coords):
    shape = bands.shape
    clear = np.ones(shape, bool) if clear is None else clear
    times = np.datetime64("2020-01-01") + 5 * np.arange(shape[0])
    return xr.Dataset(
        {"nir": (("time", "y", "x"), bands), "clear": (("time", "y", "x"), clear)},
        coords={"time": times.astype("datetime64[s]"), **coords},
    )


def test_looks_in_the_shade_are_hidden_and_counted():
    height = np.zeros((3, 8))
    height[:, 6] = 30.0
    dates = cube(np.ones((2, 3, 8), np.int16), sun_elevation=("time", [46.0, np.nan]), sun_azimuth=("time", [90.0, 90]))
    hidden, notes = shade_hidden(dates, height, 10.0)
    assert hidden["clear"].sum(("y", "x")).values.tolist() == [24 - 6, 24]
    assert notes[0].startswith("6 looks")
    assert notes[1].startswith("1 dates")
    assert "no sun position" in shade_hidden(dates.drop_vars("sun_azimuth"), height, 10.0)[1][0]


def test_a_height_model_is_laid_on_the_grid_or_refused(tmp_path):
    grid = GeoBox((8, 8), PLACE, "EPSG:32648")
    kind = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "float32", "crs": "EPSG:32648"}
    with rasterio.open(tmp_path / "dem.tif", "w", transform=PLACE, **kind) as file:
        file.write(np.arange(64, dtype=np.float32).reshape(8, 8), 1)
    np.testing.assert_allclose(heights_on(tmp_path / "dem.tif", grid), np.arange(64).reshape(8, 8))
    far = GeoBox((8, 8), Affine(10, 0, 900_000, 0, -10, 3_280_000), "EPSG:32648")
    with pytest.raises(LandError, match="does not cover"):
        heights_on(tmp_path / "dem.tif", far)
    with pytest.raises(LandError, match="no such file"):
        heights_on(tmp_path / "none.tif", grid)


def test_the_shift_of_every_date_is_measured_to_a_tenth_of_a_pixel():
    rng = np.random.default_rng(1)
    ground = 3000 + 900 * ndimage.gaussian_filter(rng.normal(0, 1, (64, 64)), 2) / 0.14
    told = [(0, 0), (0, 0), (0.4, -0.3), (0, 0), (-0.7, 0.5), (0, 0), (0, 0)]
    bands = np.stack([ndimage.shift(ground, one, mode="reflect") for one in told]).astype(np.int16)
    clear = np.ones(bands.shape, bool)
    clear[2, :20, :20] = False
    clear[6] = False
    table = registration(cube(bands, clear))
    found = table[["shift_y_px", "shift_x_px"]].to_numpy()
    np.testing.assert_allclose(found[:6], told[:6], atol=0.1)
    assert np.isnan(found[6]).all()
    assert np.isnan(registration(cube(bands[:, :4, :4]))["shift_y_px"]).all()
