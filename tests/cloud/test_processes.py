import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloud.problems import Unavailable
from cloud.processes import Family, free_port, wait_for_port


def gone(pid, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            with Path(f"/proc/{pid}/stat").open() as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_leaving_the_family_ends_every_child_even_a_deaf_one(tmp_path):
    deaf = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with Family() as family:
        child = family.start("deaf", [sys.executable, "-c", deaf], tmp_path / "deaf.log")
        while "up" not in child.last_words():
            time.sleep(0.02)
        family.children[0].stop(patience_s=0.2)
        pid = child.process.pid
    assert gone(pid)


def test_a_dead_child_is_started_again(tmp_path):
    with Family() as family:
        child = family.start("short", [sys.executable, "-c", "print('bye')"], tmp_path / "short.log")
        child.process.wait()
        family.mend()
        assert child.restarts == 1


def test_a_child_dies_with_a_killed_parent(tmp_path):
    script = f"""
import sys, time
from pathlib import Path
from cloud.processes import Family
family = Family()
child = family.start("kid", [sys.executable, "-c", "import time; time.sleep(60)"], Path({str(tmp_path / "kid.log")!r}))
print(child.process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert gone(pid)


def test_a_child_that_never_listens_is_reported_with_its_last_words(tmp_path):
    with Family() as family:
        child = family.start("mute", [sys.executable, "-c", "print('no licence')"], tmp_path / "mute.log")
        with pytest.raises(Unavailable, match="no licence"):
            wait_for_port(child, free_port(), timeout_s=5)


def test_a_taken_port_is_replaced_by_a_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
