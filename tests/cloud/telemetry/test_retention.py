import numpy as np
import pytest

from cloud.database import open_database
from cloud.problems import Invalid
from cloud.telemetry.duckdb_readings import DuckReadings
from cloud.telemetry.memory_readings import MemoryReadings
from cloud.telemetry.registry import Registry
from cloud.telemetry.retention import Keep, forget_old, parse_keep
from cloud.telemetry.store import Arrival, Points, columns

DAY, HOUR = 86_400_000, 3_600_000
NOW = 1_700_000_000_000


def test_classes_are_written_as_quantity_and_days():
    assert parse_keep("*=400  rssi=30", "ph=5") == Keep({"*": 400, "rssi": 30}, {"ph": 5})
    assert parse_keep("", "") is None


@pytest.mark.parametrize("text", ["400", "*=", "=3", "ph=-1", "ph=0", "ph=many"])
def test_a_class_that_cannot_be_read_is_refused(text):
    for both in ((text, ""), ("", text)):
        with pytest.raises(Invalid):
            parse_keep(*both)


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
    assert forget_old(readings, registry, Keep({"ph": 400, "rssi": 30}, {}), NOW) == 3
    left = {name: len(readings.range(np.array([one.id]), 0, NOW)) for name, one in ids.items()}
    assert left == {"p1/ph": 3, "p1/rssi.raw": 2, "p1/other": 4}
    assert forget_old(readings, registry, Keep({"ph": 400, "rssi": 30}, {}), NOW) == 0
    assert len(readings.downsample(ids["p1/rssi.raw"].id, 0, NOW // DAY * DAY, DAY).n) >= 3
    readings.close()
    engine.dispose()


def test_a_class_that_takes_too_much_room_loses_its_oldest_hours_and_the_file_shrinks(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'cloud.db'}")
    registry = Registry(engine)
    registry.create()
    owner = registry.add_gateway("pond", farm="fish_pond", region="500108")
    ph, rssi = (one.id for one in registry.ensure_series(owner, {"p1/ph": "pH", "p1/rssi": "dBW"}).values())
    readings = DuckReadings(tmp_path / "readings.duckdb")
    chance = np.random.default_rng(1)
    for hour in range(0, 200, 20):
        # Bulk that cannot be packed, so that the size of the file says something.
        at = np.sort(NOW + hour * HOUR + chance.integers(0, 20 * HOUR, 20_000))
        for one in (ph, rssi):
            rows = columns(np.full(len(at), one), at, chance.random(len(at)), np.zeros(len(at)))
            readings.append([Arrival(None, Points(*rows))])
    readings.compact()
    before, held = readings.health(), len(readings.range(np.array([rssi]), 0, 2**62))
    assert forget_old(readings, registry, Keep({}, {"rssi": before.bytes // 10**6 + 1}), NOW) == 0
    gone = forget_old(readings, registry, Keep({}, {"rssi": 2}), NOW)
    after, left = readings.health(), readings.range(np.array([rssi]), 0, 2**62)
    room = 2_000_000 * before.readings / before.bytes
    assert len(left) == held - gone
    assert 0.7 * room < len(left) <= 0.9 * room
    assert left.time_ms.max() > NOW + 199 * HOUR
    assert after.bytes < before.bytes
    assert len(readings.range(np.array([ph]), 0, 2**62)) == held
    assert forget_old(readings, registry, Keep({}, {"rssi": 2}), NOW) == 0
    assert forget_old(readings, registry, Keep({}, {"*": 1}), NOW) > 0, "ph is among all others"
    readings.close()
    engine.dispose()


def test_a_store_that_does_not_know_its_size_forgets_nothing_for_it(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'cloud.db'}")
    registry = Registry(engine)
    registry.create()
    owner = registry.add_gateway("pond", farm="fish_pond", region="500108")
    (ph,) = (one.id for one in registry.ensure_series(owner, {"p1/ph": "pH"}).values())
    readings = MemoryReadings()
    readings.append([Arrival(None, Points(*columns([ph], [NOW], [7.0], [0])))])
    assert forget_old(readings, registry, Keep({}, {"*": 1}), NOW) == 0
    engine.dispose()
