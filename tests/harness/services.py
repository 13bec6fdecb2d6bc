"""The real services that tests and benchmarks talk to: Debian's mosquitto and PostgreSQL, on loopback only.

Each is a context manager around a process of ours in a folder of its own; several can run side by side.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from processes import Child, free_port

_ROOM = 4 * 1024**3
_OFF_PATH = ("/usr/local/bin", "/usr/sbin", "/sbin", "/usr/local/sbin")


class ProgramMissing(Exception):
    """A program is not on this machine."""


def find_program(name: str) -> str:
    """The path of a program, also from the places that Debian keeps off an ordinary user's PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    places = [*os.get_exec_path(), *_OFF_PATH, *map(str, versions)]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise ProgramMissing(f"{name} is not installed")
    return found


class Mosquitto(Child):
    """A mosquitto with its own folder; retained messages and sessions survive ``stop`` but, by default, not ``kill``.

    ``port`` stays the same over restarts. ``settings`` are further lines of its configuration file.
    """

    def __init__(self, folder: Path, *, settings: str = "") -> None:
        self.port = free_port()
        config = folder / "mosquitto.conf"
        # As root it would change to a user who may not write here, and lose its state with a mere log line.
        user = "user root\n" if os.geteuid() == 0 else ""
        door = f"listener {self.port} 127.0.0.1\n" + ("" if "allow_anonymous" in settings else "allow_anonymous true\n")
        config.write_text(f"{user}{door}persistence true\npersistence_location {folder}/\n{settings}")
        super().__init__([find_program("mosquitto"), "-c", config], log=folder / "mosquitto.log")

    def start(self) -> "Mosquitto":
        """Start it and wait until it accepts connections."""
        super().start()
        return self.wait_for_port(self.port)


def _memory() -> str | None:
    """A folder that lies in memory, where there is one with room: a hundred thousand small files are quickly gone."""
    shared = "/dev/shm"
    try:
        return shared if shutil.disk_usage(shared).free > _ROOM and os.access(shared, os.W_OK) else None
    except OSError:
        return None


@contextlib.contextmanager
def postgres(*, durable: bool = False) -> Iterator[str]:
    """A fresh PostgreSQL, by default without durability; yields its SQLAlchemy URL (``postgresql+psycopg://…``)."""
    initdb, server = find_program("initdb"), find_program("postgres")
    # It refuses root, and every parent folder must be open to the user it runs as: pytest's tmp_path is not.
    who = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    place = None if durable else _memory()
    with tempfile.TemporaryDirectory(prefix="tianmai-pg-", dir=place, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if who:
            shutil.chown(data, **who)
        groups = {"extra_groups": []} if who else {}
        making = [initdb, "-D", data, "-A", "trust", "--no-sync", "--locale=C.UTF-8", "-U", "tianmai"]
        subprocess.run(making, check=True, capture_output=True, cwd=folder, **who, **groups)
        port = free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "on" if durable else "off",
        }
        settings = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        with Child([server, "-D", data, *settings], log=folder / "log", cwd=folder, **who) as child:
            child.wait_for_port(port)
            yield f"postgresql+psycopg://tianmai@127.0.0.1:{port}/postgres"
