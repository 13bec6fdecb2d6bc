"""Faults for real: a disk that is full, two agents with one name, certificates that expire and are swapped."""

import contextlib
import datetime as dt
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from processes import Child, console, wait_until
from services import Mosquitto

from edge.loopback import LoopbackCloud
from edge.settings import UplinkSettings
from edge.spool import Kind, Spool, SpoolSettings
from edge.spool.tool import messages
from edge.uplink import Connected, Disconnected, Uplink
from edge.wire import Status

SECRET = "0123456789abcdef0123456789abcdef"


def write_settings(folder, uplink, *, name="pond-1", speed=400.0, spool="spool"):
    (folder / "secret").write_text(SECRET)
    path = folder / f"{name}-{spool}.toml"
    path.write_text(f"""
[gateway]
id = "{name}"
farm = "fish_pond"
secret_file = "secret"
status_s = 0.5
[uplink]
{uplink}
stall_s = 1.0
backoff_s = 1.0
[spool]
dir = "{spool}"
pack_age_s = 0.3
[[driver]]
kind = "simulator"
speed = {speed}
""")
    return path


def agent(folder, settings):
    return Child([console("tianmai-edge"), "run", "--config", settings], log=folder / "edge.log")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=False)


def test_a_disk_that_is_really_full_costs_old_data_never_events_and_recovers(small_disk):
    spool = Spool(small_disk / "spool", SpoolSettings(segment_bytes=64 * 1024))
    for number in range(1, 2500):
        spool.put(Kind.EVENT if number % 500 == 0 else Kind.DATA, os.urandom(900))
        spool.commit()
    kept = {item.seq: item.kind for item in messages(spool)}
    assert {500, 1000, 1500, 2000} <= set(kept)
    assert max(kept) == 2499
    gaps = spool.take_gaps()
    lost = {n for gap in gaps for n in range(gap.first, gap.last + 1)}
    assert {gap.reason for gap in gaps} == {"disk_full"}
    assert lost | set(kept) == set(range(1, 2500))
    spool.close()


def test_the_agent_lives_through_a_disk_filled_by_somebody_else(small_disk, tmp_path, mosquitto_broker):
    cloud = LoopbackCloud("127.0.0.1", mosquitto_broker.port)
    settings = write_settings(
        tmp_path, f'url = "mqtt://127.0.0.1:{mosquitto_broker.port}"', spool="disk/spool".replace("/", "-")
    )
    settings.write_text(
        settings.read_text().replace('dir = "disk-spool"', f'dir = "{small_disk}/spool"\nsegment_kb = 64')
    )
    with agent(tmp_path, settings) as gateway:
        assert cloud.wait(lambda c: len(c.readings) > 20, 20)
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        time.sleep(2)
        assert gateway.alive
        (small_disk / "filler").unlink()
        seen = len(cloud.readings)
        assert cloud.wait(lambda c: len(c.readings) > seen + 50, 20)
    cloud.close()


@pytest.fixture
def ext4(tmp_path):
    """A file system in a file, as on a card; needs the right to mount."""
    place, image = tmp_path / "card", tmp_path / "card.img"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    for command in (["mkfs.ext4", "-q", image], ["mount", "-o", "loop,errors=remount-ro", image, place]):
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot make a file system here: {done.stderr.decode().strip()}")
    yield place, image
    subprocess.run(["umount", "-l", place], check=False)


def test_a_card_that_goes_read_only_stops_neither_agent_nor_status_and_it_goes_on_once_the_card_is_mended(
    ext4, tmp_path, mosquitto_broker
):
    place, image = ext4
    cloud = LoopbackCloud("127.0.0.1", mosquitto_broker.port)
    settings = write_settings(tmp_path, f'url = "mqtt://127.0.0.1:{mosquitto_broker.port}"')
    settings.write_text(settings.read_text().replace('dir = "spool"', f'dir = "{place}/spool"\nsegment_kb = 64'))

    def trouble():
        return Status.verify(cloud.statuses["pond-1"], SECRET.encode()).body["trouble"]

    with agent(tmp_path, settings) as gateway:
        assert cloud.wait(lambda c: len(c.readings) > 20, 20)
        # What the kernel does to a card with a bad block, files open or not.
        subprocess.run(["mount", "-o", "remount,abort", place], check=True)
        assert cloud.wait(lambda _: trouble() == "disk_error", 20), "it says so"
        time.sleep(1)
        assert gateway.alive
        assert gateway.stop() == 0
    assert "Traceback" not in (tmp_path / "edge.log").read_text()
    before = len(cloud.readings)
    subprocess.run(["umount", place], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    with agent(tmp_path, settings) as gateway:
        assert cloud.wait(lambda c: len(c.readings) > before + 50 and trouble() == "", 30)
        assert gateway.stop() == 0
    cloud.close()
    numbers = sorted(number for _, number in cloud.pack_numbers)
    missing = set(range(1, numbers[-1] + 1)) - set(numbers)
    assert len(missing) <= len(cloud.events), "every number that was sent had been durable"
    assert not cloud.conflicts


def test_two_agents_with_one_name_take_turns_slowly_and_say_so(mosquitto_broker):
    inboxes = [queue.SimpleQueue(), queue.SimpleQueue()]
    where = UplinkSettings("127.0.0.1", mosquitto_broker.port)
    twins = [Uplink("pond-1", where, inbox.put) for inbox in inboxes]
    for twin in twins:
        twin.start()
    time.sleep(8)
    for twin in twins:
        twin.close()
    heard = [[inbox.get() for _ in range(inbox.qsize())] for inbox in inboxes]
    assert any(isinstance(one, Disconnected) and one.duplicate for told in heard for one in told)
    assert sum(isinstance(one, Connected) for told in heard for one in told) <= 11, "no storm of connections"


# -- certificates ---------------------------------------------------------------------------------------------


def make_key():
    return ec.generate_private_key(ec.SECP256R1())


def make_cert(name, key, issuer, issuer_key, *, start=-1, days=2, authority=False):
    """A certificate valid from ``start`` days from now for ``days``."""
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=start))
        .not_valid_after(now + dt.timedelta(days=start + days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256())


def save(path: Path, *parts):
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(
        b"".join(
            part.public_bytes(pem) if isinstance(part, x509.Certificate) else part.private_bytes(pem, *plain)
            for part in parts
        )
    )


def test_expired_and_early_certificates_keep_spooling_and_a_swapped_one_connects(tmp_path, need_program):
    need_program("mosquitto")
    root_key, server_key, own_key = make_key(), make_key(), make_key()
    root = make_cert("root", root_key, None, root_key, days=3, authority=True)
    save(tmp_path / "ca.pem", root)
    save(tmp_path / "server.pem", make_cert("localhost", server_key, root.subject, root_key, days=3))
    save(tmp_path / "server.key", server_key)
    save(tmp_path / "own.key", own_key)
    save(tmp_path / "own.pem", make_cert("pond-1", own_key, root.subject, root_key, start=-3, days=1))
    (tmp_path / "broker").mkdir()
    names = {"cafile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}
    tls = "".join(f"{key} {tmp_path}/{name}\n" for key, name in names.items()) + "require_certificate true\n"
    with Mosquitto(tmp_path / "broker", settings=tls) as broker:
        uplink = f'url = "mqtts://localhost:{broker.port}"\nca = "ca.pem"\ncert = "own.pem"\nkey = "own.key"'
        with agent(tmp_path, write_settings(tmp_path, uplink)) as gateway:
            log = tmp_path / "broker" / "mosquitto.log"
            wait_until(lambda: list((tmp_path / "spool").glob("d-*.seg")), "it does not spool")
            time.sleep(2)
            assert "as pond-1" not in log.read_text(), "an expired certificate is not let in"
            save(tmp_path / "own.pem", make_cert("pond-1", own_key, root.subject, root_key, start=1))
            time.sleep(2)
            assert "as pond-1" not in log.read_text(), "nor is one that is not valid yet"
            assert gateway.alive
            save(tmp_path / "own.pem", make_cert("pond-1", own_key, root.subject, root_key))
            wait_until(lambda: "as pond-1" in log.read_text(), "the new certificate is never used", within_s=30)
            os.kill(gateway.pid, signal.SIGTERM)
            assert gateway.wait(15) == 0
    spool = Spool(tmp_path / "spool")
    kinds = [item.kind for item in messages(spool)]
    spool.close()
    assert kinds.count(Kind.DATA) >= 3, "what was taken since the start is kept"
    assert "Traceback" not in (tmp_path / "edge.log").read_text()


# -- a line that carries one way only ---------------------------------------------------------------------------


class OneWay:
    """A proxy in front of a broker; while ``deaf``, what the broker says is swallowed and nobody hangs up."""

    def __init__(self, port):
        self._door, self._port = socket.create_server(("127.0.0.1", 0)), port
        self.port, self.deaf, self.calls, self.swallowed = self._door.getsockname()[1], False, 0, 0
        self._ends, self._threads = [self._door], []
        self._run(self._answer)

    def _run(self, job, *args):
        self._threads.append(threading.Thread(target=job, args=args, daemon=True))
        self._threads[-1].start()

    def _answer(self):
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._door.accept()
                self.calls += 1
                broker = socket.create_connection(("127.0.0.1", self._port))
                self._ends += [caller, broker]
                self._run(self._carry, caller, broker, "up")
                self._run(self._carry, broker, caller, "down")

    def _carry(self, source, sink, way):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if way == "down" and self.deaf:
                    self.swallowed += len(data)
                else:
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for end in self._ends:
            end.close()


def test_a_line_that_carries_one_way_only_is_noticed_and_nothing_is_lost(tmp_path, mosquitto_broker):
    proxy, cloud = OneWay(mosquitto_broker.port), LoopbackCloud("127.0.0.1", mosquitto_broker.port)
    settings = write_settings(tmp_path, f'url = "mqtt://127.0.0.1:{proxy.port}"\nkeepalive_s = 1')
    with agent(tmp_path, settings) as gateway:
        assert cloud.wait(lambda c: len(c.readings) > 20, 20)
        proxy.deaf = True
        before = proxy.calls
        wait_until(lambda: proxy.calls > before, "the dead line is not noticed", within_s=30)
        assert proxy.swallowed > 0
        assert gateway.alive
        proxy.deaf = False
        seen = len(cloud.readings)
        assert cloud.wait(lambda c: len(c.readings) > seen + 50, 40)
    numbers = sorted(number for _, number in cloud.pack_numbers)
    missing = set(range(1, numbers[-1] + 1)) - set(numbers)
    assert len(missing) <= len(cloud.events), "only numbers of events lie between those of packs"
    assert not cloud.conflicts
    cloud.close()
    proxy.close()
