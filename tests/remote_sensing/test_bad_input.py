"""One bad scene, parcel or label is named and left out; what is left is judged all the same."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr

from remote_sensing import LandError
from remote_sensing.__main__ import main
from remote_sensing.labels import read_labels
from remote_sensing.scenes import read_dataset


def series(years=2, size=6):
    times = np.arange(np.datetime64("2019-09-25"), np.datetime64(f"{2019 + years}-10-05"), np.timedelta64(16, "D"))
    wave = 0.5 + 0.3 * np.sin(np.arange(times.size) / 23 * 2 * np.pi)
    values = np.round(np.tile(wave[:, None, None], (1, size, size)) * 1e4).astype(np.int16)
    coords = {
        "time": times.astype("datetime64[ns]"),
        "y": 3_280_000.0 - 10 * np.arange(size),
        "x": 640_000.0 + 10 * np.arange(size),
    }
    dims = ("time", "y", "x")
    return xr.Dataset({"ndvi": (dims, values)}, coords, {"crs": "EPSG:32648", "scale": "NDVI*10000"})


def redated(data, place, date):
    times = data["time"].to_numpy().copy()
    times[place] = np.datetime64(date)
    return data.assign_coords(time=times)


def test_a_copied_scene_counts_once():
    data = series()
    double = xr.concat([data, data.isel(time=[4])], "time")
    opened = read_dataset(double, "twice.nc")
    assert opened.cube.sizes["time"] == data.sizes["time"]
    assert "date 2019-11-28T00:00:00 is there 2 times, the same each time: one is kept" in opened.notes


def test_scenes_that_contradict_each_other_are_all_left_out():
    data = series()
    opened = read_dataset(redated(data, 5, "2019-11-28"), "odd.nc")
    assert opened.cube.sizes["time"] == data.sizes["time"] - 2
    assert any("left out date 2019-11-28T00:00:00: 2 scenes of it differ in ndvi" in note for note in opened.notes)


def test_an_absurd_date_and_an_absurd_scene_are_left_out_with_band_and_value():
    data = redated(series(), 0, "1900-01-01")
    data["ndvi"][7] = 30_000
    data["ndvi"][9, 0, 0] = 15_000
    opened = read_dataset(data, "absurd.nc")
    assert opened.cube.sizes["time"] == data.sizes["time"] - 1
    assert "left out date 1900-01-01T00:00:00: not the date of a satellite image" in opened.notes
    assert any("left out date 2020-01-15: band ndvi: value 30000" in note for note in opened.notes)
    assert any("1 absurd values set to missing, the first 15000 on 2020-02-16" in note for note in opened.notes)
    assert not opened.cube["clear"].sel(time="2020-01-15").any()


SOUND = shapely.box(640_000, 3_279_950, 640_050, 3_280_000)
BAD = {
    "crossed": (
        shapely.Polygon([(640_000, 3_279_960), (640_040, 3_280_000), (640_040, 3_279_960), (640_000, 3_280_000)]),
        "Self-inter",
    ),
    "far": (shapely.box(700_000, 3_279_950, 700_050, 3_280_000), "outside the cube"),
    "line": (shapely.LineString([(640_000, 3_279_960), (640_040, 3_280_000)]), "not a polygon"),
}


@pytest.fixture
def cube_file(tmp_path):
    series().to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    return tmp_path / "cube.nc"


def test_bad_parcels_are_named_and_the_others_judged(tmp_path, cube_file, capsys):
    names, shapes = ["good", *BAD], [SOUND, *(shape for shape, _ in BAD.values())]
    gpd.GeoDataFrame({"parcel": names}, geometry=shapes, crs="EPSG:32648").to_parquet(tmp_path / "fields.parquet")
    run = ["detect", str(cube_file), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*run, "--parcels", str(tmp_path / "fields.parquet")]) == 0
    said = capsys.readouterr().err
    for name, (_, words) in BAD.items():
        line = next(line for line in said.splitlines() if f"parcel {name}" in line)
        assert line.startswith("left out of fields.parquet: ")
        assert words in line
    assert gpd.read_parquet(tmp_path / "out" / "parcels.parquet")["parcel"].tolist() == ["good"]


def test_parcels_in_shifted_coordinates_are_refused_with_file_and_name(tmp_path, cube_file, capsys):
    frame = gpd.GeoDataFrame({"parcel": ["a"], "datum": ["GCJ-02"]}, geometry=[SOUND], crs="EPSG:32648")
    frame.to_file(tmp_path / "shifted.gpkg")
    run = ["detect", str(cube_file), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*run, "--parcels", str(tmp_path / "shifted.gpkg")]) == 2
    assert "shifted.gpkg: parcel a: GCJ-02 is shifted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label,from,row,col\nRice,2019-10-01,1,99\n", "labels.csv: line 2: row 1, col 99 is outside"),
        ("label,from,longitude,latitude\nRice,2019-10-01,0,0\n", "labels.csv: line 2"),
        ("label,from,row,col\nRice,2019-10-01,1,1\nRice,2019-10-01,x,1\n", "labels.csv: line 3: row 'x' is no number"),
        ("label,from,row,col\nRice,soon,1,1\n", "labels.csv: line 2: from 'soon' is no date"),
        ("label,from,row,col\nFluff,2019-10-01,1,1\n", "labels.csv: line 2: label 'Fluff'"),
        ("label,from,row\nRice,2019-10-01,1\n", "labels.csv: needs row and col"),
        ("label,from,row,col\n", "labels.csv: holds no labels"),
        ("", "labels.csv: cannot be read"),
    ],
)
def test_a_bad_label_is_named_with_its_line(tmp_path, text, words):
    (tmp_path / "labels.csv").write_text(text, "utf-8")
    with pytest.raises(LandError) as refused:
        read_labels(tmp_path / "labels.csv", read_dataset(series(), "cube").cube)
    assert words in str(refused.value)
