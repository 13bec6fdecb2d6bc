import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as some
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine

from remote_sensing.cubes import LandError
from remote_sensing.parcels import MU_M2, checked, coverage, fuse

GRID = GeoBox((20, 20), Affine(10, 0, 1000, 0, -10, 2000), "EPSG:32648")


def rectangle(area_m2, ratio, centre, turn):
    long, short = np.sqrt(area_m2 * ratio), np.sqrt(area_m2 / ratio)
    box = shapely.box(-long / 2, -short / 2, long / 2, short / 2)
    return shapely.affinity.translate(shapely.affinity.rotate(box, turn), *centre)


def brute_force(shape):
    shares = np.zeros(400)
    for row in range(20):
        for column in range(20):
            square = shapely.box(1000 + 10 * column, 1990 - 10 * row, 1010 + 10 * column, 2000 - 10 * row)
            shares[row * 20 + column] = shape.intersection(square).area / 100
    return shares


@given(
    area=some.floats(50, 6000),
    ratio=some.floats(1, 8),
    x=some.floats(1000, 1200),
    y=some.floats(1800, 2000),
    turn=some.floats(0, 180),
)
@settings(max_examples=30, deadline=None)
def test_coverage_equals_brute_force_over_all_pixels(area, ratio, x, y, turn):
    shape = rectangle(area, ratio, (x, y), turn)
    cover = coverage(shape, GRID)
    got = np.zeros(400)
    got[cover.pixels] = cover.shares
    np.testing.assert_allclose(got, brute_force(shape), atol=1e-5)


@pytest.mark.parametrize("turn", [0, 17, 45, 80])
@pytest.mark.parametrize("shift", [(0, 0), (3, 4), (5, 5)])
def test_shape_decides_what_can_be_seen(turn, shift):
    centre = (1100 + shift[0], 1900 + shift[1])
    assert coverage(rectangle(80, 1.5, centre, turn), GRID).observability == "not_observable"
    assert coverage(rectangle(MU_M2, 8, centre, turn), GRID).observability == "not_observable"
    assert coverage(rectangle(5 * MU_M2, 1.5, centre, turn), GRID).observability == "observable"


def frame(shapes, crs="EPSG:32648", **columns):
    return gpd.GeoDataFrame({"parcel": [f"p{n}" for n in range(len(shapes))], **columns}, geometry=shapes, crs=crs)


@pytest.mark.parametrize(
    ("parcels", "code", "words"),
    [
        (frame([shapely.box(1000, 1900, 1050, 1950)], crs=None), "wrong_crs", "CRS"),
        (frame([shapely.box(5000, 1900, 5050, 1950)]), "outside", "p0"),
        (frame([shapely.Polygon([(1000, 1900), (1050, 1950), (1050, 1900), (1000, 1950)])]), "bad_polygon", "p0"),
        (frame([shapely.Point(1010, 1910)]), "bad_polygon", "p0"),
        (frame([shapely.box(1000, 1900, 1050, 1950)], datum=["GCJ-02"]), "wrong_crs", "GCJ-02"),
    ],
)
def test_polygons_that_cannot_be_used_are_refused_by_name(parcels, code, words):
    with pytest.raises(LandError, match=words) as refused:
        checked(parcels, GRID)
    assert refused.value.code == code


def test_fusion_listens_to_pure_pixels_more_than_to_borders():
    cover = coverage(shapely.box(1020, 1900, 1054, 1950), GRID)
    looks = np.zeros((1, 2, 400), np.float32)
    pure = cover.pixels[cover.shares >= 0.999]
    border = cover.pixels[cover.shares < 0.999]
    looks[0, 0, pure], looks[0, 1, border] = 1.0, 1.0
    fused = fuse(looks, cover)
    assert fused[0, 0] > 5 * fused[0, 1]
