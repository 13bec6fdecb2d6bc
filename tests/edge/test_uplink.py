"""What was sent while nobody listened goes out again as soon as somebody says that he listens."""

import queue
import time

import pytest

from edge.loopback import LoopbackCloud
from edge.settings import UplinkSettings
from edge.spool import Kind as SpoolKind
from edge.spool import Spool
from edge.uplink import Message, Uplink
from edge.wire import Ack, Kind, Pack, Reading, Topic, encode_pack

NOW = 1_700_000_000_000


@pytest.fixture
def patient(mosquitto_broker, tmp_path):
    """A gateway with one pack that was sent to nobody, and that would not send again for ten minutes."""
    inbox = queue.SimpleQueue()
    settings = UplinkSettings(host="127.0.0.1", port=mosquitto_broker.port, stall_s=600.0)
    uplink, spool = Uplink("pond-1", settings, inbox.put), Spool(tmp_path / "spool")
    spool.put(SpoolKind.DATA, encode_pack(Pack("pond-1", (Reading("p1/ph", NOW, 7.0, "pH"),))))
    spool.commit(NOW)
    uplink.start()

    def serve(seconds, until=lambda: False):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not until():
            while not inbox.empty():
                notice = inbox.get()
                if isinstance(notice, Message):
                    ack = Ack.decode(notice.payload)
                    moved = spool.settle(ack.epoch, ack.watermark)
                    uplink.confirmed(moved=moved, now=time.monotonic(), again=ack.again)
                else:
                    uplink.hear(notice, now=time.monotonic())
            uplink.pump(spool, now=time.monotonic())
            time.sleep(0.02)
        return until()

    assert serve(10.0, lambda: uplink.busy), "it was sent once"
    yield spool, serve
    uplink.close()
    spool.close()


@pytest.mark.parametrize("epoch", ["its own", "one of nobody"])
def test_a_cloud_that_begins_to_listen_is_sent_what_it_has_missed(patient, mosquitto_broker, epoch):
    spool, serve = patient
    cloud = LoopbackCloud("127.0.0.1", mosquitto_broker.port)
    assert not serve(1.0, lambda: bool(cloud.readings)), "without being asked it is patient"
    said = Ack(spool.epoch if epoch == "its own" else "0" * 8, 0, NOW, again=True)
    cloud.publish(Topic("pond-1", Kind.ACK), said.encode())
    assert serve(10.0, lambda: spool.settled)
    assert len(cloud.readings) == 1
    cloud.close()
