"""A local STAC catalogue of small COGs goes through the same path as everything else."""

import datetime as dt

import numpy as np
import pystac
import pytest
import rasterio
from rasterio.transform import Affine

from remote_sensing import LandError
from remote_sensing.detection import judge_pixels
from remote_sensing.scenes import open_scene

pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")

PLACE = Affine(10, 0, 640_000, 0, -10, 3_280_000)


def write(path, values, crs="EPSG:32648"):
    with rasterio.open(
        path, "w", driver="COG", width=16, height=16, count=1, dtype=values.dtype, crs=crs, transform=PLACE
    ) as file:
        file.write(values, 1)


def catalogue(folder, dates=26, spoil=()):
    """Two years of fortnightly scenes: red, nir, scl; ``spoil`` number -> how."""
    made = pystac.Catalog("tests", "small scenes", href=str(folder / "catalog.json"))
    rng = np.random.default_rng(0)
    for n in range(dates):
        day = dt.datetime(2019, 10, 2, 3, 40, tzinfo=dt.UTC) + dt.timedelta(days=28 * n)
        item = pystac.Item(
            f"scene-{n:02d}",
            {"type": "Point", "coordinates": [106.45, 29.64]},
            [106.44, 29.63, 106.46, 29.65],
            day,
            {"view:sun_elevation": 30.0, "view:sun_azimuth": 90.0},
        )
        green = 0.5 + 0.3 * np.sin(n / 13 * 2 * np.pi)
        bands = {
            "red": np.full((16, 16), 3000 * (1 - green), np.int16) + rng.integers(0, 40, (16, 16)).astype(np.int16),
            "nir": np.full((16, 16), 3000 * (1 + green) / 2, np.int16),
            "scl": np.full((16, 16), 4, np.uint8),
        }
        for name, values in bands.items():
            path = folder / f"{n:02d}_{name}.tif"
            write(path, values, "EPSG:32633" if dict(spoil).get(n) == "crs" else "EPSG:32648")
            item.add_asset(name, pystac.Asset(str(path), media_type=pystac.MediaType.COG))
        if dict(spoil).get(n) == "truncated":
            (folder / f"{n:02d}_red.tif").write_bytes((folder / f"{n:02d}_red.tif").read_bytes()[:200])
        if dict(spoil).get(n) == "band":
            del item.assets["nir"]
        made.add_item(item)
    made.normalize_and_save(str(folder / "stac"), pystac.CatalogType.SELF_CONTAINED)
    return folder / "stac"


def test_a_catalogue_becomes_a_cube_that_equals_its_files(tmp_path):
    opened = open_scene(catalogue(tmp_path))
    assert opened.cube.sizes["time"] == 26
    with rasterio.open(tmp_path / "03_red.tif") as file:
        np.testing.assert_array_equal(opened.cube["red"][3].to_numpy(), file.read(1))
    assert judge_pixels(opened.cube).years == (2020, 2021)


def test_bad_scenes_are_left_out_and_listed_by_name_and_band(tmp_path):
    opened = open_scene(catalogue(tmp_path, spoil=((2, "truncated"), (5, "band"), (7, "crs"))))
    assert opened.cube.sizes["time"] == 23
    said = "\n".join(opened.notes)
    assert "scene-02: band red cannot be read" in said
    assert "scene-05: lacks band nir" in said
    assert "scene-07: band red has CRS EPSG:32633" in said


def test_hills_throw_their_shade_over_the_scenes_of_a_catalogue(tmp_path):
    ridge = np.zeros((16, 16), np.int16)
    ridge[:, 12] = 40
    write(tmp_path / "dem.tif", ridge)
    opened = open_scene(catalogue(tmp_path, dates=2), tmp_path / "dem.tif")
    clear = opened.cube["clear"][0].to_numpy()
    assert not clear[:, 6:12].any()
    assert clear[:, :6].all()
    assert clear[:, 12:].all()
    assert "cast shadow" in opened.notes[-1]


def test_a_catalogue_of_bad_scenes_only_is_refused(tmp_path):
    with pytest.raises(LandError, match="scene-00: band red"):
        open_scene(catalogue(tmp_path, dates=1, spoil=((0, "truncated"),)))
