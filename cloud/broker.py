"""The embedded MQTT broker: mosquitto when it is on the PATH, else amqtt, always on loopback only.

Either is for one machine. amqtt speaks MQTT 3.1.1 only, forgets queued messages of sleeping sessions and may hand out
stray retained messages; Tianmai's protocol survives all three because the cloud's watermark, not the broker, is the
promise. It is a demonstration, not a recommendation: `docs/operating.md` says what to run instead.
"""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

from cloud.problems import Invalid

__all__ = ["broker_command", "serve_amqtt"]


def broker_command(directory: Path, port: int, kind: str = "auto") -> list[str]:
    """The command line of a broker on `127.0.0.1:port` that keeps its state below `directory`.

    `kind` is `mosquitto`, `amqtt`, or `auto` for the first of them that is there. Raises `Invalid` for another kind or
    a mosquitto that is not installed.
    """
    if kind not in {"auto", "mosquitto", "amqtt"}:
        raise Invalid(f"no broker named {kind}: use mosquitto, amqtt or auto")
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if kind == "mosquitto" and program is None:
        raise Invalid("mosquitto is not on the PATH: install it, or use the broker kind amqtt")
    if kind == "amqtt" or program is None:
        return [sys.executable, "-m", "cloud.broker", str(port)]
    directory.mkdir(parents=True, exist_ok=True)
    return [program, "-c", str(_mosquitto_file(directory, port))]


def _mosquitto_file(directory: Path, port: int) -> Path:
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "persistence true",
        f"persistence_location {directory.resolve()}/",
        "log_type error",
        "log_type warning",
    ]
    if os.geteuid() == 0:
        # Else it drops to its own user and cannot save its state into a directory of root's.
        lines.append("user root")
    file = directory / "mosquitto.conf"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def serve_amqtt(port: int) -> None:
    """Run amqtt on `127.0.0.1:port` until SIGINT or SIGTERM."""
    asyncio.run(_amqtt(port))


async def _amqtt(port: int) -> None:
    from amqtt.broker import Broker  # noqa: PLC0415 - mosquitto's users need not load it

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 500}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await broker.start()
    await stop.wait()
    await broker.shutdown()


if __name__ == "__main__":
    serve_amqtt(int(sys.argv[1]))
