"""Issue 2, "Pond log": the short form of `./dev bench pond`, on the real log and on one made to be nasty."""

import json
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "benchmarks" / "pond.py"
HARNESS = BENCH.parents[1] / "harness"


def bench(tmp_path, log, *options, zone="Asia/Shanghai"):
    out = tmp_path / "result.json"
    command = [sys.executable, str(BENCH), "--data", str(log), "--zone", zone, "--json", str(out), *options]
    env = {"PYTHONPATH": str(HARNESS), "PYTHONSAFEPATH": "1", "PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(out.read_text())["figures"], done.stdout


@pytest.mark.slow
def test_the_real_pond_log_arrives_whole_although_both_ends_are_killed(shared_data, tmp_path):
    log = shared_data / "edge" / "aquaculture_water_30cm.csv"
    figures, _ = bench(tmp_path, log, "--kills", "1", "--seconds", "8")
    assert (figures["lost"], figures["duplicated"], figures["kills"]) == (0, 0, 2)
    assert figures["sent"] > 20_000


@pytest.mark.slow
def test_a_log_without_a_column_and_with_second_values_is_stored_once_and_the_rest_listed(tmp_path):
    chance = random.Random(5)
    start = datetime(2021, 10, 30, 22, 0, tzinfo=UTC)  # the night the clocks of Berlin go back
    lines = ["Date,pH,Colour"]
    for minute in range(400):
        step = chance.choice([0, 0, 1, 1, 1, 30, -7])
        start += timedelta(minutes=step)
        lines.append(f"{start:%Y-%m-%d %H:%M:%S},{chance.choice(['7.1', '7.2', ' 7.3', '', 'broken', 'nan'])},{minute}")
    log = tmp_path / "nasty.csv"
    log.write_text("\n".join(lines) + "\n", "utf-8")
    figures, out = bench(tmp_path, log, "--kills", "0", "--seconds", "1", zone="Europe/Berlin")
    assert (figures["lost"], figures["duplicated"], figures["conflicts_swallowed"]) == (0, 0, 0)
    assert figures["conflicts"] == out.count("conflict: ") > 5
