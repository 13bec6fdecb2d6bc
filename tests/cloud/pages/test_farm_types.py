"""Sensors are called by names people know, and those of strangers by what they are."""

import pytest

from cloud.pages.farm_types import DEFAULT_INTERVAL_MS, farm_type
from cloud.pages.words import Language
from edge.farms import farm_names


@pytest.mark.parametrize("name", farm_names())
def test_every_farm_type_has_names_and_intervals_for_all_its_sensors(name):
    kind = farm_type(name)
    assert kind.title(Language.ZH) != kind.title(Language.EN)
    for place, series in enumerate(kind.farm.series):
        assert kind.rank(series) == place
        assert kind.interval_ms(series) >= 1000
        assert kind.label(series, Language.ZH) != kind.label(series, Language.EN)


def test_a_sensor_that_no_file_names_is_called_by_its_quantity():
    kind = farm_type("fish_pond")
    assert kind.label("buoy/ph", Language.ZH) == "酸碱度 · buoy/ph"
    assert kind.label("buoy/mood", Language.EN) == "buoy/mood"
    assert kind.interval_ms("buoy/ph") == DEFAULT_INTERVAL_MS


def test_a_farm_type_of_somebodys_own_is_called_by_its_name():
    kind = farm_type("../silk worms")
    assert kind.title(Language.ZH) == "../silk worms"
    assert kind.rank("any/ph") == 0
