"""What the operating guide promises: it starts, tells systemd, explains its rules, and anyone may send in ten lines."""

import json
import re
import socket
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from measuring import ROOT
from processes import console

from edge.__main__ import main
from edge.loopback import LoopbackCloud
from edge.settings import load_settings
from edge.watchdog import Watchdog
from edge.wire import decode_pack

GUIDE = (ROOT / "docs" / "operating-edge.md").read_text("utf-8")


README = (ROOT / "README.md").read_text("utf-8")


def block(language, text=GUIDE):
    return re.search(rf"```{language}\n(.*?)```", text, re.DOTALL).group(1)


def test_the_settings_in_the_guide_are_read_as_they_stand(tmp_path):
    (tmp_path / "pond-1.secret").write_text("x" * 40)
    (tmp_path / "gateway.toml").write_text(block("toml"))
    assert tomllib.loads(block("toml"))["gateway"]["id"] == "pond-1"
    settings = load_settings(tmp_path / "gateway.toml")
    assert (settings.uplink.host, settings.uplink.port) == ("mqtt.example.cn", 8883)
    assert settings.page.port == 8088
    assert "2468" not in repr(settings)
    assert "xxxx" not in repr(settings)
    out = subprocess.check_output([console("tianmai-edge"), "check", tmp_path / "gateway.toml"], text=True)
    assert "modbus" in out


def test_the_ten_line_client_in_the_readme_is_understood(tmp_path, mosquitto_broker):
    code = block("python", README)
    assert len([line for line in code.splitlines() if line]) <= 10
    (tmp_path / "client.py").write_text(code)
    cloud, found = LoopbackCloud("127.0.0.1", mosquitto_broker.port), []
    cloud._client.on_message = lambda _c, _u, message: found.append((message.topic, decode_pack(message.payload)))
    assert cloud._client.is_connected() or cloud.wait(lambda c: c._client.is_connected(), 5)
    subprocess.run(
        [sys.executable, tmp_path / "client.py", "127.0.0.1", str(mosquitto_broker.port)], check=True, timeout=30
    )
    deadline = threading.Event()
    for _ in range(50):
        if len(found) >= 3:
            break
        deadline.wait(0.1)
    cloud.close()
    assert {topic for topic, _ in found} == {"tm/1/gw-007/data"}
    assert [pack.readings[0].value for _, pack in found] == [21.0, 21.5, 22.0]


def test_every_command_of_the_guide_exists():
    for line in set(re.findall(r"`tianmai-edge ((?:spool|rules) \w+|\w+)", GUIDE)):
        with pytest.raises(SystemExit) as caught:
            main([*line.split(), "--help"])
        assert caught.value.code == 0, line


def test_rules_can_be_tried_on_recorded_data(tmp_path):
    rows = [f"{1_795_276_800_000 + n * 60_000},pond1/dissolved_oxygen,{1.9 if n > 9 else 6.0}" for n in range(30)]
    (tmp_path / "log.csv").write_text("\n".join(["time,series,value", *rows]) + "\n")
    command = [console("tianmai-edge"), "rules", "test", tmp_path / "log.csv", "--farm", "fish_pond"]
    lines = [json.loads(line) for line in subprocess.check_output(command, text=True).splitlines()]
    (rang,) = [line for line in lines if line["rule"] == "oxygen-surfacing" and line.get("kind") == "raised"]
    assert rang["at_ms"] == 1_795_276_800_000 + 13 * 60_000
    shown = next(line for line in lines if line["rule"] == "oxygen-surfacing" and "shows" in line)
    assert shown["raised"]


def test_a_reader_who_has_seen_enough_is_no_error():
    command = f"{console('tianmai-edge')} rules explain fish_pond | true"
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert said.stderr == ""


@pytest.mark.parametrize("text", ["", "time,series,value\n", "time,series,value\nx,y,z\n", "a,b\n1,2\n"])
def test_a_wrong_recording_is_one_line_and_exit_2(tmp_path, text, capsys):
    (tmp_path / "log.csv").write_text(text)
    assert main(["rules", "test", str(tmp_path / "log.csv"), "--farm", "fish_pond"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_rules_are_explained_with_their_sources():
    out = subprocess.check_output([console("tianmai-edge"), "rules", "explain", "fish_pond"], text=True)
    assert "hours(do < 5, 24h) > 8" in out
    assert "GB 11607" in out


def test_systemd_hears_ready_alive_and_stopping_but_not_when_somebody_hangs(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(2)
        dog = Watchdog(str(tmp_path / "notify"), patience_s=10)
        dog.ready()
        dog.progress("loop", 100.0)
        dog.progress("bus", 100.0)
        assert dog.feed(105.0)
        dog.progress("loop", 112.0)
        assert not dog.feed(112.0)
        assert dog.late(112.0) == ["bus"]
        dog.stopping()
        assert [systemd.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_without_systemd_the_watchdog_is_silent_and_a_gone_socket_is_survived(tmp_path):
    Watchdog("").ready()
    Watchdog(str(tmp_path / "gone")).ready()


def test_the_agent_imports_neither_numpy_nor_a_web_framework():
    heavy = {"numpy", "fastapi", "pydantic", "sqlalchemy", "serial"}
    code = f"import sys, edge.__main__; print(sorted({heavy!r} & set(sys.modules)))"
    out = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=Path("/"))
    assert out.strip() == "[]"
