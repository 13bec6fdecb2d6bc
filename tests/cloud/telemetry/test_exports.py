"""Exports in their threads: stopped, killed, side by side, over years without readings."""

import threading
import time

import numpy as np
import pytest
from processes import wait_until

from cloud import jobs
from cloud.database import open_database
from cloud.jobs import Jobs
from cloud.telemetry import Registry, TakeAway, Telemetry, take_away
from cloud.telemetry.duckdb_readings import DuckReadings
from cloud.telemetry.exports import write_readings
from cloud.telemetry.schemas import ExportWish
from cloud.telemetry.store import Arrival, Points, StoreUnavailable, columns

DAY = 86_400_000
NOW = 20_000 * DAY


class House:
    """One gateway with a reading a day, and who exports them."""

    def __init__(self, folder, days=1000):
        self.folder = folder
        self.engine = open_database(f"sqlite:///{folder / 'cloud.db'}")
        jobs.metadata.create_all(self.engine)
        registry = Registry(self.engine, clock=lambda: NOW)
        registry.create()
        self.pond = registry.add_gateway("pond", farm="fish_pond", region="500108")
        registry.add_gateway("barn", farm="pig_barn", region="500153")
        self.series = registry.ensure_series(self.pond, {"p1/ph": "pH"})["p1/ph"]
        self.readings = DuckReadings(None)
        at = NOW - DAY * np.arange(1, days + 1)
        points = Points(*columns([self.series.id] * days, at.tolist(), [7.0] * days, [0] * days))
        self.readings.append([Arrival(None, points, sender="pond")])
        self.audited = []
        telemetry = Telemetry(
            self.readings,
            registry,
            clock=lambda: NOW,
            covers=lambda one, granted: one in granted,
            audit=lambda *_: None,
        )
        self.jobs = Jobs(self.engine)
        self.exports = TakeAway(
            telemetry,
            self.readings,
            registry,
            self.jobs,
            folder / "exports",
            clock=lambda: NOW,
            audit=lambda _db, *what: self.audited.append(what),
            at_once=1,  # many pieces without many readings
        )

    def ask(self, who="u", days=1000, **more):
        wish = {"gateways": ["pond"], "start_ms": NOW - days * DAY, "end_ms": NOW, **more}
        return self.exports.ask(ExportWish.model_validate(wish), who).id

    def state(self, number, who="u"):
        return self.exports.get(number, who).state

    def working(self):
        stop = threading.Event()
        thread = threading.Thread(target=self.exports.work, args=(stop,), daemon=True)
        thread.start()

        def end():
            stop.set()
            thread.join(10)
            assert not thread.is_alive()

        return end

    def close(self):
        self.readings.close()
        self.engine.dispose()


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.close()


def test_an_export_that_a_stop_cuts_off_waits_and_is_written_at_the_next_start(house):
    number = house.ask()
    end = house.working()
    wait_until(lambda: house.exports.get(number, "u").readings > 0, "it never began")
    end()
    assert house.state(number) == "waiting"
    assert list((house.folder / "exports").iterdir()) == []
    assert house.jobs.lease("look", (take_away.KIND,)).attempts == 1  # the stop was no attempt
    end = house.working()
    wait_until(lambda: house.state(number) == "done", "it was not begun again", within_s=30)
    end()
    assert house.exports.get(number, "u").readings == 1000


def test_an_export_whose_process_was_killed_begins_again_at_the_next_start_and_not_after_its_lease(house):
    number = house.ask(days=20)
    house.jobs.lease("the dead", (take_away.KIND,))
    assert house.state(number) == "running"
    end = house.working()
    wait_until(lambda: house.state(number) == "done", "it stands where the dead left it", within_s=10)
    end()


def test_three_long_exports_of_one_person_do_not_hold_up_another_s_short_one(house):
    long = [house.ask() for _ in range(3)]
    end = house.working()
    wait_until(lambda: all(house.state(one) == "running" for one in long), "they do not run side by side")
    short = house.ask("v", days=10)
    wait_until(lambda: house.state(short, "v") == "done", "the short one waits")
    assert {house.state(one) for one in long} == {"running"}
    end()


def test_years_without_readings_are_not_looked_through(house, tmp_path):
    asked = []

    class Counted(DuckReadings):
        def range(self, *question, **more):
            asked.append(question)
            return super().range(*question, **more)

    readings = Counted(None)
    times = [3 * DAY + 5, 3 * DAY + 9, 7300 * DAY]
    readings.append([Arrival(None, Points(*columns([1, 1, 1], times, [1.0, 2.0, 3.0], [0, 0, 0])))])
    one = {1: house.series}
    shares = []
    step = lambda share, count: shares.append((share, count))  # noqa: E731
    assert write_readings(readings, one, (3 * DAY + 6, 7305 * DAY), tmp_path / "a.csv", step, at_once=1) == 2
    assert len(asked) == 2
    assert shares[-1] == (1.0, 2)
    readings.close()


def test_days_that_come_together_stand_by_day_series_and_time(house, tmp_path):
    readings = DuckReadings(None)
    rows = [(series, day * DAY + at) for series in (1, 2) for day in range(3) for at in (4, 5)]
    some, times = zip(*rows, strict=True)
    readings.append([Arrival(None, Points(*columns(some, times, [1.0] * 12, [0] * 12)))])
    names = {1: house.series, 2: house.series}
    write_readings(readings, names, (0, 9 * DAY), tmp_path / "a.csv", lambda *_: None, at_once=100)
    found = [int(line.split(",")[4]) for line in (tmp_path / "a.csv").read_text().splitlines()[1:]]
    assert found == [day * DAY + at for day in range(3) for _ in (1, 2) for at in (4, 5)]
    readings.close()


def test_who_audits_a_region_reads_which_of_its_gateways_were_taken_away(house):
    number = house.ask(gateways=["pond", "barn"])
    assert [(what[2], what[3]["gateways"], what[4]) for what in house.audited] == [
        (number, ["barn"], "500153"),
        (number, ["pond"], "500108"),
    ]
    house.audited.clear()
    house.ask(gateways=[], region="500108")
    assert [(what[3]["count"], what[4]) for what in house.audited] == [(1, "500108")]


def test_a_question_under_way_is_broken_off_when_the_store_closes_and_the_process_lives_on():
    readings, told, begun = DuckReadings(None), [], threading.Event()

    def ask():
        try:
            with readings._reading() as cursor:
                begun.set()
                cursor.execute("select count(*) from range(1000000000000) a(n) where n % 7 = 3").fetchall()
        except StoreUnavailable as why:
            told.append(str(why))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    begun.wait(5)
    time.sleep(0.3)
    readings.close()
    thread.join(5)
    assert told == ["the readings store is being closed"]
    with pytest.raises(StoreUnavailable):
        readings.range(np.array([1]), 0, 1)
