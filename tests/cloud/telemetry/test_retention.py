import numpy as np
import pytest

from cloud.database import open_database
from cloud.problems import Invalid
from cloud.telemetry.duckdb_readings import DuckReadings
from cloud.telemetry.registry import Registry
from cloud.telemetry.retention import forget_old, parse_keep
from cloud.telemetry.store import Arrival, Points, columns

DAY = 86_400_000
NOW = 1_700_000_000_000


def test_classes_are_written_as_quantity_and_days():
    assert parse_keep("*=400  rssi=30") == {"*": 400, "rssi": 30}
    assert parse_keep("") == {}


@pytest.mark.parametrize("text", ["400", "*=", "=3", "ph=-1", "ph=0", "ph=many"])
def test_a_class_that_cannot_be_read_is_refused(text):
    with pytest.raises(Invalid):
        parse_keep(text)


def test_each_class_is_kept_for_its_time_and_the_rest_for_ever(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'cloud.db'}")
    registry = Registry(engine)
    registry.create()
    owner = registry.add_gateway("pond", farm="fish_pond", region="500108")
    ids = registry.ensure_series(owner, {"p1/ph": "pH", "p1/rssi.raw": "dBW", "p1/other": "1"})
    readings = DuckReadings(tmp_path / "readings.duckdb")
    ages = [1, 20, 40, 500]
    for name, one in ids.items():
        rows = columns([one.id] * 4, [NOW - age * DAY for age in ages], [float(age) for age in ages], [0] * 4)
        readings.append([Arrival(None, Points(*rows))])
        assert len(readings.range(np.array([one.id]), 0, NOW)) == 4, name
    assert forget_old(readings, registry, {"ph": 400, "rssi": 30}, NOW) == 3
    left = {name: len(readings.range(np.array([one.id]), 0, NOW)) for name, one in ids.items()}
    assert left == {"p1/ph": 3, "p1/rssi.raw": 2, "p1/other": 4}
    assert forget_old(readings, registry, {"ph": 400, "rssi": 30}, NOW) == 0
    assert len(readings.downsample(ids["p1/rssi.raw"].id, 0, NOW // DAY * DAY, DAY).n) >= 3
    readings.close()
    engine.dispose()
