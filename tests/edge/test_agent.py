"""The whole gateway against a real broker: what it took is in the cloud, and it leaves in order."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest
from processes import Child, console, free_port, wait_until

from edge.__main__ import main
from edge.farms import load_farm
from edge.loopback import LoopbackCloud
from edge.wire import Ack, Command, Kind, Quality, Result, Status, Topic

SECRET = "0123456789abcdef0123456789abcdef"


def write_settings(folder, port, *, gateway="pond-1", speed=200.0, extra=""):
    (folder / f"{gateway}.secret").write_text(SECRET + "\n")
    path = folder / f"{gateway}.toml"
    path.write_text(f"""
[gateway]
id = "{gateway}"
farm = "fish_pond"
secret_file = "{gateway}.secret"
status_s = 0.5
[uplink]
url = "mqtt://127.0.0.1:{port}"
stall_s = 1.0
backoff_s = 1.0
[spool]
dir = "{gateway}.spool"
cap_mb = 64
pack_age_s = 0.3
[[driver]]
kind = "simulator"
seed = 4
speed = {speed}
{extra}""")
    return path


def agent(folder, port, **options):
    settings = write_settings(folder, port, **options)
    return Child([console("tianmai-edge"), "run", "--config", settings], log=folder / "edge.log")


@pytest.fixture
def cloud(mosquitto_broker):
    cloud = LoopbackCloud("127.0.0.1", mosquitto_broker.port)
    yield cloud
    cloud.close()


def status_of(cloud, gateway="pond-1"):
    return Status.verify(cloud.statuses[gateway], SECRET.encode())


def test_every_series_of_the_farm_is_in_the_cloud_within_seconds_with_a_signed_status(
    tmp_path, mosquitto_broker, cloud
):
    names = {("pond-1", name) for name in load_farm("fish_pond").series}
    with agent(tmp_path, mosquitto_broker.port) as gateway:
        assert cloud.wait(lambda c: names <= {key[:2] for key in c.readings}, 15)
        assert cloud.wait(lambda c: "pond-1" in c.statuses and status_of(c).state == "online", 5)
        status = status_of(cloud)
        assert status.body["spool"]["lost_readings"] == 0
        assert 5e6 < status.body["rss_bytes"] < 60e6
        assert cloud.wait(lambda c: ("pond-1", "pond1") in c.sensors, 5)
        probe = json.loads(cloud.sensors["pond-1", "pond1"])
        assert probe["urn"] == "urn:dev:org:32473-pond-1:pond1"
        assert probe["series"]["pond1/dissolved_oxygen"]["unit"] == "mg/L"
        os.kill(gateway.pid, signal.SIGTERM)
        assert cloud.wait(lambda c: status_of(c).state == "offline", 5)
    assert all(r.quality is Quality.GOOD for r in cloud.readings.values())
    assert not cloud.refused
    assert not cloud.conflicts
    assert "Traceback" not in (tmp_path / "edge.log").read_text()


def test_a_killed_gateway_goes_on_with_the_next_number(tmp_path, mosquitto_broker, cloud):
    with agent(tmp_path, mosquitto_broker.port) as gateway:
        assert cloud.wait(lambda c: len(c.readings) > 20, 15)
        gateway.kill()
        gateway.start()
        seen = len(cloud.readings)
        assert cloud.wait(lambda c: len(c.readings) > seen + 20, 15)
    numbers = sorted(number for _, number in cloud.pack_numbers)
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_broker_that_is_away_costs_nothing_and_a_silent_cloud_is_asked_again(tmp_path, mosquitto_broker):
    mosquitto_broker.kill()
    with agent(tmp_path, mosquitto_broker.port):
        time.sleep(2.0)
        mosquitto_broker.start()
        cloud = LoopbackCloud("127.0.0.1", mosquitto_broker.port)
        cloud.mute = True
        assert cloud.wait(lambda c: len(c.readings) > 50, 15)
        assert cloud.wait(lambda c: c.repeated > 0, 15), "unconfirmed packs go out again"
        cloud.mute = False
        assert cloud.wait(lambda c: "pond-1" in c.statuses and status_of(c).body["spool"]["backlog"] < 5, 15)
        cloud.close()
    numbers = sorted(number for _, number in cloud.pack_numbers)
    assert numbers == list(range(1, len(numbers) + 1))


def test_an_ack_for_another_epoch_or_a_garbled_one_is_ignored(tmp_path, mosquitto_broker, cloud):
    mosquitto_broker_port = mosquitto_broker.port
    ack = Topic("pond-1", Kind.ACK)
    cloud.publish(ack, Ack("deadbeef", 10**9, 0).encode(), retain=True)
    cloud.publish(ack, b"{not json")
    with agent(tmp_path, mosquitto_broker_port):
        assert cloud.wait(lambda c: len(c.readings) > 30, 15)
    numbers = sorted(number for _, number in cloud.pack_numbers)
    assert numbers[0] == 1
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_command_drives_the_aerator_once_and_everyone_is_told(tmp_path, mosquitto_broker, cloud):
    now = time.time_ns() // 1_000_000
    order = Command("c1", "pond-1", "aerator1", "set", 1.0, now - 5000, now + 60_000, "user:li").sign(SECRET.encode())
    topic = Topic("pond-1", Kind.COMMAND, name="aerator1")

    def outcomes(kept):
        return [Result.verify(payload, SECRET.encode()).outcome for _, payload in kept.results]

    with agent(tmp_path, mosquitto_broker.port):
        assert cloud.wait(lambda c: "pond-1" in c.statuses and "aerator1" in status_of(c).body["actuators"], 15)
        cloud.publish(topic, order)
        cloud.publish(topic, order)
        assert cloud.wait(lambda c: len(c.results) >= 3, 10)
        assert outcomes(cloud) == ["accepted", "done", "refused"]
        told = [(event.kind, event.body.get("outcome"), event.body.get("reason")) for _, event in cloud.events]
        assert cloud.wait(lambda c: sum(event.kind == "command" for _, event in c.events) >= 2, 10), told
        assert cloud.wait(lambda c: status_of(c).body["actuators"]["aerator1"]["value"] == 1.0, 5)


def records_in(spool):
    """How many records its data lane holds, by their marker; the agent has the lock."""
    return sum(path.read_bytes().count(bytes.fromhex("c3d1a75e")) for path in spool.glob("d-*.seg"))


def test_a_black_hole_instead_of_a_broker_does_not_stop_the_spooling(tmp_path):
    with socket.socket() as hole:  # accepts connections and never says a word
        hole.bind(("127.0.0.1", 0))
        hole.listen(8)
        with agent(tmp_path, hole.getsockname()[1]) as gateway:
            wait_until(lambda: records_in(tmp_path / "pond-1.spool") >= 3, "nothing is spooled")
            os.kill(gateway.pid, signal.SIGTERM)
            deadline = time.monotonic() + 8
            while gateway.alive and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not gateway.alive
    stat = json.loads(subprocess.check_output([console("tianmai-edge"), "spool", "stat", tmp_path / "pond-1.spool"]))
    assert stat["backlog"] >= 3


def test_a_spool_can_be_exported_and_imported_by_the_command_line(tmp_path, capsys):
    with agent(tmp_path, free_port()) as gateway:
        wait_until(lambda: records_in(tmp_path / "pond-1.spool") >= 3, "nothing is spooled")
        assert gateway.stop() == 0

    def spool(*args):
        assert main(["spool", *map(str, args)]) == 0
        return capsys.readouterr().out.splitlines()

    source, stick = tmp_path / "pond-1.spool", tmp_path / "stick.jsonl"
    exported = json.loads(spool("export", source, stick, "--gateway", "pond-1")[0])["messages"]
    assert exported == json.loads(spool("import", tmp_path / "other", stick)[0])["messages"] > 0
    assert len(spool("list", source)) == exported
    assert [json.loads(line)["name"] for line in spool("cat", source)] == [
        json.loads(line)["name"] for line in spool("cat", tmp_path / "other")
    ]
    assert json.loads(spool("verify", source)[0]) == {"good": exported, "bad": 0, "gaps": 0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('id = "pond-1"', 'id = "Pond 1"'), "gateway.id"),
        (("fish_pond", "whale_pond"), "whale_pond"),
        (("mqtt://127.0.0.1", "http://127.0.0.1"), "uplink.url"),
        (("cap_mb = 64", "cap_mb = -1"), "spool.cap_mb"),
        (("cap_mb = 64", "cap_bm = 64"), "cap_bm"),
        (('kind = "simulator"', 'kind = "stimulator"'), "stimulator"),
        (("seed = 4", "seed = 4\nsped = 2"), "sped"),
        (("pond-1.secret", "absent.secret"), "absent.secret"),
        (("[gateway]", "[gateway"), "not TOML"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_2(tmp_path, change, says, capsys):
    path = write_settings(tmp_path, 1883)
    path.write_text(path.read_text().replace(*change))
    assert main(["check", str(path)]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert str(path) in told or "driver" in told
    assert len(told.splitlines()) == 1


def test_good_settings_are_explained_in_one_line(tmp_path):
    path = write_settings(tmp_path, 1883)
    out = subprocess.check_output([console("tianmai-edge"), "check", path], text=True)
    assert "鱼塘" in out
    assert SECRET not in out
