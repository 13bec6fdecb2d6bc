"""What every test can count on: a fixed zone, no network beyond this machine, fresh kernels, and real services.

A test that needs a program or data that is absent skips and says why; `--no-skip-services` (CI) makes an absent
program a failure, because there it would mean that nobody tests the real thing.
"""

import errno
import hashlib
import ipaddress
import os
import sys
import time
import uuid
from pathlib import Path

import hypothesis
import pytest
from services import Mosquitto, ProgramMissing, find_program, postgres

ROOT = Path(__file__).resolve().parents[1]


def fix_the_zone():
    """Run in a zone that is neither UTC nor China's: whoever relies on the machine's zone is found out."""
    os.environ["TZ"] = "<+0545>-05:45"
    time.tzset()


def choose_kernel_cache():
    """Keep compiled kernels between runs, but never those of another state of the sources.

    numba looks only at the date of the file, and not at the flags it was compiled with: after a change it would
    silently run the old machine code. The kernels stand in two files, with their flags, and import none of the others.
    """
    files = (ROOT / "remote_sensing" / name for name in ("kernels.py", "synthetic/paint.py"))
    state = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    os.environ["NUMBA_CACHE_DIR"] = str(ROOT / ".pytest_cache" / "numba" / state)


def keep_browsers_out_of_home():
    """Chromium files its crash reports and caches here, not in the home of whoever runs the tests."""
    os.environ["CHROME_CONFIG_HOME"] = str(ROOT / ".pytest_cache" / "chromium")
    os.environ.setdefault("XDG_CACHE_HOME", str(ROOT / ".pytest_cache" / "cache"))


def choose_examples():
    """Few examples while developing; more, and the same ones on every run, in CI."""
    hypothesis.settings.register_profile("dev", max_examples=50, deadline=None)
    hypothesis.settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
    hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def stay_on_this_machine(event, arguments):
    """Audit hook: refuse connections and name look-ups that would leave the machine, also those made by libraries."""
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path or None: a Unix socket, a connected one
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if not is_this_machine(host):
        # What a machine without a network would say: a library that merely probes can cope with that.
        raise OSError(errno.ENETUNREACH, f"a test may not leave this machine: {event} {host!r}")


def is_this_machine(host):
    """Whether a host as given to a socket call means loopback (or no host at all)."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name in (None, "", "localhost", "0.0.0.0", "::"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def pytest_addoption(parser):
    parser.addoption(
        "--no-skip-services",
        action="store_true",
        help="fail, not skip, where a program that a test needs is not installed",
    )


def pytest_configure(config):
    fix_the_zone()
    choose_kernel_cache()
    keep_browsers_out_of_home()
    choose_examples()
    sys.addaudithook(stay_on_this_machine)


@pytest.fixture(autouse=True)
def close_idle_connections():
    """A test that opens a database need not close its pool: CPython 3.13 counts what is left open as a warning."""
    if "sqlalchemy" not in sys.modules:
        yield
        return
    from sqlalchemy import Engine, event  # noqa: PLC0415 - only where a test's module has asked for it

    used = set()

    def note(connection):
        used.add(connection.engine)

    event.listen(Engine, "engine_connect", note)
    yield
    event.remove(Engine, "engine_connect", note)
    for engine in used:
        engine.dispose()


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data beside the checkout; the test skips where there is none."""
    folder = Path(os.environ.get("TIANMAI_SHARED", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def need_program(request):
    """A function from a program's name to its path; skips, or fails with --no-skip-services, where it is missing."""

    def path_of(name):
        try:
            return find_program(name)
        except ProgramMissing as why:
            if request.config.getoption("--no-skip-services"):
                pytest.fail(str(why))
            pytest.skip(str(why))

    return path_of


@pytest.fixture
def mosquitto_broker(need_program, tmp_path):
    """A real broker of this test's own; it can be killed and started again on the same ``port``."""
    need_program("mosquitto")
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    with Mosquitto(folder) as broker:
        yield broker


@pytest.fixture(scope="session")
def postgres_server(need_program):
    """The URL of one PostgreSQL for the whole session."""
    need_program("initdb")
    need_program("postgres")
    with postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server):
    """The SQLAlchemy URL of an empty schema of this test's own; a database each would be copied file by file."""
    import psycopg  # noqa: PLC0415 - most tests never need it

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"create schema {name}")
    return f"{postgres_server}?options=-csearch_path%3D{name}"
