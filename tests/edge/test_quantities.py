"""A table is where a wrong unit hides longest, so each row is looked at."""

import re

import pytest

from edge.quantities import QUANTITIES, quantity_of

# SenML registry names and UCUM codes in use; a new unit must be looked up and added here on purpose.
SENML = {"Cel", "%RH", "Pa", "ppm", "lx", "W/m2", "h", "m/s", "deg", "mm", "mm/h", "/", "S/m", "pH", "NTU", "m", "m3"}
SENML |= {"kg", "count", "V", "%EL", "A", "dBW", "dB"}
UCUM = {"umol/m2/s", "mg/L", "mg/kg", "%", "1"}


@pytest.mark.parametrize("row", QUANTITIES.values(), ids=lambda row: row.name)
def test_each_quantity_has_a_registered_unit_a_range_and_two_names(row):
    assert row.unit in SENML | UCUM
    assert row.low < row.high
    assert re.fullmatch(r"[a-z][a-z0-9_]*", row.name)
    assert row.zh
    assert row.en
    assert not row.zh.isascii()
    assert not row.holds(float("nan"))


@pytest.mark.parametrize(
    ("name", "possible", "impossible"),
    [
        ("air_temperature", 41.5, -327.68),
        ("soil_nitrogen", 140.0, 58428.0),
        ("dissolved_oxygen", 8.2, 820.0),
        ("soil_moisture", 0.38, 38.0),
        ("relative_humidity", 100.0, 100.1),
    ],
)
def test_sentinels_and_confused_units_fall_outside_the_range(name, possible, impossible):
    assert QUANTITIES[name].holds(possible)
    assert not QUANTITIES[name].holds(impossible)


def test_a_series_and_its_variants_share_the_row():
    assert quantity_of("pond1/dissolved_oxygen") is QUANTITIES["dissolved_oxygen"]
    assert quantity_of("soil3/soil_moisture.raw") is QUANTITIES["soil_moisture"]
    assert quantity_of("soil3/eggs") is None
