"""thingsboard-gateway, the peer that the edge benchmark compares with: in a virtual environment of its own under var/.

It never enters dev.lock. Without it, or without a network to install it, the comparison is refused in one line.
"""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import ROOT
from processes import Child

_HOME = ROOT / "var" / "peers" / "thingsboard-gateway"
_WANTED = "thingsboard-gateway>=3.8,<3.9"


class Peer:
    """One gateway that reads topic ``peer/data`` from the broker on ``port`` and keeps it in SQLite.

    ``server`` is the port of another broker, its ThingsBoard: before it has once been connected it stores nothing.
    """

    def __init__(self, folder: Path, port: int, *, server: int) -> None:
        self._folder, self._python = folder, _installed()
        shown = subprocess.check_output(
            [self._python, "-c", "from importlib.metadata import version; print(version('thingsboard-gateway'))"]
        )
        self.version = shown.decode().strip()
        (folder / "config").mkdir(parents=True)
        (folder / "logs").mkdir()
        (folder / "data").mkdir()
        self._write("tb_gateway.json", _gateway(folder, server))
        self._write("mqtt.json", _connector(port))
        self._write("logs.json", _logs(folder))

    @contextmanager
    def start(self) -> Iterator[Child]:
        """Run it."""
        config = {"TB_GW_CONFIG_DIR": str(self._folder / "config")}
        command = [self._python, "-c", "from thingsboard_gateway.tb_gateway import main; main()"]
        with Child(command, log=self._folder / "out.log", cwd=self._folder, env=config) as child:
            yield child

    @staticmethod
    def message(number: int) -> tuple[str, str]:
        """Topic and payload of one reading."""
        return "peer/data", json.dumps({"temperature": 20 + number % 50 / 10})

    def kept(self) -> int:
        """Readings in its database, whoever reads it next."""
        found = 0
        for path in (self._folder / "data").glob("*.db"):
            with sqlite3.connect(path) as database:
                for (text,) in database.execute("SELECT message FROM messages"):
                    found += text.count('"temperature"')
        return found

    def _write(self, name: str, document: object) -> None:
        (self._folder / "config" / name).write_text(json.dumps(document))


def _installed() -> str:
    python = _HOME / "bin" / "python"
    if not (_HOME / "bin" / "thingsboard-gateway").exists():
        subprocess.run([sys.executable, "-m", "venv", _HOME], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", _WANTED], check=True)
    return str(python)


def _gateway(folder: Path, server: int) -> dict[str, object]:
    return {
        "thingsboard": {
            "host": "127.0.0.1",
            "port": server,
            "remoteShell": False,
            "remoteConfiguration": False,
            "statistics": {"enable": False},
            "security": {"type": "accessToken", "accessToken": "bench"},
            "qos": 1,
        },
        "storage": {"type": "sqlite", "data_file_path": f"{folder}/data/data.db"},
        "grpc": {"enabled": False},
        "connectors": [{"type": "mqtt", "name": "bench", "configuration": "mqtt.json"}],
    }


def _connector(port: int) -> dict[str, object]:
    named = {"deviceNameExpressionSource": "constant", "deviceNameExpression": "bench"}
    profile = {"deviceProfileExpressionSource": "constant", "deviceProfileExpression": "default"}
    series = [{"type": "double", "key": "temperature", "value": "${temperature}"}]
    converter = {"type": "json", "deviceInfo": named | profile, "attributes": [], "timeseries": series}
    return {
        "broker": {
            "host": "127.0.0.1",
            "port": port,
            "clientId": "bench-peer-in",
            "version": 5,
            "maxMessageNumberPerWorker": 10,
            "maxNumberOfWorkers": 100,
            "security": {"type": "anonymous"},
        },
        "mapping": [{"topicFilter": "peer/data", "subscriptionQos": 1, "converter": converter}],
    }


def _logs(folder: Path) -> dict[str, object]:
    file = {"class": "logging.FileHandler", "filename": f"{folder}/logs/all.log", "level": "WARNING"}
    return {"version": 1, "disable_existing_loggers": False, "handlers": {"file": file}, "root": {"handlers": ["file"]}}
