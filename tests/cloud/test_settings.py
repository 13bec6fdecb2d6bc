from dataclasses import fields
from pathlib import Path

import pytest

from cloud.problems import Invalid
from cloud.settings import Settings, load

ROOT = Path(__file__).parents[2]


def test_a_file_is_overruled_by_the_environment_and_both_by_the_caller(tmp_path):
    file = tmp_path / "cloud.toml"
    file.write_text('http_port = 1001\nmqtt_port = 1002\nhttp_host = "127.0.0.2"\n')
    settings = load(file, {"TIANMAI_MQTT_PORT": "2002", "TIANMAI_HTTP_PORT": "2001", "HOME": "/x"}, http_port=3001)
    assert (settings.http_host, settings.mqtt_port, settings.http_port) == ("127.0.0.2", 2002, 3001)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("http_port = 'many'", ["http_port", "many"]),
        ("http_port = 70000", ["http_port", "0..65535", "70000"]),
        ("no_such = 1", ["no_such"]),
        ("http_port = ", ["not TOML"]),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_and_value(tmp_path, text, names):
    file = tmp_path / "cloud.toml"
    file.write_text(text)
    with pytest.raises(Invalid) as refused:
        load(file, {})
    assert all(name in refused.value.detail for name in names)


def test_a_missing_settings_file_is_named(tmp_path):
    with pytest.raises(Invalid, match=r"absent\.toml"):
        load(tmp_path / "absent.toml", {})


def test_stores_lie_below_var_unless_said_otherwise():
    settings = load(None, {}, var=Path("elsewhere"))
    assert settings.database == "sqlite:///elsewhere/tianmai.db"
    assert settings.readings == "duckdb:///elsewhere/readings.duckdb"
    assert load(None, {}, public_url="https://t.example/").site == "https://t.example"


def test_every_setting_is_documented():
    text = (ROOT / "docs" / "operating.md").read_text("utf-8")
    assert [field.name for field in fields(Settings) if f"`{field.name}`" not in text] == []


@pytest.mark.parametrize("share", ["a/b#", "a+", "a\nb"])
def test_a_share_that_no_broker_would_take_is_refused(share):
    influx = "influx+http://127.0.0.1:8086/tm"
    assert load(environment={}, mqtt_share="county", readings_url=influx).mqtt_share == "county"
    with pytest.raises(Invalid, match="mqtt_share must be a name"):
        load(environment={}, mqtt_share=share, readings_url=influx)


def test_a_share_without_influxdb_is_refused():
    with pytest.raises(Invalid, match="mqtt_share needs readings in InfluxDB"):
        load(environment={}, mqtt_share="county")
