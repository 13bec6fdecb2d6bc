"""What is shipped: one wheel of exactly four packages, and a gateway that needs next to nothing of it."""

import email
import hashlib
import json
import re
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest
from processes import Child, free_port

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"edge", "cloud", "traceability", "remote_sensing"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The distribution, built from this checkout without isolation."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def gateway(wheel, tmp_path_factory):
    """The Python of a fresh environment that holds the wheel with the extra [edge], and its locked needs, only."""
    folder = tmp_path_factory.mktemp("gateway")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    blocks = re.split(r"^(?=\S)", (ROOT / "dev.lock").read_text(), flags=re.MULTILINE)
    paho = next(block for block in blocks if block.startswith("paho-mqtt=="))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    requirements = folder / "requirements.txt"
    requirements.write_text(paho)
    pip = [python, "-m", "pip", "install", "-q", "--no-cache-dir", "--require-hashes", "-r", requirements]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index can be reached: {done.stderr.strip().splitlines()[-1]}")
    # With no index, anything that [edge] asks for beyond what is installed would be an error here.
    requirements.write_text(f"{paho}\ntianmai[edge] @ {wheel.as_uri()} --hash=sha256:{digest}\n")
    done = subprocess.run([*pip, "--no-index"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return python


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert not [name for name in names if "node_modules" in name or name.startswith("cloud/frontend")]


def test_the_wheel_carries_the_data_of_its_packages(wheel):
    listing = subprocess.run(["git", "ls-files", "-z", *PACKAGES], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    tracked = {name for name in listing.stdout.split("\0") if name and (ROOT / name).exists()}
    with zipfile.ZipFile(wheel) as archive:
        missing = {name for name in tracked if not name.startswith("cloud/frontend/")} - set(archive.namelist())
    assert not missing


def test_the_wheel_carries_the_bundle_of_the_front_end(wheel):
    bundle = ROOT / "cloud" / "pages" / "static" / "dist"
    if not bundle.exists():
        pytest.skip("the front end was not built: run ./dev setup")
    built = {str(path.relative_to(ROOT)) for path in bundle.rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        assert built <= set(archive.namelist())


def test_the_distribution_itself_needs_nothing(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("METADATA"))
        head = email.message_from_bytes(archive.read(metadata))
    assert [line for line in head.get_all("Requires-Dist") if "extra ==" not in line] == []
    assert {"edge", "traceability", "remote-sensing", "cloud"} <= set(head.get_all("Provides-Extra"))


@pytest.mark.slow
def test_a_gateway_gets_by_on_its_own_extra(gateway, tmp_path):
    done = subprocess.run([gateway.with_name("tianmai-edge"), "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listing = subprocess.run([gateway, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True)
    names = {line.partition("==")[0] for line in listing.stdout.splitlines()}
    assert names - {"pip", "setuptools"} == {"paho-mqtt", "tianmai"}


@pytest.mark.slow
def test_the_agent_runs_on_its_own_extra_and_loads_nothing_heavy(gateway, tmp_path):
    """No broker listens: it goes on spooling, ends on SIGTERM, and what it kept can be read back."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[gateway]\nid = "pond-1"\nfarm = "fish_pond"\nsecret_file = "secret"\ntimezone = "Asia/Shanghai"\n'
        f'[uplink]\nurl = "mqtt://127.0.0.1:{free_port()}"\n[spool]\ndir = "spool"\n'
        '[[driver]]\nkind = "simulator"\nseed = 4\nspeed = 10.0\n'
    )
    (tmp_path / "secret").write_text("0123456789abcdef" * 4)
    program = (
        "import sys; from edge.__main__ import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    )
    log = tmp_path / "log"
    with Child([gateway, "-c", program, "run", "--config", config], log=log, cwd=tmp_path) as agent:
        agent.wait_until(lambda: list((tmp_path / "spool").glob("*.seg")), "no spool was opened")
        time.sleep(2)  # a few rounds of the simulated sensors; the spool is the agent's own while it runs
        assert agent.stop() == 0, log.read_text()
    tool = [gateway.with_name("tianmai-edge"), "spool", "stat", "spool"]
    stat = json.loads(subprocess.run(tool, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert stat["backlog"] >= 1
    modules = {name.partition(".")[0] for name in log.read_text().splitlines()[-1].split()}
    assert {"edge", "paho"} <= modules
    assert not modules & {"numpy", "fastapi", "pydantic", *(PACKAGES - {"edge"})}
