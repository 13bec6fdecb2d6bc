"""Drivers against real lines: a pseudo-terminal with a slave that misbehaves, files, programs, sockets."""

import itertools
import json
import os
import pty
import sys
import threading
import time
import tty

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import wait_until

from edge.clock import Clock, SystemTime
from edge.drivers.exec_lines import ExecDriver, read_line
from edge.drivers.faulty_slave import FaultySlave
from edge.drivers.lines import SerialLine, TcpLine
from edge.drivers.modbus import Device, ModbusDriver, load_profile, parse_profile
from edge.drivers.modbus_line import (
    READ_HOLDING,
    WRITE_REGISTER,
    ModbusError,
    ask_rtu,
    crc16,
    read_request,
    write_request,
)
from edge.drivers.serial_lines import LineBuffer, PulseCounter, SerialDriver, TagWand, Weighbridge
from edge.drivers.sysfs import File, SysfsDriver, read_file
from edge.quantities import QUANTITIES
from edge.settings import SettingsError
from edge.wire import Quality

CLOCK = Clock(SystemTime())
SOIL = [382, 65501, 411, 68, 12, 3, 40]  # 38.2 %, -3.5 degrees, 411 uS/cm, pH 6.8


@pytest.fixture
def slave():
    slave = FaultySlave(list(SOIL))
    yield slave
    slave.close()


def driver_for(slave, **options):
    line = TcpLine("127.0.0.1", slave.tcp_port) if slave.tcp_port else SerialLine(slave.port)
    device = Device("soil1", 1, load_profile("soil-7in1-a"), 1.0)
    return ModbusDriver("bus", line, [device], CLOCK, tcp=bool(slave.tcp_port), timeout_s=0.15, **options), device


def shown(samples):
    return {sample.name.split("/")[1]: (sample.value, sample.quality) for sample in samples}


class Collector:
    def __init__(self):
        self.samples, self.reports, self.news = [], [], threading.Event()

    def __call__(self, samples, reports=()):
        self.samples += samples
        self.reports += reports
        self.news.set()


def run_for(driver, emit, enough, timeout=8.0):
    stop = threading.Event()
    thread = threading.Thread(target=driver.run, args=(emit, stop), daemon=True)
    thread.start()
    deadline = time.monotonic() + timeout
    while not enough() and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert enough()


def test_the_checksum_is_the_published_one():
    assert crc16(bytes.fromhex("010300000007")).hex() == "0408"


def test_a_soil_probe_is_read_with_its_sign_its_units_and_its_doubts(slave):
    driver, device = driver_for(slave)
    assert shown(driver.poll(device)) == {
        "soil_moisture": (pytest.approx(0.382), Quality.GOOD),
        "soil_temperature": (pytest.approx(-3.5), Quality.GOOD),
        "soil_conductivity": (pytest.approx(0.0411), Quality.GOOD),
        "soil_ph": (pytest.approx(6.8), Quality.GOOD),
        "soil_nitrogen": (12.0, Quality.UNCERTAIN),
        "soil_phosphorus": (3.0, Quality.UNCERTAIN),
        "soil_potassium": (40.0, Quality.UNCERTAIN),
    }


@pytest.mark.parametrize(
    ("mood", "code"),
    [
        ("silent", "silent"),
        ("late", "silent"),
        ("short", "short"),
        ("bad_crc", "bad_crc"),
        ("noise", "bad_crc"),
        ("wrong_slave", "wrong_slave"),
        ("exception", "exception"),
        ("wrong_function", "wrong_function"),
    ],
)
def test_each_way_a_slave_misbehaves_has_its_name_and_leaves_the_line_usable(slave, mood, code):
    driver, device = driver_for(slave)
    slave.mood = mood
    lost = driver.poll(device)
    assert {sample.quality for sample in lost} == {Quality.COMMS_LOST}
    assert {sample.value for sample in lost} == {None}
    assert driver.health.devices["soil1"] == code
    assert driver.poll(device) == [], "one word about a dead device is enough"
    wait_until(lambda: slave.answered == 2, "the slave hangs")
    slave.mood = "good"
    assert shown(driver.poll(device))["soil_ph"] == (pytest.approx(6.8), Quality.GOOD)


def test_an_echoing_adapter_is_tolerated_and_writes_are_not_taken_for_echoes(slave):
    slave.mood = "echo"
    driver, device = driver_for(slave)
    assert shown(driver.poll(device))["soil_ph"][1] is Quality.GOOD
    slave.mood = "good"
    line = SerialLine(slave.port)
    assert ask_rtu(line, 1, write_request(WRITE_REGISTER, 3, 71), timeout_s=0.3)[0] == WRITE_REGISTER
    assert slave.registers[3] == 71
    with pytest.raises(ModbusError, match="exception 2"):
        ask_rtu(line, 1, read_request(READ_HOLDING, 100, 5), timeout_s=0.3)
    line.close()


def test_modbus_tcp_skips_late_answers_by_their_number():
    slave = FaultySlave(list(SOIL), tcp=True)
    try:
        driver, device = driver_for(slave)
        assert shown(driver.poll(device))["soil_moisture"][0] == pytest.approx(0.382)
        slave.mood = "late"
        assert {sample.quality for sample in driver.poll(device)} == {Quality.COMMS_LOST}
        slave.mood = "good"
        time.sleep(0.7)
        slave.registers[3] = 70
        assert shown(driver.poll(device))["soil_ph"] == (pytest.approx(7.0), Quality.GOOD)
        slave.mood = "wrong_slave"
        driver.poll(device)
        assert driver.health.devices["soil1"] == "wrong_slave"
        driver.close()
    finally:
        slave.close()


def test_a_dead_device_is_asked_ever_more_rarely_and_the_others_go_on(slave):
    profile = load_profile("soil-7in1-a")
    dead, alive = Device("dead", 9, profile, 0.05), Device("alive", 1, profile, 0.05)
    driver = ModbusDriver("bus", SerialLine(slave.port), [dead, alive], CLOCK, tcp=False, timeout_s=0.05)
    emit = Collector()
    run_for(driver, emit, lambda: driver.health.ok >= 12)
    assert dead.misses < driver.health.ok
    assert dead.pause_s > alive.pause_s
    assert driver.health.devices == {"dead": "silent", "alive": "ok"}


def test_a_port_that_was_unplugged_is_found_again_under_its_name(tmp_path):
    name = tmp_path / "by-path"
    first = FaultySlave(list(SOIL))
    name.symlink_to(first.port)
    device = Device("soil1", 1, load_profile("soil-7in1-a"), 0.05)
    driver = ModbusDriver("bus", SerialLine(str(name)), [device], CLOCK, tcp=False, timeout_s=0.2)
    assert driver.poll(device)[0].quality is Quality.GOOD
    first.close()
    name.unlink()
    assert {sample.quality for sample in driver.poll(device)} <= {Quality.COMMS_LOST}
    second = FaultySlave(list(SOIL))
    name.symlink_to(second.port)
    deadline = time.monotonic() + 3
    while device.misses and time.monotonic() < deadline:
        driver.poll(device)
    assert device.misses == 0
    second.close()


def test_sentinels_of_a_register_map_are_device_errors():
    profile = load_profile("oxygen-optical")
    words = [0x4104, 0xCCCD, 0xC61C, 0x3C00]  # 8.3 mg/L; -9999.0
    (oxygen, water) = profile.values(0, words)
    assert (round(oxygen[1], 2), oxygen[2]) == (8.3, Quality.GOOD)
    assert (water[1], water[2]) == (-9999.0, Quality.DEVICE_ERROR)


@pytest.mark.parametrize(
    "text",
    [
        "format = 3",
        "[",
        'format = "tianmai-registers@1"\nname = "x"\nread = "coil"\nregister = []',
        'format = "tianmai-registers@1"\nname = "x"\nread = "input"\n[[register]]\nseries = "mood"\naddress = 0',
        (
            'format = "tianmai-registers@1"\nname = "x"\nread = "input"\n[[register]]\nseries = "ph"\naddress = 0\n'
            '[[register]]\nseries = "nitrite"\naddress = 500'
        ),
    ],
)
def test_a_wrong_register_map_is_refused_with_its_name(text):
    with pytest.raises(SettingsError, match=r"x\.toml"):
        parse_profile(text, where="x.toml")


# -- lines ---------------------------------------------------------------------------------------------------


@given(cuts=st.lists(st.integers(0, 60), max_size=12))
def test_lines_are_found_wherever_the_bytes_are_cut(cuts):
    data = b"\x02ST,GS,+  101.5kg\r\nST,GS,+  101.5kg\r\nUS,GS,+ 99kg\r\n"
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    buffer, lines = LineBuffer(), []
    for start, stop in itertools.pairwise(edges):
        lines += buffer.feed(data[start:stop])
    assert lines == ["ST,GS,+  101.5kg", "ST,GS,+  101.5kg", "US,GS,+ 99kg"]


def test_a_weight_is_told_once_when_it_stands_still_and_again_after_the_scale_was_left():
    scale, told = Weighbridge("scale/weight"), []
    for kilograms in (0, 40, 95, 101.2, 101.5, 101.4, 101.4, 101.4, 0, 0, 88.0, 88.1, 88.0):
        told += scale.line(f"ST,GS,+{kilograms:7.1f}kg")[0]
    assert told == [(101.4, Quality.GOOD), (88.0, Quality.GOOD)]
    assert scale.line("US,GS,+ 88.0kg")[0] == []
    assert scale.line("OL,GS,+ 99999kg")[0] == [(99999.0, Quality.OUT_OF_RANGE)]
    assert scale.line("hello")[0] == []
    assert Weighbridge("s", stable=1).line("NT 1.25 t")[0] == [(1250.0, Quality.GOOD)]


@pytest.mark.parametrize(
    ("text", "tag", "country"),
    [
        ("156000001234567", "156000001234567", "156"),
        ("156 000001234567", "156000001234567", "156"),
        ("LA 999_000000000012 0", "999000000000012", None),
        ("15600000123456", None, None),
        ("1560000012345678", None, None),
    ],
)
def test_ear_tags_are_fifteen_digits_with_country_or_maker(text, tag, country):
    reports = TagWand().line(text)[1]
    assert [(body["tag"], body["country"]) for _, body, _ in reports] == ([(tag, country)] if tag else [])


def test_a_wand_says_the_same_tag_once():
    wand = TagWand()
    assert len(wand.line("156000001234567", 1_000)[1]) == 1
    assert wand.line("156000001234567", 9_000)[1] == []
    assert wand.line("156000001234567", 18_000)[1] == [], "still held to the ear"
    assert len(wand.line("156000001234567", 86_400_000)[1]) == 1, "weighed again the next day"


def test_a_pulse_counter_wraps_and_doubts_after_a_reset():
    counter, told = PulseCounter("belt1/count", wrap=65536), []
    for value in (65000, 65500, 100, 200, 5, 15):
        told += counter.line(f"count={value}")[0]
    assert [total for total, _ in told] == [65000, 65500, 65636, 65736, 65741, 65751]
    assert [quality for _, quality in told].count(Quality.UNCERTAIN) == 1
    assert PulseCounter("belt1/count", 0.5).line("count=130")[0] == [(65.0, Quality.GOOD)], "a restart is no step"


def test_a_scale_on_a_real_line_is_heard_and_an_unplugged_one_is_survived():
    master, slave = pty.openpty()
    tty.setraw(slave)
    driver = SerialDriver("scale", SerialLine(os.ttyname(slave)), Weighbridge("scale/weight"), CLOCK)
    emit = Collector()

    def feed():
        time.sleep(0.3)
        for _ in range(4):
            os.write(master, b"ST,GS,+  101.5kg\r\n")

    threading.Thread(target=feed, daemon=True).start()
    run_for(driver, emit, lambda: emit.samples)
    assert (emit.samples[0].value, emit.samples[0].unit) == (101.5, "kg")
    os.close(slave)
    os.close(master)
    run_for(driver, emit, lambda: driver.health.failed > 0)


# -- files and programs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "quality"),
    [
        ("4b 46 7f : crc=8d YES\n4b 46 7f t=21562\n", 21.562, Quality.GOOD),
        ("4b 46 7f : crc=8d YES\n4b 46 7f t=-1250\n", -1.25, Quality.GOOD),
        ("4b 46 7f : crc=8d NO\n4b 46 7f t=21562\n", None, Quality.DEVICE_ERROR),
        ("50 05 : crc=1c YES\n50 05 t=85000\n", 85.0, Quality.DEVICE_ERROR),
        ("ff ff : crc=1c YES\nff t=127937\n", 127.937, Quality.DEVICE_ERROR),
        ("garbage", None, Quality.DEVICE_ERROR),
    ],
)
def test_one_wire_thermometers_are_read_from_their_file(tmp_path, text, value, quality):
    path = tmp_path / "w1_slave"
    path.write_text(text)
    assert read_file(File(path, "t/water_temperature", QUANTITIES["water_temperature"], 1.0, w1=True)) == (
        value,
        quality,
    )


def test_hwmon_inputs_are_scaled_and_a_missing_file_is_a_lost_device(tmp_path):
    (tmp_path / "temp1_input").write_text("42000\n")
    quantity = QUANTITIES["air_temperature"]
    good = File(tmp_path / "temp1_input", "cpu/air_temperature", quantity, 0.001, w1=False)
    gone = File(tmp_path / "temp2_input", "x/air_temperature", quantity, 0.001, w1=False)
    driver, emit = SysfsDriver("files", [good, gone], 0.05, CLOCK), Collector()
    run_for(driver, emit, lambda: len(emit.samples) >= 4)
    assert [(s.value, s.quality) for s in emit.samples[:2]] == [(42.0, Quality.GOOD), (None, Quality.COMMS_LOST)]


def test_a_program_in_any_language_gives_readings_and_is_started_again_when_it_ends():
    pack = json.dumps([{"bt": 1763766000.5, "bu": "Cel"}, {"n": "a/air_temperature", "v": 21.5}])
    lines = [pack, "not json", json.dumps({"n": "b/ph", "v": 7, "u": "pH"})]
    script = f"for line in {lines!r}: print(line, flush=True)"
    driver, emit = ExecDriver("own", (sys.executable, "-c", script), CLOCK), Collector()
    run_for(driver, emit, lambda: len(emit.samples) >= 4, timeout=15)
    first, second = emit.samples[:2]
    assert (first.name, first.value, first.unit, first.time_ms) == ("a/air_temperature", 21.5, "Cel", 1763766000500)
    assert (second.name, second.time_ms) == ("b/ph", None)
    assert second.stamp is not None
    assert driver.health.failed >= 1


def test_a_program_that_does_not_exist_is_named():
    driver, emit = ExecDriver("own", ("/no/such/program",), CLOCK), Collector()
    run_for(driver, emit, lambda: driver.health.failed > 0)
    assert "/no/such/program" in driver.health.last_error


@given(line=st.binary(max_size=80))
def test_any_line_of_a_program_is_read_or_refused(line):
    try:
        list(read_line(line, 5))
    except (ValueError, KeyError, TypeError):
        return
