"""The real rasters run through as they are; the figures are printed, whatever they are."""

import re

import pytest
import rasterio

from remote_sensing.__main__ import main


def one(folder, pattern):
    files = sorted((folder / "remote_sensing").glob(pattern))
    if not files:
        pytest.skip(f"no {pattern} among the shared data")
    return files[0]


def test_modis_runs_through_and_prints_the_yearly_accuracy(shared_data, tmp_path, capsys):
    raster, labels = one(shared_data, "modis_mt*.nc"), one(shared_data, "modis_mt*_labels.csv")
    assert main(["detect", str(raster), "--out", str(tmp_path), "--labels", str(labels), "--quiet"]) == 0
    said = capsys.readouterr().out
    accuracy = float(re.search(r"accuracy: (\d\.\d+)", said)[1])
    assert 0.5 < accuracy <= 1
    with rasterio.open(tmp_path / "state.tif") as picture:
        assert picture.count >= 5
    assert (tmp_path / "parcels.geojson").exists()


def test_sentinel_2_of_slovenia_runs_through(shared_data, tmp_path, capsys):
    raster = one(shared_data, "s2_slovenia*.nc")
    assert main(["detect", str(raster), "--out", str(tmp_path), "--profile", "one_year", "--quiet"]) == 0
    assert "crop years 2016..2017" in capsys.readouterr().out
    with rasterio.open(tmp_path / "abandoned.tif") as picture:
        assert picture.crs.to_epsg() == 32633
        assert picture.tags()["accuracy"].startswith("not validated")


def test_a_landsat_row_without_a_crs_runs_through(shared_data, tmp_path):
    raster = one(shared_data, "landsat_p013r030*.nc")
    assert main(["detect", str(raster), "--out", str(tmp_path), "--quiet"]) == 0
    assert (tmp_path / "maps.zarr").is_dir()
