"""Payloads mean what the vendor says they mean, for the model the profile names, and nothing else."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measuring import ROOT

from edge.decoders import DecodeError, decoder_models, find_decoder, parse_decoder
from edge.drivers.chirpstack import ChirpStackError, Profile, interpret, read_message
from edge.wire import Quality

models = st.sampled_from(decoder_models())


def event(data=b"", port=2, profile="soil", **more):
    info = {"devEui": "0101010101010101", "deviceProfileName": profile, "deviceProfileId": "p1"}
    received = [{"rssi": -90, "snr": 1.5}, {"rssi": -36, "snr": 10.5}]
    return {
        "time": "2022-07-18T09:34:15.775923242+00:00",
        "deduplicationId": "d1",
        "deviceInfo": info,
        "fPort": port,
        "data": base64.b64encode(data).decode(),
        "rxInfo": received,
        **more,
    }


def values_of(samples):
    return {sample.name: (sample.value, sample.unit, sample.quality) for sample in samples}


def test_soil_probe_values_come_in_our_units():
    values = find_decoder("dragino", "lse01").decode(2, bytes.fromhex("ce2900f107a5099b6e2890"))
    ours = {value.series: value.reading for value in values}
    assert ours == {
        "battery_voltage": 3.625,
        "air_temperature.probe": pytest.approx(24.1),
        "soil_moisture": pytest.approx(0.1957),
        "soil_temperature": pytest.approx(24.59),
        "soil_conductivity": pytest.approx(2.82),
    }


def test_a_negative_temperature_is_signed():
    values = find_decoder("milesight", "EM300-TH").decode(1, bytes.fromhex("0367ceff"))
    assert [(value.name, value.value) for value in values] == [("temperature", -5)]


def test_sentinels_and_nonsense_are_flagged_and_kept():
    profile = bytes.fromhex("020b50000309018a8c09438a9809278a920b3c8aa50c9c8a8c11e08aa500000000000000000b3b")
    values = {value.name: value for value in find_decoder("decentlab", "DL-SMTP").decode(1, profile)}
    assert (values["Soil temperature at depth 7"].value, values["Soil temperature at depth 7"].quality) == (
        -327.68,
        Quality.DEVICE_ERROR,
    )
    assert values["Soil moisture at depth 7"].quality is Quality.DEVICE_ERROR
    assert values["Soil moisture at depth 0"].quality is Quality.OUT_OF_RANGE
    npk = find_decoder("dragino", "LSNPK01").decode(2, bytes.fromhex("0e55010862086760e43cc6"))
    assert {value.name: value.quality for value in npk}["K_SOIL"] is Quality.OUT_OF_RANGE


@pytest.mark.parametrize(
    ("vendor", "model", "payload", "expected"),
    [
        (
            "decentlab",
            "DL-OPTOD",
            "02186c000300008862a618836583650c60",
            {"dissolved_oxygen": 8.69, "oxygen_saturation": 97.52},
        ),
        ("decentlab", "DL-LWS", "0211110003409a00860c54", {"leaf_wetness": (0x409A + 0x86 * 65536) / 2**23 - 1}),
        (
            "decentlab",
            "DL-TRS11",
            "0210d50003463f810b0c79",
            {"soil_moisture": 1798.3 * 0.0003879 - 0.6956, "soil_temperature": 26.7},
        ),
        (
            "decentlab",
            "DL-TRS21",
            "0201920003007580a10c25",
            {"soil_water_potential": -11_700, "soil_temperature": 16.1},
        ),
        ("decentlab", "DL-MBX", "02012f000304d200010bb1", {"distance": 1.234, "battery_voltage": 2.993}),
        ("decentlab", "DL-5TE", "02031c00030037027100000c60", {"soil_temperature": 22.5, "soil_conductivity": 0}),
        ("decentlab", "DL-GS3", "0203630003009980e100010c60", {"soil_temperature": 22.5, "soil_conductivity": 0.0001}),
        ("decentlab", "DL-10HS", "0202df000393710c60", {"battery_voltage": 3.168}),
        (
            "decentlab",
            "DL-ATM22",
            "0208c900038009812b8014810880027fe8800880040bf5",
            {"wind_speed": 0.09, "wind_gust": 0.2},
        ),
        ("decentlab", "DL-MES5", "024E030003000088e6210800f223650af5", {"water_temperature": 22.78}),
        ("decentlab", "DL-SHT21", "02030e000364a079b10c60", {"air_temperature": 175.72 * 0x64A0 / 65536 - 46.85}),
        (
            "milesight-iot",
            "EM500-SMTC",
            "01755c03673401046865057ff000",
            {"soil_temperature": 30.8, "soil_moisture": 0.505, "soil_conductivity": 0.024},
        ),
        ("milesight-iot", "EM500-LGT", "01755c039450000000", {"illuminance": 80}),
    ],
)
def test_the_payloads_their_vendors_print_come_in_our_units(vendor, model, payload, expected):
    values = {one.series: one.reading for one in find_decoder(vendor, model).decode(1, bytes.fromhex(payload))}
    assert {key: values[key] for key in expected} == pytest.approx(expected)


def test_the_same_bytes_are_ph_for_one_model_and_leaf_wetness_for_another():
    payload = bytes.fromhex("0d230000025400f9000001")
    leaf = {value.series for value in find_decoder("dragino", "LLMS01").decode(2, payload)}
    soil = {value.series for value in find_decoder("dragino", "LSPH01").decode(2, payload)}
    assert "leaf_wetness" in leaf
    assert "soil_ph" in soil


@pytest.mark.parametrize(
    ("vendor", "model", "port", "payload", "code"),
    [
        ("dragino", "LSE01", 42, "ce2900f107a5099b6e2890", "unknown_port"),
        ("dragino", "LSE01", 2, "ce29", "torn"),
        ("dragino", "LSE01", 2, "", "torn"),
        ("decentlab", "DL-PAR", 1, "010291000380690c60", "wrong_version"),
        ("decentlab", "DL-PAR", 1, "0202910003", "torn"),
        ("milesight", "EM300-TH", 1, "0367ce", "torn"),
        ("nobody", "X1", 1, "00", "unknown_model"),
        ("../../etc", "passwd", 1, "00", "unknown_model"),
    ],
)
def test_what_cannot_be_decoded_is_refused_by_name(vendor, model, port, payload, code):
    with pytest.raises(DecodeError) as caught:
        find_decoder(vendor, model).decode(port, bytes.fromhex(payload))
    assert caught.value.code == code


@given(which=models, port=st.integers(0, 255), payload=st.binary(max_size=60))
def test_any_payload_is_decoded_or_refused_and_never_crashes(which, port, payload):
    try:
        values = find_decoder(*which).decode(port, payload)
    except DecodeError:
        return
    for value in values:
        assert value.series is None or value.reading is not None


@pytest.mark.parametrize("text", ["", "format = 3", "[", 'format = "tianmai-decoder@1"\nscheme = "magic"'])
def test_a_wrong_decoder_file_is_refused_with_its_name(text):
    with pytest.raises(DecodeError, match=r"x\.toml"):
        parse_decoder(text, where="x.toml")


def test_an_uplink_of_a_known_profile_becomes_readings_with_the_radio_link():
    said = interpret("up", event(bytes.fromhex("ce2900f107a5099b6e2890")), {"soil": Profile("dragino", "LSE01")})
    found = values_of(said.samples)
    assert found["0101010101010101/soil_moisture"] == (pytest.approx(0.1957), "/", Quality.GOOD)
    assert found["0101010101010101/rssi"] == (-66.0, "dBW", Quality.GOOD)
    assert found["0101010101010101/snr"] == (10.5, "dB", Quality.GOOD)
    assert {sample.time_ms for sample in said.samples} == {1658136855775}
    assert said.notices == ()


def test_an_unknown_profile_is_kept_raw_and_flagged_never_guessed():
    said = interpret("up", event(bytes.fromhex("ce2900f107a5099b6e2890")), {})
    (notice,) = said.notices
    assert notice.kind == "lora_unknown_model"
    assert base64.b64decode(notice.body["data"]).hex() == "ce2900f107a5099b6e2890"
    assert {name.split("/")[1] for name in values_of(said.samples)} == {"rssi", "snr"}


def test_a_payload_on_the_wrong_port_is_kept_raw_with_its_reason():
    said = interpret("up", event(b"\x00" * 11, port=9), {"soil": Profile("dragino", "LSE01")})
    assert (said.notices[0].kind, said.notices[0].body["reason"]) == ("lora_undecoded", "unknown_port")


def test_the_servers_own_decoding_is_used_where_the_settings_map_it():
    profile = Profile(fields={"t": ("soil_temperature", 1.0), "vwc": ("soil_moisture", 0.01), "gone": ("ph", 1.0)})
    said = interpret("up", event(object={"t": "24.1", "vwc": 38}), {"p1": profile})
    found = values_of(said.samples)
    assert found["0101010101010101/soil_temperature"][0] == 24.1
    assert found["0101010101010101/soil_moisture"][0] == pytest.approx(0.38)
    assert found["0101010101010101/ph"] == (None, "pH", Quality.DEVICE_ERROR)


@pytest.mark.parametrize("kind", ["join", "ack", "txack", "status", "log", "location", "integration"])
def test_every_other_kind_is_reported_with_all_it_says(kind):
    said = interpret(kind, event(batteryLevel=88.3, fCntDown=3), {})
    (notice,) = said.notices
    assert (notice.kind, notice.body["fCntDown"], notice.time_ms) == (f"lora_{kind}", 3, 1658136855775)
    assert values_of(said.samples)["0101010101010101/battery_level"] == (88.3, "%EL", Quality.GOOD)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("application/a/device/0101010101010101/event/up", b"[]"),
        ("application/a/device/0101010101010101/event/up", b"{}"),
        ("application/a/device/0101010101010101/event/up", b"not json"),
        ("application/a/device/xyz/event/up", b"{}"),
        ("application/a/device/0101010101010101/event/magic", json.dumps(event()).encode()),
        ("application/a/device/0101010101010101/event/up", json.dumps(event() | {"data": "%%%"}).encode()),
    ],
)
def test_a_foreign_event_is_refused(topic, payload):
    with pytest.raises((ChirpStackError, ValueError)):
        read_message(topic, payload, {})


def test_the_recorded_vectors_of_the_shared_data_pass(shared_data, tmp_path):
    if not list(Path(shared_data, "edge").glob("lorawan_*.json")):
        pytest.skip("no LoRaWAN vectors in the shared data")
    command = [sys.executable, ROOT / "dev", "conform", "edge", "--data", Path(shared_data, "edge")]
    done = subprocess.run(
        [*map(str, command), "--json", str(tmp_path / "out.json")], capture_output=True, text=True, check=False
    )
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert done.returncode == 0, done.stdout
    assert (figures["lorawan_failed"], figures["chirpstack_failed"], figures["unknown_models"]) == (0, 0, 0)
