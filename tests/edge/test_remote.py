"""Settings from afar: tried on probation, kept if all goes as well as before, else gone."""

import contextlib
import os
import signal
import time

import pytest
from processes import Child, console

from edge import EdgeError
from edge.drivers import DriverHealth
from edge.loopback import LoopbackCloud
from edge.remote import Slots
from edge.settings import SettingsError, load_settings
from edge.wire import Applied, Kind, Status, Topic, Wanted

SECRET = b"0123456789abcdef0123456789abcdef"
BODY = {"driver": [{"kind": "simulator", "seed": 9}]}
PROBATION = 600_000
FINE, DEAD = DriverHealth(ok=100), DriverHealth(failed=100)


def accept(_body):
    """Any settings will do."""


def refuse(_body):
    raise EdgeError("bad_settings", "no such driver 'x'")


def slots(folder, check=accept):
    return Slots(folder / "config.z", "pond-1", SECRET, check=check, probation_ms=PROBATION)


def wanted(revision, body=BODY, gateway="pond-1", secret=SECRET):
    return Wanted(gateway, revision, body).sign(secret)


def state(one):
    told = one.applied(0)
    return (told.outcome, told.effective) if told else None


def trial(folder, revision=1, before=FINE, watermark=50):
    """Slots as they are after the restart that begins a trial."""
    first = slots(folder)
    first.begin()
    assert first.receive(wanted(revision), {"bus": before}, watermark)
    first.left()
    again = slots(folder)
    again.begin()
    return again


def test_a_trial_as_good_as_before_is_kept_after_ten_minutes_and_over_restarts(tmp_path):
    one = trial(tmp_path)
    assert (state(one), one.body, one.untold) == (("trial", 1), BODY, True)
    assert not one.judge(5, {"bus": FINE}, 50)
    assert not one.judge(5 + PROBATION - 1, {"bus": DEAD}, 50)
    assert state(one) == ("trial", 1)
    assert not one.judge(5 + PROBATION, {"bus": FINE}, 51)
    again = slots(tmp_path)
    again.begin()
    assert (state(again), again.body) == (("kept", 1), BODY)


@pytest.mark.parametrize(
    ("before", "after", "watermark", "reason"),
    [
        ({"bus": FINE}, {"bus": DEAD}, 51, "driver 'bus'"),
        ({"bus": FINE}, {"bus": DriverHealth(80, 20)}, 51, "driver 'bus'"),
        ({"bus": FINE}, {"new": DEAD}, 51, "driver 'new'"),
        ({"bus": FINE}, {"bus": FINE}, 50, "watermark"),
        ({"bus": DEAD}, {"bus": DEAD}, 51, None),
        ({"bus": FINE}, {"wand": DriverHealth()}, 51, None),
        ({"bus": FINE}, {}, 51, None),
    ],
)
def test_only_what_does_no_worse_stays(tmp_path, before, after, watermark, reason):
    first = slots(tmp_path)
    first.receive(wanted(1), before, 50)
    again = slots(tmp_path)
    again.begin()
    again.judge(0, after, 50)
    assert again.judge(PROBATION, after, watermark) is (reason is not None)
    assert state(again) == (("kept", 1) if reason is None else ("rolled_back", 0))
    assert again.body == (BODY if reason is None else {})
    assert reason is None or reason in again.applied(0).reason


def test_a_restart_in_order_goes_on_with_the_trial_and_counts_its_time_anew(tmp_path):
    one = trial(tmp_path)
    one.judge(0, {"bus": FINE}, 51)
    one.left()
    again = slots(tmp_path)
    again.begin()
    again.judge(PROBATION, {"bus": FINE}, 51)
    assert state(again) == ("trial", 1)
    again.judge(2 * PROBATION, {"bus": FINE}, 51)
    assert state(again) == ("kept", 1)


def test_what_ends_the_agent_out_of_order_is_rolled_back_at_the_next_start_to_what_was_kept(tmp_path):
    one = trial(tmp_path)
    one.judge(0, {}, 51)
    one.judge(PROBATION, {}, 51)
    assert state(one) == ("kept", 1)
    assert one.receive(wanted(2, {"driver": []}), {}, 51)
    started = slots(tmp_path)
    started.begin()
    assert started.body == {"driver": []}
    killed = slots(tmp_path)
    killed.begin()
    assert (state(killed), killed.body) == (("rolled_back", 1), BODY)
    assert killed.untold
    killed.told()
    assert not slots(tmp_path).untold


def test_what_cannot_be_built_is_rolled_back_at_once_first_the_trial_then_the_kept(tmp_path):
    one = trial(tmp_path)
    assert one.failed("boom")
    assert (state(one), one.body) == (("rolled_back", 0), {})
    assert not one.failed("the farm's own file is wrong")
    kept = trial(tmp_path, revision=2)
    kept.judge(0, {}, 51)
    kept.judge(PROBATION, {}, 51)
    assert kept.failed("the farm changed")
    assert (state(kept), kept.body) == (("rolled_back", 0), {})


def test_forged_foreign_replayed_and_old_configurations_are_ignored_and_bad_ones_refused(tmp_path):
    one = slots(tmp_path)
    for payload in (b"{", wanted(1, secret=b"x" * 32), wanted(1, gateway="pond-2")):
        assert not one.receive(payload, {}, 0)
    assert state(one) is None
    assert one.receive(wanted(5), {}, 0)
    assert not one.receive(wanted(5), {}, 0)
    assert not one.receive(wanted(4), {}, 0)
    bad = slots(tmp_path, refuse)
    bad.begin()
    assert not bad.receive(wanted(6), {}, 0)
    assert (state(bad), bad.body) == (("refused", 5), BODY), "a refused one leaves the trial alone"
    assert "no such driver" in bad.applied(0).reason


def test_where_it_cannot_be_written_down_nothing_is_tried(tmp_path):
    one = Slots(tmp_path / "no" / "config.z", "pond-1", SECRET, check=accept)
    assert not one.receive(wanted(1), {}, 0)
    assert (state(one), one.body) == (("refused", 0), {})


def test_a_damaged_file_leaves_the_farms_own_settings(tmp_path):
    trial(tmp_path)
    (tmp_path / "config.z").write_bytes(b"garbage")
    assert slots(tmp_path).body == {}


# -- the settings themselves ------------------------------------------------------------------------------------


def write_settings(folder, port=1883, probation_s=2):
    (folder / "secret").write_bytes(SECRET)
    path = folder / "gateway.toml"
    path.write_text(f"""
[gateway]
id = "pond-1"
farm = "fish_pond"
secret_file = "secret"
status_s = 0.3
probation_s = {probation_s}
[uplink]
url = "mqtt://127.0.0.1:{port}"
backoff_s = 1.0
[spool]
dir = "spool"
pack_age_s = 0.3
[[driver]]
kind = "simulator"
speed = 400
[[driver]]
kind = "exec"
name = "own"
command = ["true"]
""")
    return path


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"uplink": {"url": "mqtt://elsewhere"}}, "'uplink'"),
        ({"spool": {"cap_mb": 1}}, "'spool'"),
        ({"gateway": {"id": "pond-2"}}, "'id'"),
        ({"gateway": {"secret_file": "x"}}, "'secret_file'"),
        ({"gateway": 5}, "table"),
        ({"driver": 5}, "driver"),
        ({"driver": [{"kind": "exec", "command": ["rm"]}]}, "own file"),
        ({"output": [{"kind": "exec", "actuator": "aerator1", "command": ["rm"]}]}, "own file"),
        ({"gateway": {"farm": "whale"}}, "whale"),
    ],
)
def test_identity_uplink_spool_and_new_programs_cannot_be_set_from_afar(tmp_path, body, says):
    with pytest.raises(SettingsError, match=says) as refused:
        load_settings(write_settings(tmp_path), body)
    assert len(str(refused.value).splitlines()) == 1


def test_what_is_wanted_takes_the_place_of_the_files_tables(tmp_path):
    own = {"kind": "exec", "name": "own", "command": ["true"]}
    body = {"gateway": {"farm": "pig_barn"}, "driver": [own], "page": {"pin": "2468"}}
    settings = load_settings(write_settings(tmp_path), body)
    assert (settings.gateway, settings.farm.name, settings.status_s) == ("pond-1", "pig_barn", 0.3)
    assert [row.kind for row in settings.drivers] == ["exec"]
    assert settings.page is not None


# -- the whole gateway --------------------------------------------------------------------------------------------


class Applications:
    """What a gateway said on its topic for applied configurations."""

    def __init__(self, cloud):
        self._cloud = cloud

    def events(self):
        return [
            (event.body["revision"], event.body["outcome"]) for _, event in self._cloud.events if event.kind == "config"
        ]

    def wait(self, revision, outcome, within_s=25):
        return self._cloud.wait(lambda _: (revision, outcome) in self.events(), within_s)


def test_a_gateway_tries_keeps_rolls_back_and_survives_a_configuration_that_kills_it(tmp_path, mosquitto_broker):
    path, cloud = write_settings(tmp_path, mosquitto_broker.port), LoopbackCloud("127.0.0.1", mosquitto_broker.port)
    said, ask = Applications(cloud), Topic("pond-1", Kind.CONFIG_WANTED)

    def body():
        return Status.verify(cloud.statuses["pond-1"], SECRET).body

    good = {"driver": [{"kind": "simulator", "name": "second", "speed": 400}]}
    silent = {"driver": [{"kind": "modbus", "name": "bus", "host": "127.0.0.1", "tcp_port": 1, "device": [
        {"name": "soil9", "profile": "soil-7in1-a", "interval_s": 1}]}]}  # fmt: skip
    deadly = {"page": {"listen": "203.0.113.9:8088", "pin": "2468"}}  # not an address of this machine
    with Child([console("tianmai-edge"), "run", "--config", path], log=tmp_path / "edge.log") as gateway:
        assert cloud.wait(lambda c: len(c.readings) > 20, 20)
        cloud.publish(ask, wanted(1, {"driver": [{"kind": "stimulator"}]}), retain=True)
        assert said.wait(1, "refused")
        cloud.publish(ask, wanted(2, good), retain=True)
        assert said.wait(2, "trial")
        assert said.wait(2, "kept")
        assert cloud.wait(lambda _: "second" in body().get("drivers", ()) and body()["config"] == 2, 10)
        cloud.publish(ask, wanted(3, silent), retain=True)
        assert said.wait(3, "rolled_back")
        assert cloud.wait(lambda _: "second" in body().get("drivers", ()), 10)
        cloud.publish(ask, wanted(4, deadly), retain=True)
        deadline = time.monotonic() + 20
        while gateway.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not gateway.alive
        gateway.start()
        assert said.wait(4, "rolled_back")
        assert cloud.wait(lambda _: "second" in body().get("drivers", ()), 10)
        with contextlib.suppress(ProcessLookupError):
            os.kill(gateway.pid, signal.SIGTERM)
    numbers = sorted(number for _, number in cloud.pack_numbers)
    assert len(numbers) == len(set(numbers))
    cloud.close()


def test_what_became_of_it_is_signed(tmp_path):
    told = trial(tmp_path).applied(7).sign(SECRET)
    assert Applied.verify(told, SECRET) == Applied(1, "trial", "", 1, 7)
