"""The ground the other tests stand on: services that are real, a network that ends here, figures that are judged."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from processes import Child, ProcessError, free_port, is_listening, wait_until

ROOT = Path(__file__).resolve().parents[2]


def test_a_connection_beyond_this_machine_is_refused():
    with socket.socket() as probe, pytest.raises(OSError, match="may not leave this machine"):
        probe.connect(("192.0.2.1", 80))


def test_a_library_cannot_look_up_a_foreign_name():
    with pytest.raises(OSError, match=r"may not leave .*example\.org"):
        urllib.request.urlopen("http://example.org/")


def test_the_zone_is_nobodys_own():
    assert time.localtime(0).tm_gmtoff == 5 * 3600 + 45 * 60


def test_mosquitto_comes_back_on_its_port_after_a_kill(mosquitto_broker):
    assert is_listening(mosquitto_broker.port)
    mosquitto_broker.kill()
    assert not is_listening(mosquitto_broker.port)
    mosquitto_broker.start()
    assert is_listening(mosquitto_broker.port)
    assert mosquitto_broker.kills == 1


@pytest.mark.parametrize("round_number", [1, 2])
def test_each_test_gets_an_empty_postgresql(postgres_url, round_number):
    import sqlalchemy  # noqa: PLC0415 - after the skip

    engine = sqlalchemy.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table once (n int)")
    engine.dispose()


def test_a_child_that_dies_is_reported_with_its_log(tmp_path):
    program = [sys.executable, "-c", "raise SystemExit('the pond is empty')"]
    with Child(program, log=tmp_path / "log") as child, pytest.raises(ProcessError, match="the pond is empty"):
        child.wait_for_port(free_port())


def test_descendants_die_with_a_child(tmp_path):
    port = free_port()
    server = f"import http.server; http.server.HTTPServer(('127.0.0.1', {port}), None).serve_forever()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {server!r}])"
    with Child([sys.executable, "-c", parent], log=tmp_path / "log") as child:
        child.wait_for_port(port)
    wait_until(lambda: not is_listening(port), "the server outlived its parent", within_s=5)


def report(folder, body, *args):
    """Run a bench or conform program made of ``body``; its exit code and its last line."""
    program = folder / "program.py"
    program.write_text(f"import sys\nfrom measuring import bench, conform\n{body}\n")
    path = {"PYTHONPATH": str(ROOT / "tests" / "harness"), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, program, *args], env={**os.environ, **path}, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_a_bench_that_meets_its_targets_passes(tmp_path):
    body = """def measure(args, report):
    report.figure("lost", 0, exactly=0)
    report.figure("rate", 12.5, at_least=10, at_most=20)
sys.exit(bench("pond", measure))"""
    code, result = report(tmp_path, body, "--json", str(tmp_path / "out.json"))
    assert code == 0
    assert set(result) == {"name", "passed", "figures", "environment"}
    assert result["passed"] is True
    assert result["figures"] == {"lost": 0, "rate": 12.5}
    assert result["environment"]["versions"]["numpy"]
    assert json.loads((tmp_path / "out.json").read_text()) == result


@pytest.mark.parametrize("call", ["'rate', 9, at_least=10", "'rate', float('nan'), at_least=0", "'rate', 1, exactly=0"])
def test_a_bench_that_misses_a_target_fails(tmp_path, call):
    code, result = report(tmp_path, f"sys.exit(bench('x', lambda args, report: report.figure({call})))")
    assert (code, result["passed"]) == (1, False)


def test_a_bench_that_stops_keeps_what_it_had_measured(tmp_path):
    body = """def measure(args, report):
    report.figure("sent", 7)
    raise RuntimeError("the broker is gone")
sys.exit(bench("x", measure))"""
    code, result = report(tmp_path, body)
    assert (code, result["passed"], result["figures"]) == (1, False, {"sent": 7})


def test_conform_counts_cases_and_names_absent_sets(tmp_path):
    body = """def score(args, report):
    with report.cases("codes") as judge:
        judge("good", lambda: True)
        judge("wrong", lambda: False)
        judge("crashed", lambda: 1 / 0)
    with report.cases("absent", at_least=1.0):
        pass
    report.figure("f1", 0.9, cases=10, wrong=2, at_least=0.8)
sys.exit(conform("x", score, default="edge"))"""
    code, result = report(tmp_path, body, "--data", str(tmp_path), "--train", str(tmp_path))
    assert code == 0
    assert result["figures"] == {
        "codes": pytest.approx(1 / 3),
        "codes_cases": 3,
        "absent": None,
        "absent_cases": 0,
        "f1": 0.9,
        "f1_cases": 10,
        "failed": 4,
    }


def test_conform_on_an_empty_folder_is_a_failure(tmp_path):
    body = "sys.exit(conform('x', lambda args, report: None, default='edge'))"
    code, result = report(tmp_path, body, "--data", str(tmp_path), "--train", str(tmp_path))
    assert (code, result["passed"]) == (1, False)


@pytest.mark.parametrize("job", ["bench", "conform"])
def test_an_unknown_program_gets_one_line_naming_the_known_ones(job):
    done = subprocess.run([ROOT / "dev", job, "no-such"], capture_output=True, text=True)
    assert done.returncode == 2
    folder = {"bench": "benchmarks", "conform": "conformance"}[job]
    known = sorted(path.stem for path in (ROOT / "tests" / folder).glob("*.py"))
    assert done.stderr == f"dev: no {job} named 'no-such'; there are: {', '.join(known) or 'none'}\n"
