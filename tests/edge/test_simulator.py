"""A simulated farm is plausible, stays in the physical range, and is the same for the same seed."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.farms import FarmError, farm_names, load_farm, parse_farm
from edge.simulator import SimulatedFarm

SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = [
    1_795_276_800_000 + hour * 3_600_000 for hour in range(24)
]  # 2026-11-22 local midnight = 16:00 UTC the day before


def test_five_farm_types_ship_one_of_them_added_as_data_alone():
    assert farm_names() == ("citrus_orchard", "fish_pond", "layer_house", "pig_barn", "silkworm_room")


@pytest.mark.parametrize("name", farm_names())
def test_each_farm_names_its_series_in_both_languages_with_known_quantities(name):
    farm = load_farm(name)
    assert farm.zh
    assert farm.en.isascii()
    for series in farm.series.values():
        assert not series.zh.isascii()
        assert series.en
        assert series.unit


@given(
    seed=st.integers(0, 2**31),
    name=st.sampled_from(farm_names()),
    time_ms=st.integers(1_795_000_000_000, 1_900_000_000_000),
)
def test_values_are_possible_and_repeatable(seed, name, time_ms):
    farm = load_farm(name)
    one, other = SimulatedFarm(farm, seed, SHANGHAI), SimulatedFarm(farm, seed, SHANGHAI)
    for series in farm.series.values():
        value = one.value(series, time_ms)
        assert series.quantity.holds(value)
        assert value == other.value(series, time_ms)


def test_two_seeds_are_two_farms():
    farm = load_farm("fish_pond")
    oxygen = farm.series["pond1/dissolved_oxygen"]
    days = [[SimulatedFarm(farm, seed, SHANGHAI).value(oxygen, at) for at in DAY] for seed in (1, 2)]
    assert days[0] != days[1]


def test_pond_oxygen_is_lowest_before_dawn_and_highest_in_the_afternoon():
    farm = load_farm("fish_pond")
    pond = SimulatedFarm(farm, 4, SHANGHAI)
    hours = [pond.value(farm.series["pond1/dissolved_oxygen"], at) for at in DAY]
    assert hours.index(min(hours)) in range(7)
    assert hours.index(max(hours)) in range(12, 20)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("format = 3", "not tianmai-farm@1"),
        ("format = 'tianmai-farm@1'", "'series' is missing"),
        ("format = [", "not TOML"),
    ],
)
def test_a_wrong_farm_file_is_refused_with_its_name(text, says):
    with pytest.raises(FarmError, match=r"x\.toml") as caught:
        parse_farm(text, where="x.toml")
    assert says in str(caught.value)


def test_an_unknown_farm_type_names_those_there_are():
    with pytest.raises(FarmError, match="fish_pond"):
        load_farm("../secrets")
