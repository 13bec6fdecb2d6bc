"""The registry's list of series: complete whoever added to it, and read once."""

import time

from cloud.database import open_database
from cloud.telemetry.registry import Registry


def registry(folder, **more):
    made = Registry(open_database(f"sqlite:///{folder / 'cloud.db'}"), clock=lambda: 7, **more)
    made.create()
    return made


def test_a_list_that_was_read_grows_by_what_another_process_registers(tmp_path):
    here, there = registry(tmp_path), registry(tmp_path)
    pond, field = (here.add_gateway(name, farm="fish_pond", region="500108") for name in ("pond", "field"))
    here.ensure_series(pond, {"b/ph": "pH"})
    assert [one.name for one in here.series()] == ["b/ph"]
    there.ensure_all([(pond, {"a/ph": "pH", "b/ph": "pH"}), (field, {"c/ph": "pH"})])
    assert [(one.gateway, one.name) for one in here.series()] == [("field", "c/ph"), ("pond", "a/ph"), ("pond", "b/ph")]
    assert [one.name for one in here.series(gateways=["pond"])] == ["a/ph", "b/ph"]
    assert {one.name for one in here.ensure_series(pond, {"a/ph": "pH", "b/ph": "pH"}).values()} == {"a/ph", "b/ph"}


def test_the_list_of_gateways_follows_what_another_process_changes(tmp_path):
    here, there = registry(tmp_path), registry(tmp_path)
    here.add_gateway("pond", farm="fish_pond", region="500108")
    before = here.gateways()
    assert here.gateways() == before
    there.change_gateway("pond", name="west pond")
    there.add_gateway("barn", farm="pig_house", region="500153")
    assert [(one.id, one.name) for one in here.gateways()] == [("barn", "barn"), ("pond", "west pond")]
    here.gateways().clear()  # the caller's own list
    assert len(here.gateways()) == 2


def test_a_gateway_that_another_process_changed_is_noticed_after_a_while(tmp_path):
    here, there = registry(tmp_path, remembered_s=0.4), registry(tmp_path)
    here.add_gateway("pond", farm="fish_pond", region="500108")
    there.change_gateway("pond", disabled_ms=5)
    assert here.known("pond").disabled_ms is None
    time.sleep(0.5)
    assert here.known("pond").disabled_ms == 5
    with there.engine.begin() as connection:
        connection.exec_driver_sql("alter table telemetry_gateway rename to away")
    assert here.known("pond").disabled_ms == 5


def test_many_gateways_get_their_series_at_once_each_within_its_quota(tmp_path):
    here = registry(tmp_path)
    owners = [here.add_gateway(f"g{n}", farm="fish_pond", region="500108") for n in range(3)]
    small = here.change_gateway("g1", max_series=1)
    here.ensure_all([(one, {"x/ph": "pH", "y/ph": "pH"}) for one in (owners[0], small, owners[2])])
    assert [(one.gateway, one.name) for one in here.series()] == [
        ("g0", "x/ph"),
        ("g0", "y/ph"),
        ("g1", "x/ph"),
        ("g2", "x/ph"),
        ("g2", "y/ph"),
    ]
