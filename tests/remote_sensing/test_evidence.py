"""What goes into which window of the year, and what of it is kept."""

import numpy as np
import pytest

from remote_sensing import Calendar
from remote_sensing.cubes import MISSING, Stack, pack_values
from remote_sensing.evidence import gather
from remote_sensing.indices import layers_of, made_of

YEARS = (2018, 2019, 2020)


@pytest.fixture(scope="module")
def stack():
    """Three years, an optical look every five days and a radar one every six, a third of the looks missing."""
    rng = np.random.default_rng(3)
    begin, end = Calendar().start(YEARS[0]), Calendar().start(YEARS[-1] + 1)
    days, radar_days = np.arange(begin, end, 5, dtype=np.int32), np.arange(begin, end, 6, dtype=np.int32)
    ndvi = rng.integers(0, 9000, (days.size, 7)).astype(np.int16)
    vh = rng.integers(-2500, -1000, (radar_days.size, 7)).astype(np.int16)
    vh[rng.random(vh.shape) < 0.3] = MISSING
    return Stack(days, {"ndvi": ndvi}, rng.random(ndvi.shape) < 0.7, (1, 7), radar_days, {"vh": vh})


def window_of(days, year):
    """Which twelfth of crop year ``year`` each date lies in; outside -1. A leap year's last day is in the last."""
    inside = (days >= Calendar().start(year)) & (days < Calendar().start(year + 1))
    return np.where(inside, np.minimum((days - Calendar().start(year)) * 12 // 365.2425, 11), -1).astype(int)


@pytest.mark.parametrize("place", range(12))
def test_optical_windows_hold_medians_and_radar_windows_means(stack, place):
    seen = gather(stack, Calendar(), YEARS, ("ndvi", "vh"))
    green = np.where(stack.clear, stack.bands["ndvi"] * 1e-4, np.nan)
    back = np.where(stack.radar["vh"] != MISSING, (stack.radar["vh"] * 1e-2 + 30) / 30, np.nan)
    for at, year in enumerate(YEARS):
        for name, values, days, middle in (
            ("ndvi", green, stack.days, np.nanmedian),
            ("vh", back, stack.radar_days, np.nanmean),
        ):
            part = values[window_of(days, year) == place]
            known = np.isfinite(part).any(axis=0)
            got = seen.get(f"{name}.window{place + 1:02d}")[at]
            np.testing.assert_allclose(got[known], middle(part[:, known], axis=0), atol=1e-5)
            assert np.isnan(got[~known]).all()


@pytest.mark.parametrize("year", [2018, 2019, 2020])
def test_the_first_day_of_a_crop_year_lies_in_its_first_window_leap_years_or_not(stack, year):
    day = np.array([Calendar().start(year)], np.int32)
    one = Stack(day, {"ndvi": np.full((1, 1), 5000, np.int16)}, np.ones((1, 1), bool), (1, 1), day[:0], {})
    seen = gather(one, Calendar(), (year,), ("ndvi",))
    assert seen.get("ndvi.window01")[0, 0] == pytest.approx(0.5)
    assert np.isnan(seen.get("ndvi.window12")[0, 0])


def test_only_the_bands_that_the_layers_are_made_of_are_looked_at():
    rng = np.random.default_rng(1)
    days = (Calendar().start(2011) + 8 * np.arange(45)).astype(np.int32)
    bands = {name: rng.integers(300, 4000, (45, 30), dtype=np.int16) for name in ("red", "nir", "swir1", "swir2")}
    clear = rng.random((45, 30)) < 0.5
    small = Stack(days, bands, clear, (1, 30), np.zeros(0, np.int32), {})
    more = Stack(days, {**bands, "green": np.full((45, 30), MISSING, np.int16)}, clear, (1, 30), small.radar_days, {})
    assert made_of(("ndvi", "wetness"), more.bands) == (("nir", "red"), ("nir", "swir1"))
    assert made_of(("ndvi",), {**bands, "ndvi": bands["red"]}) == (("ndvi",),)
    few, many = (gather(stack, Calendar(), (2011,), ("ndvi", "wetness")).values for stack in (small, more))
    np.testing.assert_array_equal(few, many)


def test_a_computed_evi_is_the_same_as_a_delivered_one():
    rng = np.random.default_rng(2)
    days = (Calendar().start(2011) + 8 * np.arange(45)).astype(np.int32)
    bands = {name: rng.integers(300, 4000, (45, 30), dtype=np.int16) for name in ("red", "nir", "blue")}
    bands["nir"] += np.int16(4000)
    made = Stack(days, bands, rng.random((45, 30)) < 0.5, (1, 30), np.zeros(0, np.int32), {})
    evi = layers_of(Stack(days, bands, np.ones((45, 30), bool), (1, 30), made.radar_days, {}), ("evi",))[0]
    given = Stack(days, {**bands, "evi": pack_values(evi)}, made.clear, (1, 30), made.radar_days, {})
    one, other = (gather(stack, Calendar(), (2011,), ("ndvi", "evi")).values for stack in (made, given))
    np.testing.assert_array_equal(one, other)
    assert np.isfinite(one[4 + 25]).any()
