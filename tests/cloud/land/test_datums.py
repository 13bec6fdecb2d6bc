import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.land.datums import bd09_from_gcj02, gcj02_from_wgs84, to_wgs84
from cloud.problems import Invalid

in_china = st.tuples(st.floats(74.0, 134.0), st.floats(19.0, 52.0))


def metres(one, other):
    east = (one[0] - other[0]) * 111_320 * math.cos(math.radians(one[1]))
    return math.hypot(east, (one[1] - other[1]) * 111_320)


@given(place=in_china)
def test_a_shifted_position_comes_back_to_a_centimetre(place):
    drawn = gcj02_from_wgs84(*place)
    assert metres(to_wgs84(*drawn, "GCJ-02")[:2], place) < 0.01
    assert metres(to_wgs84(*bd09_from_gcj02(*drawn), "BD-09")[:2], place) < 0.01


@given(place=in_china)
def test_a_map_service_draws_a_place_50_to_900_metres_away(place):
    assert 50 < metres(gcj02_from_wgs84(*place), place) < 900


def test_the_shift_at_the_four_districts_is_what_was_measured():
    # Rongchang, Hechuan, Yunyang, Nan'an: 464, 471, 499 and 485 m in the domain reference (their exact spots differ).
    places = {(105.60, 29.41): 464, (106.28, 29.97): 471, (108.70, 30.93): 499, (106.56, 29.52): 485}
    for place, expected in places.items():
        assert metres(gcj02_from_wgs84(*place), place) == pytest.approx(expected, abs=12)


@pytest.mark.parametrize("name", ["WGS84", "wgs-84", "EPSG:4326", "CGCS2000", "EPSG:4490"])
def test_geodetic_positions_stay_as_they_are(name):
    assert to_wgs84(105.5, 29.4, name)[:2] == (105.5, 29.4)


@pytest.mark.parametrize("name", ["", "unknown", "mars", "EPSG:3857"])
def test_an_undeclared_datum_is_refused(name):
    with pytest.raises(Invalid) as no:
        to_wgs84(105.5, 29.4, name)
    assert no.value.code == "datum_unknown"


@pytest.mark.parametrize(
    ("lon", "lat"), [(0.0, 0.0), (181.0, 29.0), (105.0, 91.0), (math.nan, 29.0), (105.0, math.inf), (29.4e6, 1.0)]
)
def test_absurd_coordinates_are_refused(lon, lat):
    with pytest.raises(Invalid) as no:
        to_wgs84(lon, lat, "WGS84")
    assert no.value.code == "position_absurd"
