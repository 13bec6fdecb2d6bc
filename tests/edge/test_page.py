"""The page on the farm: one sentence, last values with their age, and a record in three taps."""

import http.client
import re
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from edge.page import FORMS, Page, PageError, Snapshot, read_form, show
from edge.recent import Recent
from edge.wire import Quality, Reading

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOW = 1_795_276_800_000
GOOD = {"feed": "配合饲料", "kg": "12.5", "group": "1号塘", "by": "老李"}


def snapshot(**change):
    readings = [
        (Reading("pond1/dissolved_oxygen", NOW - 120_000, 6.2, "mg/L"), (5.0, 6.0, 6.2)),
        (Reading("pond1/ph", NOW - 7_200_000, None, "pH", Quality.COMMS_LOST), ()),
    ]
    fields = {"title": "鱼塘 pond-1", "readings": readings, "now_ms": NOW, "connected": True, **change}
    return Snapshot(**fields)


@pytest.fixture
def page():
    kept = []
    page = Page("127.0.0.1", 0, "2468", SHANGHAI, kept.append)
    page.kept = kept
    page.snapshot = snapshot()
    page.start()
    yield page
    page.close()


def ask(page, method, path, form=None, cookie=""):
    line = http.client.HTTPConnection("127.0.0.1", page.port, timeout=5)
    headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    line.request(method, path, urlencode(form or {}), headers)
    answer = line.getresponse()
    text = answer.read().decode()
    line.close()
    return answer.status, text, answer.headers


def enter(page):
    status, _, headers = ask(page, "POST", "/pin", {"pin": "2468"})
    assert status == 303
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "SameSite=Strict" in headers["Set-Cookie"]
    return headers["Set-Cookie"].split(";")[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "一切正常"),
        ({"alarms": [("warning", "溶解氧低", "增氧")]}, "有提醒"),
        ({"alarms": [("critical", "浮头", "立即增氧")]}, "不正常"),
        ({"trouble": "disk_full"}, "网关有问题"),
        ({"readings": []}, "网关有问题"),
    ],
)
def test_one_sentence_says_whether_all_is_well(change, sentence):
    text = show(snapshot(**change), SHANGHAI)
    assert sentence in text
    assert len(text.encode()) < 60_000


def test_values_come_with_their_age_and_bad_ones_without_a_number():
    text = show(snapshot(backlog=7, connected=False), SHANGHAI)
    assert "2 分钟前" in text
    assert "数据无效" in text
    assert "<polyline" in text
    assert "待确认 7 包" in text
    assert "没有网络" in text
    assert "<script" not in text


def test_what_a_sensor_calls_itself_cannot_become_markup():
    text = show(snapshot(title="<b>x</b>", names={"pond1/ph": "<script>alert(1)</script>"}), SHANGHAI)
    assert "<script" not in text
    assert "<b>x" not in text


def test_without_the_pin_nothing_is_shown_and_nothing_is_taken(page):
    assert ask(page, "GET", "/")[0] == 401
    assert "pond-1" not in ask(page, "GET", "/")[1]
    assert ask(page, "POST", "/feeding", GOOD)[0] == 401
    assert ask(page, "GET", "/", cookie="session=9999999999.abc")[0] == 401
    assert page.kept == []


def test_the_door_shuts_after_five_wrong_pins(page):
    for _ in range(5):
        assert ask(page, "POST", "/pin", {"pin": "0000"})[0] == 403
    status, text, _ = ask(page, "POST", "/pin", {"pin": "2468"})
    assert status == 403
    assert "一分钟" in text


def test_a_record_is_taken_once_with_the_token_of_its_form(page):
    cookie = enter(page)
    status, text, headers = ask(page, "GET", "/feeding", cookie=cookie)
    token = re.search(r'name="token" value="([0-9a-f]+)"', text).group(1)
    assert (status, ask(page, "POST", "/feeding", GOOD, cookie)[0]) == (200, 401), "a form from elsewhere has no token"
    status, _, headers = ask(page, "POST", "/feeding", {**GOOD, "token": token}, cookie)
    assert (status, headers["Location"]) == (303, "/saved/feeding")
    assert "已保存：投喂" in ask(page, "GET", "/saved/feeding", cookie=cookie)[1]
    (record,) = page.kept
    assert (record.kind, record.time_ms) == ("feeding", NOW)
    assert dict(record.body) == {"feed": "配合饲料", "kg": 12.5, "group": "1号塘", "by": "老李", "entered": "page"}
    assert ask(page, "GET", "/nowhere", cookie=cookie)[0] == 404


def test_a_wrong_form_comes_back_with_what_was_typed_and_what_is_wrong(page):
    cookie = enter(page)
    token = re.search(r'value="([0-9a-f]{32})"', ask(page, "GET", "/weighing", cookie=cookie)[1]).group(1)
    form = {"kg": "重", "animals": "3", "group": "一栏", "by": "老李", "token": token}
    status, text, _ = ask(page, "POST", "/weighing", form, cookie)
    assert status == 400
    assert "重量要填一个大于零的数" in text
    assert 'value="一栏"' in text
    assert page.kept == []


@pytest.mark.parametrize("kind", FORMS)
def test_every_form_can_be_filled(kind):
    form = {name: "5" if unit != "text" else "某" for name, _, unit in FORMS[kind][1]} | {"by": "老李"}
    assert read_form(kind, form, NOW).kind == kind
    for missing in form:
        with pytest.raises(PageError):
            read_form(kind, {name: value for name, value in form.items() if name != missing}, NOW)
    with pytest.raises(PageError, match="时间"):
        read_form(kind, form, None)


def test_a_taken_port_is_one_clear_line(page):
    with pytest.raises(PageError, match=r"page\.listen"):
        Page("127.0.0.1", page.port, "1234", SHANGHAI, print).start()


def test_the_recent_values_are_bounded_and_keep_a_quarter_hour_history():
    recent = Recent({"farm/ph": None})
    for minute in range(24 * 60):
        recent.note(Reading("pond1/ph", NOW + minute * 60_000, 7.0, "pH"))
    for number in range(100):
        recent.note(Reading(f"x{number}/ph", NOW, 7.0, "pH"))
    recent.note(Reading("farm/ph", NOW, 6.5, "pH"))
    view = {reading.name: history for reading, history in recent.view()}
    assert len(view["pond1/ph"]) == 48
    assert len(view) <= 65
    assert "farm/ph" in view
