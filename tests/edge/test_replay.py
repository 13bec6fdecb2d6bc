"""A recorded log arrives whole, with its own times, however often the sender is killed."""

import csv
import json
import random
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from processes import console

from edge.__main__ import main
from edge.loopback import LoopbackCloud
from edge.pond_log import LogError, Report, parse_local, read_log

SHANGHAI = ZoneInfo("Asia/Shanghai")
COLUMNS = {"Temperature": "water_temperature", "pH": "ph", "Turbidity": "turbidity"}


def write_log(path, rows, header="Date,Temperature,pH,Turbidity"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def rows_of(path):
    report, warnings = Report(), []
    return list(read_log(path, SHANGHAI, "pond1", report, warnings.append)), report, warnings


def expected(path, gateway):
    """What must be in the store, read by other means than the product's."""
    first, conflicts = {}, 0
    with path.open(encoding="utf-8") as log:
        for row in csv.DictReader(log):
            local = datetime.strptime(row["Date"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=SHANGHAI)
            for column, name in COLUMNS.items():
                if row.get(column):
                    key = (gateway, f"pond1/{name}", round(local.timestamp() * 1000))
                    conflicts += first.setdefault(key, float(row[column])) != float(row[column])
    return first, conflicts


def replay(log, port, spool, *options):
    command = [console("tianmai-edge"), "replay", log, "--zone", "Asia/Shanghai", "--gateway", "pond-9"]
    command += ["--broker", f"127.0.0.1:{port}", "--spool", spool, "--wait", "--timeout", "60", *options]
    return [str(part) for part in command]


def test_local_times_become_utc_milliseconds():
    assert parse_local("2020-01-15 16:00:35", SHANGHAI) == 1579075235000
    assert parse_local("2020-01-15T16:00:35.250", SHANGHAI) == 1579075235250
    assert parse_local("2020-01-15 16:00:35+00:00", SHANGHAI) == 1579104035000
    with pytest.raises(ValueError, match="isoformat"):
        parse_local("yesterday", SHANGHAI)


def test_backward_steps_repeats_and_gaps_are_sent_as_they_are(tmp_path):
    log = write_log(
        tmp_path / "log.csv",
        ["2020-01-15 16:00:35,20.9,7.8,197", "2020-01-15 15:00:00,21,7.8,197", "2020-01-15 15:00:00,22,7.8,197"],
    )
    rows, report, warnings = rows_of(log)
    assert [row.readings[0].value for row in rows] == [20.9, 21.0, 22.0]
    assert rows[1].readings[0].time_ms == rows[2].readings[0].time_ms < rows[0].readings[0].time_ms
    assert (report.rows, report.bad_rows, warnings) == (3, 0, [])


def test_missing_columns_and_cells_are_fine_and_unknown_columns_are_named_in_one_line(tmp_path):
    log = write_log(
        tmp_path / "log.csv", ["2020-01-15 16:00:35,7.8,x,", "2020-01-15 16:01:35"], "Date,pH,Mood,Turbidity"
    )
    rows, report, warnings = rows_of(log)
    assert [[reading.name for reading in row.readings] for row in rows] == [["pond1/ph"], []]
    assert warnings == ["columns left out: 'Mood'"]
    assert report.bad_rows == 0


def test_bad_rows_and_cells_are_named_by_line_and_left_out(tmp_path):
    log = write_log(
        tmp_path / "log.csv",
        ["2020-13-45 99:00:00,1,2,3", "", "2020-01-15 16:00:35,nan,7.8,abc", "2020-01-15 16:01:00,20,7,1"],
    )
    rows, report, warnings = rows_of(log)
    assert [len(row.readings) for row in rows] == [0, 1, 3]
    assert (report.bad_rows, report.bad_cells) == (1, 2)
    assert [text.split(":")[0] for text in warnings] == ["line 2", "line 4", "line 4"]


def test_a_value_outside_the_physical_range_is_flagged_and_kept(tmp_path):
    rows, _, _ = rows_of(write_log(tmp_path / "log.csv", ["2020-01-15 16:00:35,-327.68,7.8,197"]))
    assert [(r.value, int(r.quality)) for r in rows[0].readings] == [(-327.68, 5), (7.8, 0), (197.0, 0)]


@pytest.mark.parametrize("header", ["When,pH", "Date", "Date,Mood", ""])
def test_a_log_without_known_columns_is_refused(tmp_path, header):
    with pytest.raises(LogError):
        rows_of(write_log(tmp_path / "log.csv", [], header))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"file": "absent.csv"}, "absent.csv: cannot read"),
        ({"zone": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
        ({"gateway": "Pond One"}, "gateway id"),
        ({"broker": "ftp://x"}, "--broker"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_2(tmp_path, change, says, capsys):
    log = write_log(tmp_path / "log.csv", ["2020-01-15 16:00:35,20,7,1"])
    args = {"file": str(log), "zone": "Asia/Shanghai", "gateway": "pond-9", "broker": "127.0.0.1:1"} | change
    command = ["replay", args["file"], "--zone", args["zone"], "--gateway", args["gateway"]]
    assert main([*command, "--broker", args["broker"], "--spool", str(tmp_path / "spool")]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert len(told.splitlines()) == 1


def test_a_log_of_which_nothing_is_readable_is_exit_2(tmp_path, mosquitto_broker):
    log = write_log(tmp_path / "log.csv", ["never,20,7,1", "soon,20,7,1"])
    command = replay(log, mosquitto_broker.port, tmp_path / "spool")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "none of its 2 rows" in done.stderr


def test_a_killed_replay_goes_on_where_it_was_and_every_row_has_one_number(tmp_path, mosquitto_broker):
    luck = random.Random(7)
    times = [datetime(2020, 1, 15, 16, tzinfo=UTC) + timedelta(seconds=20 * n) for n in range(3000)]
    rows = [f"{at:%Y-%m-%d %H:%M:%S},{luck.uniform(18, 25):.2f},7.8,{n % 300}" for n, at in enumerate(times)]
    rows[100] = rows[99].replace(",7.8,", ",7.9,")  # equal time, other value: both are sent
    log, spool = write_log(tmp_path / "log.csv", rows), tmp_path / "spool"
    want, conflicts = expected(log, "pond-9")
    cloud = LoopbackCloud("127.0.0.1", mosquitto_broker.port)
    kills = 0
    while True:
        process = subprocess.Popen(replay(log, mosquitto_broker.port, spool, "--pack", "9"), stdout=subprocess.PIPE)
        try:
            out, _ = process.communicate(timeout=luck.uniform(0.35, 0.6) if kills < 4 else 60)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    cloud.close()
    assert process.returncode == 0
    assert json.loads(out)["settled"]
    assert {key: reading.value for key, reading in cloud.readings.items()} == want
    assert len(cloud.conflicts) == conflicts > 0
    assert len(cloud.pack_numbers) == 1000


def test_the_real_pond_log_arrives_whole(tmp_path, mosquitto_broker, shared_data):
    logs = sorted(Path(shared_data, "edge").glob("aquaculture*.csv"))
    if not logs:
        pytest.skip("no pond log in the shared data")
    cloud = LoopbackCloud("127.0.0.1", mosquitto_broker.port)
    began = time.monotonic()
    command = replay(logs[0], mosquitto_broker.port, tmp_path / "spool")
    subprocess.run(command, check=True, capture_output=True, timeout=90)
    cloud.close()
    want, conflicts = expected(logs[0], "pond-9")
    assert {key: reading.value for key, reading in cloud.readings.items()} == want
    assert len(cloud.conflicts) == conflicts
    assert time.monotonic() - began < 60
