import socket
import subprocess
import sys

import pytest
from processes import free_port

from cloud.problems import Unavailable
from cloud.supervisor import _only_run_of


def test_a_second_run_on_the_same_folder_is_refused_before_it_touches_anything(tmp_path):
    var = tmp_path / "var"
    with _only_run_of(var):
        before = sorted(path.name for path in var.iterdir())
        command = [sys.executable, "-m", "cloud", "run", "--var", str(var), "--port", "0"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 2
        assert second.stderr.splitlines()[-1].startswith("error: another run uses")
        assert sorted(path.name for path in var.iterdir() if path.name != "logs") == before


def test_the_folder_is_free_again_after_a_run(tmp_path):
    with _only_run_of(tmp_path):
        pass
    with _only_run_of(tmp_path), pytest.raises(Unavailable):  # noqa: SIM117 - the second is the one to fail
        with _only_run_of(tmp_path):
            pass


SERVE_ONCE = """
import pathlib, sys
from cloud.settings import Settings
from cloud.supervisor import Server
from cloud.wiring import build
services = build(Settings(var=pathlib.Path(sys.argv[1]), http_port=int(sys.argv[2])))
with Server(services):
    pass
services.close()
"""


def test_a_server_that_ends_leaves_nothing_on_the_terminal(tmp_path):
    command = [sys.executable, "-c", SERVE_ONCE, str(tmp_path), str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr == ""


def test_a_port_that_is_taken_is_the_last_thing_that_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "cloud", "serve", "--var", str(tmp_path), "--port", str(port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    said = [line for line in ended.stderr.splitlines() if " INFO " not in line]
    assert len(said) == 2
    assert "address already in use" in said[0]
    assert said[1].startswith("error: the web server did not start")
