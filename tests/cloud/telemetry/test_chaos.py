"""Agent, broker and ingest are killed at random, and nothing is lost: one seed of `./dev bench chaos`.

Three seeds would take two minutes of every run; the bench takes as many as it is told.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]


def test_random_kills_lose_and_double_nothing(tmp_path, need_program):
    need_program("mosquitto")
    written = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-P", TESTS / "benchmarks" / "chaos.py", "--seeds", "1", "--json", written],
        env=os.environ | {"PYTHONPATH": str(TESTS / "harness")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(written.read_text())["passed"] is True
