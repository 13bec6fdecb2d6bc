"""Fields without polygons, and terraces that are seen only together."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr

from remote_sensing import LandError
from remote_sensing.segments import draw_fields, terrace_clusters


def cube(values):
    """(T, y, x) NDVI every 16 days from October 2018, 10 m."""
    times = np.datetime64("2018-10-02") + 16 * np.arange(values.shape[0])
    dims = ("time", "y", "x")
    return xr.Dataset(
        {
            "ndvi": (dims, np.round(values * 1e4).astype(np.int16)),
            "clear": (dims, np.ones(values.shape, bool)),
        },
        coords={
            "time": times.astype("datetime64[s]"),
            "y": 3_280_000.0 - 10 * np.arange(values.shape[1]) - 5,
            "x": 640_000.0 + 10 * np.arange(values.shape[2]) + 5,
        },
        attrs={"crs": "EPSG:32648"},
    )


@pytest.fixture(scope="module")
def quarters():
    """Four fields of 12 x 12 pixels (21.6 mu): two crops, weeds, forest; one pixel is not like its field."""
    t = np.arange(46)
    crop = 0.2 + 0.6 * (np.sin(t / 23 * 2 * np.pi) > 0.3)
    twice = 0.25 + 0.5 * (np.sin(t / 11.5 * 2 * np.pi) > 0)
    weeds, forest = np.full(46, 0.5), np.full(46, 0.85)
    values = np.empty((46, 24, 24))
    for curve, (r, c) in zip((crop, twice, weeds, forest), ((0, 0), (0, 12), (12, 0), (12, 12)), strict=True):
        values[:, r : r + 12, c : c + 12] = curve[:, None, None]
    values[:, 5, 5] = 0.5
    return cube(values + np.random.default_rng(0).normal(0, 0.01, values.shape))


def test_fields_are_drawn_along_what_years_showed(quarters):
    fields = draw_fields(quarters, min_mu=1.0)
    assert len(fields) == 4
    assert fields["parcel"].tolist() == [f"seg-{n:05d}" for n in range(1, 5)]
    np.testing.assert_allclose(fields["area_mu"], 144 * 100 / 666.67, rtol=0.1)


def test_nothing_smaller_than_the_mapping_unit_stands_alone(quarters):
    assert draw_fields(quarters, min_mu=30.0)["area_mu"].min() >= 30.0
    with pytest.raises(LandError, match="above 0"):
        draw_fields(quarters, min_mu=0)
    with pytest.raises(LandError, match="no whole crop year"):
        draw_fields(quarters.isel(time=slice(0, 10)))


def strips(count, width=6.0, gap=1.0, length=60.0):
    left = 640_020 + (width + gap) * np.arange(count)
    shapes = [shapely.box(x, 3_279_900, x + width, 3_279_900 + length) for x in left]
    return gpd.GeoDataFrame({"parcel": [f"t{n}" for n in range(count)]}, geometry=shapes, crs="EPSG:32648")


def test_narrow_terraces_are_seen_together_and_keep_their_names(quarters):
    field = shapely.box(640_150, 3_279_800, 640_220, 3_279_880)
    whole = gpd.GeoDataFrame({"parcel": ["big"]}, geometry=[field], crs="EPSG:32648")
    both = gpd.GeoDataFrame(np.concatenate([strips(8), whole]), columns=["parcel", "geometry"], crs="EPSG:32648")
    found = terrace_clusters(both, quarters)
    named = " ".join(found["members"]).split()
    assert len(found) >= 2
    assert len(named) == len(set(named))
    assert "big" not in named
    assert found["members"][0].startswith("t0 t1")


def test_a_lone_terrace_stays_unseen(quarters):
    assert len(terrace_clusters(strips(1), quarters)) == 0
    assert len(terrace_clusters(strips(2, gap=40.0), quarters)) == 0
