"""What the gateway agent costs and how fast it is, at 1,000 readings a second unless the name says otherwise.

The agent runs as its own process with a made-up load, a Modbus bus, the rules and control of a pond, the spool at
production durability and a session to a real mosquitto. Memory and CPU are read from /proc, CPU without the threads of
drivers (`cpu_with_drivers_percent` has them); bytes written are the spool's own count of what it handed to the disk;
bytes on the wire are topics and payloads as they arrive.
`catchup_rps` runs against the real `tianmai-cloud ingest`: from a backlog until its watermark covers everything.
`restart_s` is from starting the process over a spool of 512 MB to the first question on the Modbus line.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import bench
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pondlog import GATEWAY, add_gateway
from processes import Child, console, wait_until
from services import Mosquitto
from thingsboard import Peer

from edge.drivers.faulty_slave import FaultySlave
from edge.loopback import LoopbackCloud
from edge.spool import Kind, Spool, SpoolSettings
from edge.wire import Ack, Topic, decode_pack
from edge.wire import Kind as WireKind

SECRET = "0123456789abcdef0123456789abcdef"
PEER_RATE = 100.0  # messages a second
PEER_PAUSE_S = 0.5  # between the last message and the kill
SOIL = [382, 215, 411, 68, 12, 3, 40]


def arguments(parser):
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each measurement (default: 30)")
    parser.add_argument("--only", choices=("steady", "backlog", "restart", "none"), help="one part instead of all")
    parser.add_argument("--peer", action="store_true", help="compare with thingsboard-gateway (installed under var/)")
    parser.add_argument("--spool-mb", type=int, default=512, help="spool that a restart finds (default: 512)")


def write_settings(folder, port, drivers, *, gateway="bench-1", spool="spool", secret="bench.secret"):
    """A settings file in the folder; `drivers` is TOML."""
    if not (folder / secret).exists():
        (folder / secret).write_text(SECRET + "\n")
    path = folder / f"{spool}.toml"
    head = f'[gateway]\nid = "{gateway}"\nfarm = "fish_pond"\nsecret_file = "{secret}"\nstatus_s = 1.0\n'
    path.write_text(
        f'{head}[uplink]\nurl = "mqtt://127.0.0.1:{port}"\n[spool]\ndir = "{spool}"\ncap_mb = 2000\n{drivers}'
    )
    return path


def load(rate, series=200):
    return f'[[driver]]\nkind = "load"\nrate = {rate}\nseries = {series}\n'


def modbus(port, interval=1.0):
    bus = f'[[driver]]\nkind = "modbus"\nhost = "127.0.0.1"\ntcp_port = {port}\n'
    return f'{bus}[[driver.device]]\nname = "soil9"\nprofile = "soil-7in1-a"\ninterval_s = {interval}\n'


def aerator(folder):
    (folder / "relay").write_text("0")
    return f'[[output]]\nkind = "file"\nactuator = "aerator1"\npath = "{folder}/relay"\n'


def agent(folder, settings):
    return Child([console("tianmai-edge"), "run", "--config", settings], log=folder / "agent.log")


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def driver_cpu_s(pid):
    """Of the agent's threads those that are drivers, by the names it gives them."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("driver-"):
            total += int((task / "schedstat").read_text().split()[0]) / 1e9
    return total


def rss_mb(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Wire:
    """Counts what gateways send: bytes of topic and payload, and readings."""

    def __init__(self, port):
        self.bytes = self.readings = 0
        self.written, self.watermark = {}, 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("tm/1/#")
        self._client.on_message = lambda _c, _u, message: self.take(message.topic, message.payload)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def take(self, topic, payload):
        kind = topic.split("/")[3]
        if kind == "data":
            self.bytes += len(topic) + len(payload)
            self.readings += len(decode_pack(payload).readings)
        elif kind == "ack":
            self.watermark = Ack.decode(payload).watermark
        elif kind == "status":
            body = json.loads(json.loads(payload)["signed"])["body"]
            self.written = body.get("spool", self.written)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def steady(args, report, folder, port):
    """Memory, CPU and bytes while everything runs at one rate."""
    for rate, tail in ((1000, ""), (17, "_at_17")):
        slave = FaultySlave(list(SOIL), tcp=True)
        cloud, wire = LoopbackCloud("127.0.0.1", port), Wire(port)
        drivers = load(rate) + modbus(slave.tcp_port) + aerator(folder)
        settings = write_settings(folder, port, drivers, gateway=f"bench-{rate}", spool=f"spool-{rate}")
        with agent(folder, settings) as gateway:
            wait_until(lambda seen=wire: seen.readings > 0, "no readings arrive")
            time.sleep(3)
            began, used, readings = time.monotonic(), cpu_s(gateway.pid), wire.readings
            driving = driver_cpu_s(gateway.pid)
            size, written = wire.bytes, wire.written["written_bytes"]
            time.sleep(args.seconds)
            wall, count = time.monotonic() - began, wire.readings - readings
            report.figure(f"readings_per_s{tail}", count / wall)
            rss = {"at_most": 40} if rate == 1000 else {}
            report.figure(f"rss_mb{tail}", rss_mb(gateway.pid), **rss)
            cpu = {"at_most": 2.0} if rate == 1000 else {}
            used, driving = cpu_s(gateway.pid) - used, driver_cpu_s(gateway.pid) - driving
            report.figure(f"cpu_percent{tail}", 100 * (used - driving) / wall, **cpu)
            report.figure(f"cpu_with_drivers_percent{tail}", 100 * used / wall)
            flash = {"at_most": 60} if rate == 1000 else {}
            report.figure(f"flash_bytes{tail}", (wire.written["written_bytes"] - written) / count, **flash)
            wired = {"at_most": 10} if rate == 1000 else {}
            report.figure(f"wire_bytes{tail}", (wire.bytes - size) / count, **wired)
        wire.close()
        cloud.close()
        slave.close()


def backlog_and_catch_up(args, report, folder, broker):
    """Fill a spool without a broker as fast as it goes durable, then let the real cloud take it."""
    var, post = folder / "var", broker.port
    add_gateway(var, folder)
    settings = write_settings(
        folder, post, load(1_000_000, series=400), gateway=GATEWAY, spool="spool-fill", secret="secret"
    )
    broker.kill()
    with agent(folder, settings) as gateway:
        wait_until((folder / "spool-fill" / "watermark").exists, "the agent does not start")
        began = time.monotonic()
        time.sleep(min(args.seconds, 15.0))
        wall = time.monotonic() - began
        gateway.stop(within_s=30)
    stat = json.loads(subprocess.check_output([console("tianmai-edge"), "spool", "stat", folder / "spool-fill"]))
    listing = subprocess.check_output([console("tianmai-edge"), "spool", "list", folder / "spool-fill"], text=True)
    readings = sum(int(line.split("\t")[2]) for line in listing.splitlines() if "\tdata\t" in line)
    report.figure("durable_rps", readings / wall, at_least=15_000)
    broker.start()
    take = [console("tianmai-cloud"), "ingest", "--var", var, "--mqtt-port", str(post)]
    quiet = write_settings(folder, post, "", gateway=GATEWAY, spool="spool-fill", secret="secret")
    with Child(take, log=folder / "ingest.log") as ingest:
        wire, log = Wire(post), folder / "ingest.log"
        # Its start is not what is measured.
        wait_until(lambda: "connected to" in log.read_text(errors="replace"), "ingest does not start", within_s=90)
        began = time.monotonic()
        with agent(folder, quiet):
            wait_until(lambda: wire.watermark >= stat["last_seq"], "the cloud never confirmed", within_s=300)
            report.figure("catchup_rps", readings / (time.monotonic() - began), at_least=20_000)
        report.figure("backlog_readings", readings)
        wire.close()
        ingest.stop(within_s=30)


def restart(args, report, folder, port):
    """From the start of the process to the first question on the bus, over a large spool."""
    spool = Spool(folder / "spool-big", SpoolSettings(cap_bytes=10**10))
    payload = os.urandom(1500)
    for number in range(args.spool_mb * 2**20 // 1524):
        spool.put(Kind.DATA, payload, count=200)
        if number % 600 == 0:
            spool.commit()
    spool.close()
    slave = FaultySlave(list(SOIL), tcp=True)
    settings = write_settings(folder, port, modbus(slave.tcp_port), gateway="bench-big", spool="spool-big")
    found = []
    for _ in range(3):
        before, began = slave.asked, time.monotonic()
        with agent(folder, settings):
            while slave.asked == before and time.monotonic() < began + 60:
                time.sleep(0.005)
            found.append(time.monotonic() - began)
    slave.close()
    report.figure("restart_s", sorted(found)[1], at_most=1.0)
    report.figure("restart_spool_mb", args.spool_mb)


def against_peer(args, report, folder, broker):
    """Both gateways read the same readings from one broker; memory under load, then SIGKILL without a network.

    Their servers are one mosquitto, killed once both have connected. ThingsBoard takes messages by its MQTT connector
    into its SQLite storage; ours by the ChirpStack driver, from the same readings worded as uplinks with a decoded
    object. What survives is counted in what each has on disk after the kill: ours may lose its open group.
    """
    port = broker.port
    (folder / "server").mkdir()
    server = Mosquitto(folder / "server")
    peer = Peer(folder / "peer", port, server=server.port)
    profile = '[driver.profile.bench]\nfields = { temperature = "air_temperature" }\n'
    drivers = f'[[driver]]\nkind = "chirpstack"\nurl = "mqtt://127.0.0.1:{port}"\n{profile}'
    settings = write_settings(folder, server.port, drivers + aerator(folder), gateway="bench-peer", spool="spool-peer")
    talker = mqtt.Client(CallbackAPIVersion.VERSION2)
    talker.connect("127.0.0.1", port)
    talker.loop_start()
    with server, agent(folder, settings) as ours, peer.start() as theirs:
        for log, name in ((broker.log, "as bench-peer-in"), (server.log, "u'bench'"), (server.log, "as bench-peer")):
            wait_until(lambda log=log, name=name: name in log.read_text(errors="replace"), f"never connected {name}")
        time.sleep(5)
        server.kill()  # the network is gone: both keep what they take
        time.sleep(2)
        began, sent = time.monotonic(), 0
        while time.monotonic() - began < args.seconds:
            sent += 1
            info = talker.publish(*peer.message(sent), qos=1)
            talker.publish(*uplink(sent), qos=1)
            time.sleep(max(0.0, began + sent / PEER_RATE - time.monotonic()))
        info.wait_for_publish(10)
        time.sleep(PEER_PAUSE_S)
        report.figure("rss_mb_ours", rss_mb(ours.pid))
        report.figure("rss_mb_peer", rss_mb(theirs.pid))
        report.figure("rss_vs_peer", rss_mb(ours.pid) / rss_mb(theirs.pid), at_most=0.6)
        ours.kill()
        theirs.kill()
    talker.disconnect()
    talker.loop_stop()
    listing = subprocess.check_output([console("tianmai-edge"), "spool", "cat", folder / "spool-peer"], text=True)
    kept = sum('/air_temperature"' in line for line in listing.splitlines())
    report.figure("peer_readings_sent", sent)
    report.figure("survived_kill_ours", kept)
    report.figure("survived_kill_peer", peer.kept())
    report.environment["versions"]["thingsboard-gateway"] = peer.version


def uplink(number):
    """The reading as a network server tells it, with its decoded object."""
    eui = "0101010101010101"
    event = {
        "deduplicationId": str(number),
        "deviceInfo": {"devEui": eui, "deviceProfileName": "bench"},
        "object": {"temperature": 20 + number % 50 / 10},
    }
    return f"application/1/device/{eui}/event/up", json.dumps(event)


def measure(args, report):
    with tempfile.TemporaryDirectory(prefix="tianmai-edge-") as name:
        folder = Path(name)
        (folder / "broker").mkdir()
        with Mosquitto(folder / "broker") as broker:
            report.environment["topic"] = Topic("bench-1000", WireKind.DATA, "0" * 16, 1).text
            parts = {
                "steady": lambda: steady(args, report, folder, broker.port),
                "backlog": lambda: backlog_and_catch_up(args, report, folder, broker),
                "restart": lambda: restart(args, report, folder, broker.port),
            }
            for part, job in parts.items():
                if args.only in {None, part}:
                    job()
            if args.peer:
                against_peer(args, report, folder, broker)


if __name__ == "__main__":
    sys.exit(bench("edge", measure, arguments))
