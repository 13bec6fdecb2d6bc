"""Bad input: one clear line that names file, band and value; and exit 2 on the command line."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
import shapely
import xarray as xr

from remote_sensing import products
from remote_sensing.__main__ import main
from remote_sensing.cubes import LandError
from remote_sensing.scenes import open_scene, read_dataset


def series(years=2, size=4, **attrs):
    times = np.arange(np.datetime64("2019-09-25"), np.datetime64(f"{2019 + years}-10-05"), np.timedelta64(16, "D"))
    wave = 0.5 + 0.3 * np.sin(np.arange(times.size) / 23 * 2 * np.pi)
    values = np.round(np.tile(wave[:, None, None], (1, size, size)) * 1e4).astype(np.int16)
    return xr.Dataset(
        {"ndvi": (("time", "y", "x"), values)},
        coords={
            "time": times.astype("datetime64[ns]"),
            "y": 3_280_000.0 - 10 * np.arange(size),
            "x": 640_000.0 + 10 * np.arange(size),
        },
        attrs={"crs": "EPSG:32648", "scale": "NDVI*10000", **attrs},
    )


def saved(tmp_path, data, name="cube.nc"):
    data.to_netcdf(tmp_path / name, engine="h5netcdf")
    return tmp_path / name


def test_integers_with_a_scale_told_in_words_are_read(tmp_path):
    cube = open_scene(saved(tmp_path, series())).cube
    assert cube["ndvi"].dtype == np.int16
    assert 1900 < int(cube["ndvi"].max()) <= 8000
    assert bool(cube["clear"].all())


def test_floats_lat_lon_names_and_unsorted_dates_are_read():
    data = series().rename({"y": "lat", "x": "lon"}).isel(time=slice(None, None, -1))
    data["ndvi"] = data["ndvi"] * 1e-4
    cube = read_dataset(data, "floats").cube
    assert cube.sizes["y"] == 4
    assert (np.diff(cube["time"].to_numpy()) > np.timedelta64(0)).all()


def test_a_dead_mask_value_is_not_a_look():
    data = series()
    data["fmask"] = (("time", "y", "x"), np.zeros(data["ndvi"].shape, np.uint8))
    data["fmask"][3, 1, 1] = 4
    cube = read_dataset(data, "masked").cube
    assert int((~cube["clear"]).sum()) == 1


def spoiled(kind):
    data = series()
    if kind == "absurd":
        data["ndvi"] = data["ndvi"] + np.int16(20000)
    elif kind == "zeros":
        data["ndvi"] = data["ndvi"] * np.int16(0)
    elif kind == "bands":
        data = data.rename({"ndvi": "temperature"})
    elif kind == "crs":
        data.attrs["crs"] = "EPSG:99999999"
    elif kind == "fill":
        data["ndvi"] = xr.full_like(data["ndvi"], -9999)
    elif kind == "time":
        data = data.rename({"time": "wavelength"}).drop_vars("wavelength")
    elif kind == "foo":
        data = data.rename({"y": "foo"})
    elif kind == "dateless":
        data = data.isel(time=[])
    return data


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("absurd", "absurd_values", "band ndvi: value"),
        ("zeros", "absurd_values", "value 0"),
        ("bands", "missing_band", "temperature"),
        ("crs", "wrong_crs", "99999999"),
        ("fill", "absurd_values", "-9999"),
        ("time", "bad_dims", "no time"),
        ("foo", "bad_dims", "band ndvi has a dim 'foo'"),
        ("dateless", "no_dates", "dim 'time' is empty"),
    ],
)
def test_what_cannot_be_used_is_named_and_ends_with_exit_2(tmp_path, capsys, kind, code, words):
    path = saved(tmp_path, spoiled(kind), f"{kind}.nc")
    with pytest.raises(LandError) as refused:
        open_scene(path)
    assert refused.value.code == code
    assert main(["detect", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ")
    assert "\n" not in line
    assert words in line
    assert path.name in line


def test_a_corner_that_is_not_a_number_is_one_line_that_names_the_parcel(tmp_path, capsys):
    source, parcels = saved(tmp_path, series()), tmp_path / "odd.geojson"
    ring = "[[NaN,29.6],[106.5,29.6],[106.5,29.7],[NaN,29.6]]"
    shape = '{"type":"Polygon","coordinates":[' + ring + "]}"
    feature = '{"type":"Feature","properties":{"parcel":"p7"},"geometry":' + shape + "}"
    parcels.write_text('{"type":"FeatureCollection","features":[' + feature + "]}", "utf-8")
    assert main(["detect", str(source), "--parcels", str(parcels), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert told == ["error: odd.geojson: parcel p7: not a polygon"]


def test_a_table_without_polygons_is_one_line(tmp_path, capsys):
    source, table = saved(tmp_path, series()), tmp_path / "sheet.csv"
    table.write_text("parcel,reference\na,\n", "utf-8")
    assert main(["detect", str(source), "--parcels", str(table), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert told == ["error: sheet.csv: a table without polygons; give GeoJSON, GeoPackage or GeoParquet"]


def test_a_truncated_file_is_one_line(tmp_path, capsys):
    path = saved(tmp_path, series())
    path.write_bytes(path.read_bytes()[:3000])
    assert main(["detect", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "cube.nc: cannot be read" in capsys.readouterr().err


def test_detect_writes_maps_and_parcels(tmp_path, capsys):
    path = saved(tmp_path, series(years=3, size=40))
    shapes = [shapely.box(640_010, 3_279_800, 640_110, 3_279_900)]
    gpd.GeoDataFrame({"parcel": ["a"]}, geometry=shapes, crs="EPSG:32648").to_file(tmp_path / "p.gpkg")
    out = tmp_path / "out"
    assert main(["detect", str(path), "--out", str(out), "--parcels", str(tmp_path / "p.gpkg"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "not validated" in said
    for name in ("state.tif", "abandoned.tif", "maps.zarr", "parcels.geojson", "parcels.parquet", "quicklook.png"):
        assert (out / name).exists()
    assert gpd.read_file(out / "parcels.gpkg")["accuracy"].iloc[0].startswith("not validated")
    item = pystac.Item.from_file(str(out / "item.json"))
    assert item.properties["tianmai:accuracy"].startswith("not validated")
    assert {"state", "abandoned", "parcels.gpkg", "state.qml", "parcels.qml"} <= set(item.assets)
    with rasterio.open(out / "state_now.tif") as file:
        assert file.colormap(1)[3] == products.COLOURS[3]
        assert file.overviews(1) or max(file.shape) <= 256
    assert gpd.read_parquet(out / "parcels.parquet")["parcel"].tolist() == ["a"]


def test_simulate_writes_a_scene_that_detect_can_read(tmp_path, capsys):
    out = tmp_path / "s"
    assert main(["simulate", "--out", str(out), "--size", "48", "--years", "3", "--parcels", "30"]) == 0
    assert "SYNTHETIC" in capsys.readouterr().out
    done = main(
        [
            "detect",
            str(out / "synthetic_cube.nc"),
            "--parcels",
            str(out / "synthetic_parcels.geojson"),
            "--out",
            str(out / "found"),
            "--quiet",
        ]
    )
    assert done == 0
    assert "SYNTHETIC" in capsys.readouterr().out
    parcels, sheet = str(out / "found" / "parcels.geojson"), str(tmp_path / "sheet.csv")
    assert main(["sample", parcels, "--out", sheet]) == 0
    capsys.readouterr()
    assert main(["evaluate", parcels, "--sample", sheet]) == 2
    assert "without a reference, the first " in capsys.readouterr().err
    pd.read_csv(sheet).assign(reference="abandonned").to_csv(sheet, index=False)
    assert main(["evaluate", parcels, "--sample", sheet]) == 2
    assert "reference 'abandonned'; known are cultivated" in capsys.readouterr().err
    judged = gpd.read_file(parcels).set_index("parcel")["class_name"]
    table = pd.read_csv(sheet)
    table.assign(reference=table["parcel"].map(judged)).to_csv(sheet, index=False)
    capsys.readouterr()
    assert main(["evaluate", parcels, "--sample", sheet]) == 0
    said = capsys.readouterr().out
    assert "overall accuracy 1.000" in said
    assert "calibration of P(abandoned), block 1 from the south" in said


def test_a_map_class_that_nobody_visited_is_said_and_not_dropped(tmp_path, capsys):
    names = ["cultivated"] * 3 + ["abandoned"] * 2
    chances = [json.dumps({"abandoned": float(name == "abandoned")}) for name in names]
    shapes = [shapely.box(n, 0, n + 1, 1) for n in range(5)]
    frame = gpd.GeoDataFrame(
        {
            "parcel": list("abcde"),
            "class_name": names,
            "area_m2": 1.0,
            "probabilities": chances,
        },
        geometry=shapes,
        crs="EPSG:4326",
    )
    frame.to_parquet(tmp_path / "p.parquet")
    sheet = pd.DataFrame({"parcel": ["a", "b"], "reference": ["cultivated", "abandoned"]})
    sheet.to_csv(tmp_path / "sheet.csv", index=False)
    assert main(["evaluate", str(tmp_path / "p.parquet"), "--sample", str(tmp_path / "sheet.csv")]) == 0
    said = capsys.readouterr().out
    assert "abandoned: no sample among 2 parcels: the figures are of the other 3 alone" in said
    assert "block 1 from the south, 3 from the west: error 1.000 over 1 parcels" in said
