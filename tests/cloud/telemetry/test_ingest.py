"""The broker's side, on real brokers: mosquitto (MQTT 5) and the embedded amqtt (3.1.1 only)."""

import queue
import time

import numpy as np
import paho.mqtt.client as mqtt
import pytest
from mqtt_load import prepare, send
from processes import Child, free_port, wait_until
from services import Mosquitto
from sqlalchemy.exc import OperationalError

from cloud.broker import broker_command
from cloud.database import open_database
from cloud.telemetry.ingest import Broker, Ingest
from cloud.telemetry.memory_readings import MemoryReadings
from cloud.telemetry.registry import Registry
from cloud.telemetry.store import StoreUnavailable
from edge.wire import Ack, Pack, Reading, encode_pack

EPOCH = "abcdef01"
NOW = 1_700_000_000_000


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request, tmp_path, need_program):
    if request.param == "mosquitto":
        need_program("mosquitto")
    port = free_port()
    folder = tmp_path / "broker"
    folder.mkdir()
    with Child(broker_command(folder, port, request.param), log=folder / "log") as child:
        child.wait_for_port(port)
        child.port, child.kind = port, request.param
        yield child


class Fickle(MemoryReadings):
    """A store that can be taken away for a while."""

    down = False

    def append(self, arrivals):
        if self.down:
            raise StoreUnavailable("taken away")
        return super().append(arrivals)


class Locked(Registry):
    """A registry whose database is locked the first two times that somebody wants all gateways."""

    times = 2

    def gateways(self):
        self.times -= 1
        if self.times >= 0:
            raise OperationalError("select", {}, Exception("database is locked"))
        return super().gateways()


@pytest.fixture
def cloud(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path / 'cloud.db'}")
    registry = Registry(engine)
    registry.create()
    registry.add_gateway("pond", farm="fish_pond", region="500108")
    readings = Fickle()

    def ingest(port, kind=Registry, **more):
        broker = Broker("127.0.0.1", port)
        return Ingest(readings, kind(engine), broker, clock=lambda: time.time_ns() // 1_000_000, **more)

    yield readings, ingest
    engine.dispose()


class Gateway:
    """Ten lines of a gateway: it publishes packs and hears watermarks."""

    def __init__(self, port):
        self.acks = queue.SimpleQueue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self.client.on_connect = lambda client, *_: client.subscribe("tm/1/pond/ack", 1)
        self.client.on_message = lambda _c, _u, message: self.heard(message)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.watermark = -1
        self.asked = 0  # how often it was asked to send again

    def heard(self, message):
        if message.topic == "tm/1/pond/ack":
            ack = Ack.decode(message.payload)
            self.watermark = ack.watermark
            self.asked += ack.again and not message.retain

    def send(self, *numbers):
        for seq in numbers:
            payload = encode_pack(Pack("pond", (Reading("p1/ph", NOW + seq, 7.0, "pH"),)))
            self.client.publish(f"tm/1/pond/data/{EPOCH}/{seq}", payload, qos=1)

    def wait_for(self, watermark):
        wait_until(lambda: self.watermark == watermark, f"watermark {watermark}, not {self.watermark}", within_s=15)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def gateway(broker):
    gateway = Gateway(broker.port)
    yield gateway
    gateway.close()


def count(readings):
    return len(readings.range(np.array([1]), 0, 2**62))


def test_the_watermark_comes_back_and_survives_a_restart_of_ingest(broker, cloud, gateway):
    readings, new_ingest = cloud
    ingest = new_ingest(broker.port)
    ingest.start()
    wait_until(lambda: ingest.health()["connected"], "ingest never connected", within_s=15)
    assert ingest.health()["mqtt"] == ("5" if broker.kind == "mosquitto" else "3.1.1")
    gateway.send(*range(1, 51))
    gateway.wait_for(50)
    ingest.stop()
    gateway.watermark = -1
    again = new_ingest(broker.port)
    again.start()
    gateway.wait_for(50)
    gateway.send(50, 51)
    gateway.wait_for(51)
    again.stop()
    assert count(readings) == 51


def test_whoever_sent_while_nobody_listened_is_asked_to_send_again(broker, cloud, gateway):
    readings, new_ingest = cloud
    wait_until(gateway.client.is_connected, "never connected", within_s=15)
    gateway.send(1)
    for times in (1, 2):
        ingest = new_ingest(broker.port)
        ingest.start()
        wait_until(lambda times=times: gateway.asked == times, "it was not asked", within_s=20)
        gateway.send(*range(1, times + 1))
        gateway.wait_for(times)
        ingest.stop()
        gateway.send(times + 1)
    assert count(readings) == 2


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
def test_one_who_cannot_ask_the_registry_tries_again(broker, cloud, gateway):
    readings, new_ingest = cloud
    ingest = new_ingest(broker.port, Locked)
    ingest.start()
    wait_until(lambda: gateway.asked, "the thread did not live to ask", within_s=20)
    gateway.send(1)
    gateway.wait_for(1)
    ingest.stop()
    assert count(readings) == 1


def test_an_outage_of_the_store_loses_nothing(broker, cloud, gateway):
    readings, new_ingest = cloud
    ingest = new_ingest(broker.port)
    ingest.start()
    wait_until(lambda: ingest.health()["connected"], "ingest never connected", within_s=15)
    readings.down = True
    gateway.send(*range(1, 31))
    wait_until(lambda: ingest.health()["store_down"], "the outage was not noticed", within_s=15)
    readings.down = False
    gateway.wait_for(30)
    ingest.stop()
    assert count(readings) == 30


def test_ingest_waits_for_a_broker_that_comes_later_and_says_so(cloud, tmp_path, need_program, caplog):
    need_program("mosquitto")
    _, new_ingest = cloud
    port = free_port()
    ingest = new_ingest(port, away_s=0.6)
    ingest.start()
    said = lambda: [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]  # noqa: E731
    wait_until(said, "nobody was told", within_s=15)
    time.sleep(1.2)
    assert len(said()) == 1
    assert said()[0].startswith(f"no broker at 127.0.0.1:{port} (")
    assert not ingest.health()["connected"]
    folder = tmp_path / "late"
    with Child(broker_command(folder, port, "mosquitto"), log=tmp_path / "log") as child:
        child.wait_for_port(port)
        wait_until(lambda: ingest.health()["connected"], "never connected", within_s=15)
        wait_until(lambda: "connected to the broker" in said()[-1], "the end was not told", within_s=5)
        child.kill()
        wait_until(lambda: not ingest.health()["connected"], "the loss was not noticed", within_s=15)
        child.start()
        wait_until(lambda: ingest.health()["connected"], "never reconnected", within_s=15)
        ingest.stop()


def test_while_the_store_is_away_the_rest_waits_at_the_broker(cloud, tmp_path, need_program):
    need_program("mosquitto")
    readings, new_ingest = cloud
    packs = (Pack("pond", (Reading("p1/ph", NOW + seq, 7.0, "pH"),)) for seq in range(1, 10_001))
    prepare(tmp_path / "load", ((f"tm/1/pond/data/{EPOCH}/{n}", encode_pack(one)) for n, one in enumerate(packs, 1)))
    with Mosquitto(tmp_path, settings="max_queued_messages 0\nmax_inflight_messages 0\n") as child:
        ingest = new_ingest(child.port)
        ingest.start()
        wait_until(lambda: ingest.health()["connected"], "ingest never connected", within_s=15)
        readings.down = True
        send(tmp_path / "load", child.port)
        wait_until(lambda: ingest.health()["waiting"] > 1500, "nothing came", within_s=30)
        time.sleep(0.5)
        assert ingest.health()["waiting"] <= 4000, "more came than the receive-maximum allows"
        assert count(readings) == 0
        readings.down = False
        wait_until(lambda: count(readings) == 10_000, "not all came", within_s=60)
        ingest.stop()
