"""A whole day at the pond on a turned clock: the network goes at 22:00, the oxygen at 03:10, both come back by 07:00.

Everything is the real thing but the clock: the agent with its spool, rules and control, mosquitto, and the cloud's
ingest with its stores, rules and messages.
"""

import logging
import time
from datetime import UTC, datetime

import pytest
from turned_clock import SECRET, SteppedGateway, Times

from cloud.alarms import Alarms, AlarmStore
from cloud.settings import Settings as CloudSettings
from cloud.wiring import build_gathering, build_ingest, watched
from edge.drivers import Sample
from edge.farms import load_farm
from edge.rules import Sample as RuleSample
from edge.rules import explain, replay

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
MIDNIGHT = 1_795_276_800_000  # in China
START = MIDNIGHT - 16 * HOUR  # 08:00 of the day before
DO = "pond1/dissolved_oxygen"


class Aerator:
    """Notes when it is switched."""

    def __init__(self, times):
        self._times, self.switched = times, []

    def write(self, value):
        self.switched.append((self._times.wall, value))


def level(at):
    """Dissolved oxygen, mg/L: 9 h between 4 and 5 from 22:00, surfacing from 03:10 to 03:20."""
    if MIDNIGHT + 190 * MINUTE <= at < MIDNIGHT + 200 * MINUTE:
        return 1.9
    return 4.5 if MIDNIGHT - 2 * HOUR <= at < MIDNIGHT + 7 * HOUR else 6.4


class Farm(SteppedGateway):
    """The gateway of the pond, with its one series."""

    def __init__(self, folder, port, times):
        super().__init__(folder, times, port=port)
        self.aerator, self.sent = Aerator(times), []
        self.agent.add_output("aerator1", self.aerator)

    def minutes_until(self, end):
        """A sample at each full minute, and a second after it."""
        while (at := (self.times.wall // MINUTE + 1) * MINUTE) <= end:
            self.sent.append((at, level(at)))
            ahead = at - self.times.wall
            self.pass_ms(ahead, [Sample(DO, level(at), "mg/L", stamp=self.times.boot + ahead)])
            self.pass_ms(SECOND)


class Cloud:
    """Ingest with stores and alarms as they are wired for real."""

    def __init__(self, folder, port, times):
        self.gathering = build_gathering(CloudSettings(var=folder / "var", mqtt_port=port), lambda: times.wall)
        secret = SECRET.encode()
        self.gathering.registry.add_gateway("pond-1", farm="fish_pond", region="500108", secret=secret)
        self.store = AlarmStore(self.gathering.office.engine)
        someone = {"name": "Li", "kind": "log", "address": "li", "region": "500108", "severity": "warning"}
        self.store.add_receiver({**someone, "level": 0, "per_hour": 100}, lambda _: None)
        self.intake = build_ingest(self.gathering)
        self.intake.start()

    def rows(self):
        found = self.gathering.telemetry.samples("pond-1", [DO], START - HOUR, START + 30 * HOUR)
        # While the test waits for the cloud, the probe may fall silent, and the gateway says so.
        return [row for row in found if row[2] is not None]

    def alarms(self):
        board = Alarms(
            self.store,
            clock=self.gathering.office.clock,
            watched=lambda: watched(self.gathering.telemetry),
            covers=lambda region, granted: region in granted,
            inside=self.gathering.office.regions.codes_under,
            audit=self.gathering.office.accounts.audit,
        ).board()
        return {one.rule: one for one in board.items}

    def close(self):
        self.intake.stop()
        self.gathering.close()


@pytest.fixture
def times():
    return Times(START)


@pytest.fixture
def cloud(tmp_path, mosquitto_broker, times):
    cloud = Cloud(tmp_path, mosquitto_broker.port, times)
    yield cloud
    cloud.close()


@pytest.mark.timeout(240)
def test_the_gateway_acts_at_night_and_the_cloud_is_whole_in_the_morning_and_calls_nobody(
    tmp_path, mosquitto_broker, times, cloud, caplog
):
    caplog.set_level(logging.WARNING, "cloud.alarms")
    with Farm(tmp_path, mosquitto_broker.port, times) as farm:
        farm.minutes_until(MIDNIGHT - 2 * HOUR)
        catch_up(farm, cloud)
        mosquitto_broker.kill()
        farm.minutes_until(MIDNIGHT + 7 * HOUR)
        assert len(cloud.rows()) < len(farm.sent) - 500, "the cloud knows nothing of the night"
        on = [at for at, value in farm.aerator.switched if value == 1.0 and at > MIDNIGHT - 2 * HOUR]
        assert [clock_text(at) for at in on] == ["03:13"]
        mosquitto_broker.start()
        catch_up(farm, cloud)
        farm.minutes_until(MIDNIGHT + 8 * HOUR)
        catch_up(farm, cloud)
        sent = farm.sent
    assert [(at, value) for _, at, value in cloud.rows()] == sent, "each sample once, none lost"
    deadline = time.monotonic() + 20
    while not {"oxygen-surfacing", "oxygen-day"} <= set(cloud.alarms()) and time.monotonic() < deadline:
        time.sleep(0.2)
    found = cloud.alarms()
    surfacing = found["oxygen-surfacing"]
    assert (clock_text(surfacing.raised_ms), surfacing.historical) == ("03:13", True)
    assert found["oxygen-day"].historical
    rule = load_farm("fish_pond").rules["oxygen-day"]
    state, news = replay(rule, [RuleSample(*row) for row in cloud.rows()], MIDNIGHT + 7 * HOUR)
    assert explain(rule, state)["hours(do < 5, 24h)"] == pytest.approx(9.0, abs=1 / 60)
    assert [(one.kind, clock_text(one.at_ms)) for one in news] == [
        ("raised", clock_text(found["oxygen-day"].raised_ms))
    ]
    calls = [record.getMessage() for record in caplog.records if record.getMessage().startswith("to li")]
    assert not [text for text in calls if rule.texts["zh"] in text or surfacing.zh in text], "late alarms call nobody"


def catch_up(farm, cloud):
    """Let seconds pass until the cloud has confirmed all."""
    deadline = time.monotonic() + 60
    while len(cloud.rows()) < len(farm.sent) and time.monotonic() < deadline:
        farm.pass_ms(SECOND)
        time.sleep(0.05)
    assert len(cloud.rows()) == len(farm.sent)


def clock_text(at):
    """Local time of day."""
    return datetime.fromtimestamp(at / 1000 + 8 * 3600, UTC).strftime("%H:%M")
