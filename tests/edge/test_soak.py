"""An hour without a broker and an hour at 1,000 times the speed of life, under 96 MB: `./dev bench soak --hours 1`."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_an_hour_without_network_and_an_hour_of_life_lose_nothing_under_a_limit_of_96_mb(tmp_path, need_program):
    need_program("mosquitto")
    written = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-P", TESTS / "benchmarks" / "soak.py", "--hours", "1", "--json", written],
        env=os.environ | {"PYTHONPATH": str(TESTS / "harness")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    figures = json.loads(written.read_text())["figures"]
    assert figures["week_lost"] == figures["soak_lost"] == 0
    assert figures["soak_readings"] > 100
