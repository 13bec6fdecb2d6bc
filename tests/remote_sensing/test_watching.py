"""The watch on disk: stopped and taken up again, fed in any order, it ends where batch ends."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr

from remote_sensing import Calendar, LandError
from remote_sensing.__main__ import main
from remote_sensing.detection import judge_pixels
from remote_sensing.monitor import ABANDONED
from remote_sensing.products import write_cube
from remote_sensing.states import Chain
from remote_sensing.watching import STATE_FILE, Farmland, open_area


@pytest.fixture(scope="module")
def cube():
    """Three crop years every 15 days over 2 x 6 pixels: three worked throughout, the rest left in the second."""
    crop = np.array([0.15, 0.15, 0.2, 0.3, 0.45, 0.6, 0.7, 0.76, 0.78, 0.76, 0.3, 0.16] * 2)
    weeds = 0.57 + 0.17 * np.sin(np.arange(24) / 24 * 2 * np.pi)
    days = np.concatenate([Calendar().start(2019 + y) + 15 * np.arange(24) + 2 for y in range(3)])
    fates = np.stack([np.concatenate([crop] * 3)] * 6 + [np.concatenate([crop, weeds, weeds])] * 6, axis=1)
    dims = ("time", "y", "x")
    values = np.round(fates * 1e4).astype(np.int16).reshape(72, 2, 6)
    return xr.Dataset(
        {"ndvi": (dims, values), "clear": (dims, np.ones(values.shape, bool))},
        coords={
            "time": days.astype("datetime64[D]").astype("datetime64[s]"),
            "y": 3_280_000.0 - 10 * np.arange(2),
            "x": 640_000.0 + 10 * np.arange(6),
        },
        attrs={"crs": "EPSG:32648", "synthetic": True},
    )


def fed(folder, parts):
    for part in parts:
        for _ in open_area(folder, part).feed(part):
            pass
    area = open_area(folder, parts[0])
    area.monitor.close_open_year()
    return area.monitor.posterior()


def test_scenes_late_replayed_and_between_restarts_end_where_batch_ends(tmp_path, cube):
    order = [slice(0, 20), slice(30, 40), slice(18, 31), slice(45, 60), slice(40, 47), slice(60, 72), slice(0, 3)]
    found = fed(tmp_path, [cube.isel(time=part) for part in order])
    wanted = judge_pixels(cube, chain=Chain.for_land(known_cropland=True))
    assert found.years == wanted.years == (2019, 2020, 2021)
    np.testing.assert_array_equal(found.decided, wanted.decided)
    np.testing.assert_allclose(found.states, wanted.states, atol=1 / 255)


def test_a_scene_stored_before_a_crash_is_taken_in_by_its_replay(tmp_path, cube):
    first, lost, rest = (cube.isel(time=part) for part in (slice(0, 5), slice(5, 6), slice(6, 12)))
    for part in (first, lost):
        before = (tmp_path / STATE_FILE).read_bytes() if (tmp_path / STATE_FILE).exists() else b""
        list(open_area(tmp_path, part).feed(part))
    (tmp_path / STATE_FILE).write_bytes(before)  # the scene is on disk, the state does not know it
    for part in (rest, lost):
        list(open_area(tmp_path, part).feed(part))
    straight = open_area(tmp_path / "straight", first)
    list(straight.feed(cube.isel(time=slice(0, 12))))
    np.testing.assert_array_equal(open_area(tmp_path, first).monitor.counters, straight.monitor.counters)


def test_damage_and_another_area_are_one_line(tmp_path, cube):
    two = cube.isel(time=slice(0, 2))
    list(open_area(tmp_path, two).feed(two))
    with pytest.raises(LandError, match="not the grid"):
        list(open_area(tmp_path, two).feed(two.isel(x=slice(0, 3))))
    with pytest.raises(LandError, match="another year's start"):
        open_area(tmp_path, two, Calendar(1, 1))
    (tmp_path / STATE_FILE).write_bytes((tmp_path / STATE_FILE).read_bytes()[:100])
    with pytest.raises(LandError, match="put back a copy"):
        open_area(tmp_path, two)


def test_the_command_takes_scenes_in_and_lists_what_it_refuses(tmp_path, capsys, cube):
    path = write_cube(cube.isel(time=slice(0, 4)), tmp_path / "week.nc")
    other = cube.isel(time=slice(3, 5)).copy(deep=True)
    other["ndvi"][0] += 5
    late = write_cube(other, tmp_path / "next.nc")
    state = str(tmp_path / "area")
    assert main(["monitor", str(path), "--state", state]) == 0
    said = capsys.readouterr().out
    assert "2018-10-03: taken in" in said
    assert "SYNTHETIC" in said
    assert main(["monitor", str(path), "--state", state]) == 0
    assert capsys.readouterr().out.count("already in") == 4
    assert main(["monitor", str(late), "--state", state]) == 0
    answer = capsys.readouterr()
    assert "another scene of this day" in answer.err
    assert "1 taken in" in answer.out
    assert (tmp_path / "area" / "alerts.tif").exists()


def test_the_command_says_how_many_bytes_a_late_scene_made_it_read_again(tmp_path, capsys, cube):
    for name, part in (("first", cube.isel(time=[0, 1, 3])), ("late", cube.isel(time=[2]))):
        assert main(["monitor", str(write_cube(part, tmp_path / f"{name}.nc")), "--state", str(tmp_path / "area")]) == 0
    late = capsys.readouterr().out.splitlines()[-3]
    pixels, scenes, bytes_each = 12, 4, 3
    assert f"crop year 2019, {pixels * scenes * bytes_each} bytes read again" in late


def fields():
    """Two fields of three pixels, one worked and one left, and a strip that no pixel lies in by half."""
    outlines = [(0, -5, 25, 5), (0, -15, 25, -5), (26, -15, 28, -5)]
    shapes = [
        shapely.box(640_000.0 + max(a, -5), 3_280_000.0 + b, 640_000.0 + c, 3_280_000.0 + d) for a, b, c, d in outlines
    ]
    return gpd.GeoDataFrame({"parcel": ["worked", "left", "strip"]}, geometry=shapes, crs="EPSG:32648")


def test_only_pixels_of_the_parcels_are_watched_and_each_parcel_has_its_counts(tmp_path, cube):
    area = open_area(tmp_path, cube)
    farmland = area.restrict(fields(), cube)
    assert [own.tolist() for own in farmland.pixels] == [[0, 1, 2], [6, 7, 8], []]
    left = np.arange(12) >= 6  # what would have been found of them
    area.monitor.settled, area.monitor.level = (np.where(left, ABANDONED, 0).astype(np.uint8) for _ in range(2))
    area.save()
    again = open_area(tmp_path, cube)
    levels = again.monitor.alerts()
    assert np.flatnonzero(levels).tolist() == [6, 7, 8], "9 to 11 are left too, but are nobody's field"
    assert again.counts() == {"none": 3, "watch": 0, "seasonal_idle": 0, "abandoned": 3}
    table = farmland.table(levels).set_index("parcel")
    assert table["level"].tolist() == ["none", "abandoned", "not_observable"]
    assert table.loc["left", ["pixels", "watch", "abandoned"]].tolist() == [3, 0, 3]


def test_a_parcel_has_the_level_that_half_of_its_pixels_reach():
    farmland = Farmland(("a", "b", "c"), (np.arange(4), np.arange(4, 8), np.arange(8, 10)))
    levels = np.array([0, 0, 2, 3, 1, 0, 0, 0, 3, 3], np.uint8)
    assert farmland.table(levels)["level"].tolist() == ["seasonal_idle", "none", "abandoned"]


def test_the_command_watches_parcels_and_refuses_those_that_hold_no_pixel(tmp_path, capsys, cube):
    path, state = str(write_cube(cube, tmp_path / "years.nc")), str(tmp_path / "area")
    fields().to_file(tmp_path / "fields.gpkg")
    assert main(["monitor", path, "--state", state, "--parcels", str(tmp_path / "fields.gpkg")]) == 0
    said = capsys.readouterr().out
    assert "parcels by level: none" in said
    assert "not_observable 1" in said
    assert (
        (tmp_path / "area" / "alerts.csv").read_text().startswith("parcel,pixels,watch,seasonal_idle,abandoned,level")
    )
    fields().iloc[2:].to_file(tmp_path / "strip.gpkg")
    assert main(["monitor", path, "--state", state, "--parcels", str(tmp_path / "strip.gpkg")]) == 2
    assert "no pixel lies in them" in capsys.readouterr().err
