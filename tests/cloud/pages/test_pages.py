"""The pages' doors over real services in memory: who is let in, which headers go out, what a strange address gets."""

import html
import json
import re

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from cloud import demonstration as demo
from cloud.alarms import AlarmStore
from cloud.app import create_app
from cloud.jobs import LAND_JOB
from cloud.pages.console import build_console
from cloud.pages.problem_pages import page_route
from cloud.pages.render import Renderer
from cloud.pages.words import Language, words_for
from cloud.provenance.schemas import LogState, ShardState
from cloud.settings import Settings
from cloud.telemetry import Arrival
from cloud.telemetry.pipeline import RecordArrival
from cloud.telemetry.store import Points, columns
from cloud.who import Role
from cloud.wiring import build, build_watch, utc_now_ms
from edge.wire import Pack, Reading, encode_pack
from traceability.demo import demo_chains
from traceability.events import EPCIS_CONTEXT

SITE = "http://127.0.0.1:8600"


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    built = build(Settings(var=tmp_path_factory.mktemp("var"), readings_url="memory://"))
    demo.prepare_person(built)
    demo.prepare_gateways(built)
    yield built
    built.close()


@pytest.fixture(scope="module")
def app(services):
    return create_app(services)


@pytest.fixture
def stranger(app):
    return TestClient(app, base_url=SITE)


@pytest.fixture
def official(app, services):
    client = TestClient(app, base_url=SITE)
    client.get("/sign-in/" + services.accounts.issue_sign_in(demo.PERSON))
    return client


def console_paths(services):
    given = {
        "{gateway}": "nanan-pond",
        "{parcel}": "P1",
        "{case:path}": "C1",
        "{case}": "C1",
        "{action}": "close",
        "{form}": "command",
        "{digest}": "0" * 64,
    }
    renderer = Renderer(services.clock)
    for route in build_console(services, renderer, page_route(renderer)).routes:
        path = route.path
        for name, value in given.items():
            path = path.replace(name, value)
        yield min(route.methods), path


def test_every_page_of_the_console_is_closed_to_strangers(stranger, services):
    paths = list(console_paths(services))
    assert len(paths) >= 10
    for method, path in paths:
        answer = stranger.request(method, path, params={"series": "x"})
        assert answer.status_code == 401, path
        assert "请先登录" in answer.text


def test_pages_of_an_empty_machine_say_so_instead_of_failing(official):
    assert "4 座农场中有 4 座没有按时上报" in official.get("/console").text
    assert "尚未收到读数" in official.get("/console").text
    assert "还没有地块" in official.get("/console/map").text
    assert "没有案件" in official.get("/console/cases").text
    assert "还没有批次" in official.get("/console/trace").text
    assert "还没有上报任何传感器" in official.get("/console/gateways/nanan-pond").text
    assert official.get("/console/gateways/nanan-pond/series.json?series=x").status_code == 404


def test_no_page_may_load_anything_from_elsewhere_or_run_inline_code(stranger, official):
    for answer in (stranger.get("/"), stranger.get("/console"), official.get("/console")):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert " style=" not in answer.text
        assert " on" + "click" not in answer.text


def test_an_unknown_address_is_explained_to_a_person_and_documented_to_a_program(stranger):
    browser = {"Accept": "text/html"}
    page = stranger.get("/nowhere/<b>", headers=browser)
    assert page.status_code == 404
    assert "没有找到" in page.text
    assert "<b>" not in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "Not found" in stranger.get("/nowhere?lang=en", headers=browser).text
    assert dict(stranger.cookies) == {}
    assert "这个地址不能这样用" in stranger.post("/find", headers=browser).text
    assert stranger.get("/nowhere").headers["content-type"] == "application/problem+json"
    assert stranger.get("/api/v1/nowhere", headers=browser).headers["content-type"] == "application/problem+json"


def test_a_farm_record_is_listed_with_the_event_it_became_or_why_it_did_not(tmp_path):
    built = build(Settings(var=tmp_path, readings_url="memory://"))
    try:
        demo.prepare_person(built)
        demo.prepare_gateways(built)
        now = utc_now_ms()
        for seq, kind in enumerate(("weighing", "singing"), start=1):
            built.gathering.stage_record(RecordArrival("nanan-pond", "00ff00ff", seq, kind, now, {"kg": 3}, b"{}", now))
        assert built.provenance.take_records() == 2
        client = TestClient(create_app(built), base_url=SITE)
        client.get("/sign-in/" + built.accounts.issue_sign_in(demo.PERSON))
        records = client.get("/console/trace").text.partition('id="records"')[2]
        event = next(row["event_id"] for row in built.provenance.records() if row["kind"] == "weighing")
        assert event in records
        assert "称重" in records
        assert "singing" in records
        assert "未成为追溯记录" in records
    finally:
        built.close()


def test_a_witness_that_has_not_signed_is_named_with_the_reason():
    log = LogState(
        "a.example/log", 7, "00" * 32, 1_795_300_000_000, "abcd", ["w1.example"], {"w2.example": "<no answer>"}
    )
    request = Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []})
    text = bytes(Renderer(utc_now_ms).page(request, "_log.html", {"log": log}).body).decode()
    assert "w1.example 已签署最新检查点" in text
    assert "w2.example 未签署最新检查点" in text
    assert "&lt;no answer&gt;" in text
    assert "暂无见证方" not in text


def test_the_years_that_are_closed_are_named_with_their_places():
    shards = [
        ShardState("a.example/log", "", 0, 41),
        ShardState("a.example/log/2027", "2027", 42, 99),
        ShardState("a.example/log/2028", "2028", 100, None),
    ]
    log = LogState("a.example/log/2028", 7, "00" * 32, 1_795_300_000_000, "abcd", shards=shards)
    request = Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []})
    content = {"here": "trace", "lots": [], "refusals": [], "log": log, "events": [], "records": []}
    text = bytes(Renderer(utc_now_ms).page(request, "trace.html", content).body).decode()
    assert "第 0 至 41 条" in text
    assert "<code>a.example/log/2027</code> <small>第 42 至 99 条</small></dd>" in text
    assert text.count("a.example/log/2028") == 1


@pytest.mark.parametrize(
    "path", ["../words/zh.toml", "..%2fwords%2fzh.toml", "%2e%2e/render.py", "/etc/passwd", "nothing.js", ""]
)
def test_only_the_static_folder_is_served(stranger, path):
    assert stranger.get(f"/static/{path}").status_code == 404


def test_a_static_file_is_kept_for_ever_only_under_its_own_hash(stranger):
    page = stranger.get("/").text
    address = page.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
    assert "immutable" in stranger.get(address).headers["cache-control"]
    assert stranger.get(address.partition("?")[0]).headers["cache-control"] == "no-cache"
    assert stranger.get(address.partition("?")[0] + "?v=0000000000").headers["cache-control"] == "no-cache"


def test_the_console_remembers_the_language_and_the_scan_page_sets_no_cookie(stranger, official):
    assert "Overview" in official.get("/console?lang=en").text
    assert "Overview" in official.get("/console").text
    assert "总览" in official.get("/console?lang=zh").text
    stranger.get("/?lang=en")
    assert dict(stranger.cookies) == {}


def test_a_wrong_value_in_an_address_is_explained(official):
    answer = official.get("/console/gateways/nanan-pond?hours=many")
    assert answer.status_code == 422
    assert "不能接受" in answer.text
    assert official.get("/console/gateways/nanan-pond?series=<b>").status_code == 404


@pytest.mark.parametrize("path", ["/01/", "/01/nonsense", "/01/02000015300018/10/%3Cscript%3E", "/01/9999/10/A/21/%00"])
def test_a_strange_code_is_unknown_and_never_an_error(stranger, path):
    answer = stranger.get(path)
    assert answer.status_code in {404, 422}
    assert "查无此码" in answer.text
    assert "<script>" not in answer.text.partition("<nav")[2]


def test_a_report_about_an_unknown_code_is_refused(stranger):
    answer = stranger.post("/report", data={"code": "javascript:alert(1)", "text": "x"})
    assert answer.status_code in {404, 422}
    assert "javascript:alert(1)" not in answer.text.replace("&#39;", "'").partition("href=")[2].partition(">")[0]


@pytest.fixture
def gasping(tmp_path):
    """A pond out of oxygen, found out by the real watch over stored readings."""
    built = build(Settings(var=tmp_path, readings_url="memory://"))
    demo.prepare_person(built)
    demo.prepare_gateways(built)
    name, now = "pond1/dissolved_oxygen", utc_now_ms()
    series = built.registry.ensure_series(built.registry.gateway("nanan-pond"), {name: "mg/L"})[name].id
    times = list(range(now - 2 * 3_600_000, now, 60_000))
    points = Points(*columns([series] * len(times), times, [1.2] * len(times), [0] * len(times)))
    built.readings.append([Arrival(key=None, points=points, received_ms=now)])
    watch = build_watch(built.gathering, lambda: False)
    watch.round()  # the first one reads what is stored
    yield built
    built.close()


def test_an_alarm_is_told_on_the_overview_and_answered_on_the_board(gasping):
    client = TestClient(create_app(gasping), base_url=SITE)
    client.get("/sign-in/" + gasping.accounts.issue_sign_in(demo.PERSON))
    alarm = gasping.alarms.board(open_only=True).items[0]
    assert alarm.zh in client.get("/console").text
    board = client.get("/console/alarms").text
    assert alarm.action_zh in board
    assert "未应答" in board
    answer = client.post("/console/alarms", data={"only": alarm.id}, headers={"Origin": SITE})
    assert answer.status_code == 200
    assert "在处理" in client.get("/console/alarms?show=all").text
    assert alarm.en in client.get("/console/alarms?lang=en").text


def test_an_alarm_of_the_year_9999_breaks_no_page(gasping):
    row = {"gateway": "nanan-pond", "rule": "duplicate_id", "region": "500108", "severity": "critical"}
    row |= {"subject": "duplicate_id", "texts": {"gateway": "塘"}}
    AlarmStore(gasping.engine).happened(row, "a/1", 253_402_300_799_000, utc_now_ms())
    client = TestClient(create_app(gasping), base_url=SITE)
    client.get("/sign-in/" + gasping.accounts.issue_sign_in(demo.PERSON))
    for path in ("/console", "/console/alarms", "/console/farms", "/console/gateways/nanan-pond"):
        assert client.get(path).status_code == 200


def test_who_may_only_look_cannot_answer_an_alarm(gasping):
    viewer = gasping.accounts.person("看", id="viewer")
    gasping.accounts.grant(viewer, Role.VIEWER, "500108", by="test")
    client = TestClient(create_app(gasping), base_url=SITE)
    client.get("/sign-in/" + gasping.accounts.issue_sign_in(viewer))
    alarm = gasping.alarms.board(open_only=True).items[0]
    assert "我来处理" not in client.get("/console/alarms").text
    answer = client.post("/console/alarms", data={"only": alarm.id}, headers={"Origin": SITE})
    assert answer.status_code == 403
    assert "没有这项权限" in answer.text


def test_somebody_of_another_district_sees_neither_farm_nor_alarm(gasping):
    other = gasping.accounts.person("云阳的人", id="elsewhere")
    gasping.accounts.grant(other, Role.OPERATOR, "500235", by="test")
    client = TestClient(create_app(gasping), base_url=SITE)
    client.get("/sign-in/" + gasping.accounts.issue_sign_in(other))
    alarm = gasping.alarms.board(open_only=True).items[0]
    text = client.get("/console").text
    assert "云阳示范柑橘园" in text
    assert "南岸示范鱼塘" not in text
    assert alarm.zh not in text
    assert client.get("/console/gateways/nanan-pond").status_code == 404
    answer = client.post("/console/alarms", data={"only": alarm.id}, headers={"Origin": SITE})
    assert answer.status_code == 404
    assert "南岸示范鱼塘" not in client.get("/console/farms").text


def test_ticked_alarms_are_answered_or_kept_quiet_about_together(gasping):
    client = TestClient(create_app(gasping), base_url=SITE)
    client.get("/sign-in/" + gasping.accounts.issue_sign_in(demo.PERSON))
    ids = [one.id for one in gasping.alarms.board(open_only=True).items]
    assert len(ids) > 1
    send = {"headers": {"Origin": SITE}}
    client.post("/console/alarms", data={"alarm": ids, "quiet": "60", "reason": "清洗传感器"}, **send)
    assert {one.shelved for one in gasping.alarms.board().items} == {True}
    client.post("/console/alarms", data={"alarm": ids}, **send)
    assert {one.state for one in gasping.alarms.board().items} == {"acknowledged"}
    assert client.post("/console/alarms", data={"alarm": "1e9"}, **send).status_code == 422


def test_a_farm_in_danger_stands_first_in_the_list_and_filters_find_it(gasping):
    client = TestClient(create_app(gasping), base_url=SITE)
    client.get("/sign-in/" + gasping.accounts.issue_sign_in(demo.PERSON))
    rows = re.findall(r'href="/console/gateways/([^"]+)"', client.get("/console/farms").text)
    assert rows[0] == "nanan-pond"
    assert len(rows) == 4
    for query, found in (("show=ringing", ["nanan-pond"]), ("show=late", rows[1:]), ("find=云阳&show=late", None)):
        answer = client.get(f"/console/farms?{query}").text
        assert re.findall(r'href="/console/gateways/([^"]+)"', answer) == (found or ["yunyang-citrus"])


def test_a_command_is_asked_for_on_the_page_and_a_mistake_is_explained_beside_the_form(gasping):
    client = TestClient(create_app(gasping), base_url=SITE)
    client.get("/sign-in/" + gasping.accounts.issue_sign_in(demo.PERSON))
    page, send = "/console/gateways/nanan-pond", {"headers": {"Origin": SITE}}
    asked = {"target": "aerator1", "operation": "set", "value": "80", "valid_s": "600", "reason": "夜间缺氧"}
    assert client.post(f"{page}/command", data=asked, **send).status_code == 200
    (command,) = gasping.steering.commands("nanan-pond").items
    assert (command.value, command.by) == (0.8, demo.PERSON)
    assert "夜间缺氧" in client.get(page).text
    answer = client.post(f"{page}/command", data={**asked, "target": "fan9", "reason": "不存在的"}, **send)
    assert answer.status_code == 422
    assert "这座农场没有这台设备" in answer.text
    assert "不存在的" in answer.text


def test_a_configuration_is_wanted_on_the_page_and_only_operators_see_it(gasping):
    client = TestClient(create_app(gasping), base_url=SITE)
    client.get("/sign-in/" + gasping.accounts.issue_sign_in(demo.PERSON))
    page, send = "/console/gateways/nanan-pond", {"headers": {"Origin": SITE}}
    wish = {"body": '{"page": {"pin": "2468"}}', "after": "0", "reason": "换密码"}
    assert client.post(f"{page}/configuration", data=wish, **send).status_code == 200
    assert "等待网关" in client.get(page).text
    answer = client.post(f"{page}/configuration", data=wish, **send)
    assert (answer.status_code, "别人刚改过配置" in answer.text) == (409, True)
    answer = client.post(f"{page}/configuration", data={**wish, "body": "{oops"}, **send)
    assert (answer.status_code, "不是合法的 JSON" in answer.text, "{oops" in answer.text) == (422, True, True)
    viewer = gasping.accounts.person("看", id="looker")
    gasping.accounts.grant(viewer, Role.VIEWER, "500108", by="test")
    other = TestClient(create_app(gasping), base_url=SITE)
    other.get("/sign-in/" + gasping.accounts.issue_sign_in(viewer))
    assert "2468" not in other.get(page).text
    assert other.post(f"{page}/configuration", data=wish, **send).status_code == 403


def test_a_message_that_could_not_be_taken_is_replayed_from_the_page(gasping):
    client = TestClient(create_app(gasping), base_url=SITE)
    client.get("/sign-in/" + gasping.accounts.issue_sign_in(demo.PERSON))
    page, send = "/console/gateways/nanan-pond", {"headers": {"Origin": SITE}}
    gasping.telemetry.set_aside("tm/1/nanan-pond/data", b"nonsense", "torn", "it ended early")
    text = client.get(page).text
    assert "数据残缺" in text
    gasping.telemetry.set_aside("tm/1/nanan-pond/meta/x", b"<script>alert(1)</script>", "bad_field", "no object")
    (letter,) = set(re.findall(r'href="(/console/gateways/nanan-pond/letters/[^"]+)"', client.get(page).text)) - set(
        re.findall(r'href="(/console/gateways/nanan-pond/letters/[^"]+)"', text)
    )
    said = client.get(letter)
    assert (said.status_code, "&lt;script&gt;alert(1)" in said.text, "<script>alert" in said.text) == (200, True, False)
    (digest,) = re.findall(r'name="digest" value="([0-9a-f]+)"', text)
    answer = client.post(f"{page}/replay", data={"digest": digest}, **send)
    assert (answer.status_code, "没有办成" in answer.text or "JSON" in answer.text) == (422, True)
    pack = Pack("nanan-pond", (Reading("pond1/ph", gasping.clock() - 1000, 7.2, "pH"),))
    gasping.telemetry.set_aside("tm/1/nanan-pond/data", encode_pack(pack), "wrong_unit", "it was pH all along")
    for digest in re.findall(r'name="digest" value="([0-9a-f]+)"', client.get(page).text):
        client.post(f"{page}/replay", data={"digest": digest}, **send)
    assert "已于" in client.get(page).text
    assert gasping.telemetry.latest(gateway="nanan-pond")[-1].value == 7.2


def test_a_used_sign_in_link_is_explained_to_a_person_and_documented_to_a_program(stranger):
    page = stranger.get("/sign-in/used", headers={"Accept": "text/html"})
    assert page.status_code == 401
    assert "链接只能用一次" in page.text
    assert stranger.get("/sign-in/used").json()["code"] == "sign_in_refused"


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 10**30])
def test_a_number_no_database_can_hold_is_refused_everywhere(official, number):
    for path in (
        f"/api/v1/audit?before={number}",
        f"/api/v1/alarms?before={number}",
        f"/api/v1/alarms/{number}",
        f"/api/v1/dead-letters?before_ms={number}",
        f"/api/v1/series/{number}/points?from=0&to=1",
        f"/api/v1/series/1/points?from={number}&to={number}",
    ):
        answer = official.get(path)
        assert answer.status_code == 422, path
        assert answer.headers["content-type"] == "application/problem+json"
    page = official.get(f"/console/alarms?before={number}", headers={"Accept": "text/html"})
    assert page.status_code == 422
    assert "不能接受" in page.text


@pytest.fixture(scope="module")
def egg_pack(services):
    """The path of a pack of eggs whose lot is in the log."""
    chain = next(each for each in demo_chains(services.clock()) if each.chain == "eggs")
    for event in chain.events:
        services.provenance.capture(event, chain="eggs", by="me", facts=chain.facts)
    return chain.subject.partition(".cn")[2]


def told(page, key):
    return words_for(Language.ZH)(key) in page.text


def test_the_page_of_a_lot_says_that_it_is_about_the_lot_and_misses_nothing(stranger, egg_pack):
    lot, _, _ = egg_pack.partition("/21/")
    page = stranger.get(lot)
    assert page.status_code == 200
    assert told(page, "scan.whole_lot")
    assert json.loads(embedded(page, "told"))["complete"] is True
    assert told(page, "verdict.passed_lot_line")


def test_the_page_of_an_unknown_serial_shows_the_lot_and_can_never_pass(stranger, egg_pack):
    lot, _, _ = egg_pack.partition("/21/")
    page = stranger.get(lot + "/21/NOBODY")
    assert "NOBODY" in page.text
    content = json.loads(embedded(page, "told"))
    assert content["complete"] is False
    assert content["words"]["partial"] == words_for(Language.ZH)("verdict.no_serial")
    download = html.unescape(page.text.partition('href="/api/v1/trace/pack')[2].partition('"')[0])
    assert stranger.get("/api/v1/trace/pack" + download).status_code == 200


def test_a_trade_item_alone_leads_to_its_packs(stranger, egg_pack):
    page = stranger.get("/".join(egg_pack.split("/")[:3]))
    assert page.status_code == 200
    assert told(page, "scan.item")
    assert f'href="{egg_pack}"' in page.text


@pytest.mark.parametrize("name", ["urn:epc:id:sgtin:4012345.011111.1", "urn:odd:/01/x/21/y", "http://a/01/4/21/"])
def test_a_thing_named_by_a_urn_takes_no_page_down(stranger, services, official, name):
    event = {
        "@context": [EPCIS_CONTEXT],
        "type": "ObjectEvent",
        "eventTime": "2026-11-20T10:00:00.000+08:00",
        "eventTimeZoneOffset": "+08:00",
        "action": "OBSERVE",
        "epcList": [name],
    }
    services.provenance.capture(event, chain=None, by="me")
    item = "/01/04012345111118"
    for path in ("/", "/api/v1/trace/lots"):
        assert stranger.get(path).status_code == 200
    assert official.get("/console/trace").status_code == 200
    if name.startswith("urn:epc"):
        assert stranger.get(item).status_code == 200
        assert stranger.get(f"{item}/21/UNK?linkType=linkset").status_code == 200
        page = stranger.get(f"{item}/21/1")
        assert page.status_code == 200
        assert json.loads(embedded(page, "told"))["subject"] == f"https://id.gs1.org{item}/21/1"
        assert f"{item}/21/1" in stranger.get("/").text


def embedded(page, name):
    return page.text.partition(f'id="{name}">')[2].partition("</script>")[0]


def test_the_page_of_a_code_tells_its_state_and_a_void_one_stands_above_every_proof(stranger, services, egg_pack):
    lot, _, serial = egg_pack.partition("/21/")
    gtin, number = lot.split("/")[2], lot.split("/")[4]
    codes = services.provenance.codes
    codes.register(gtin, number, [serial, "X1"], by="me")
    assert "已启用" in stranger.get(egg_pack).text
    assert told(stranger.get(f"{lot}/21/X1"), "verdict.inactive_line")
    assert 'data-state="unissued"' in stranger.get(f"{lot}/21/X2").text
    codes.move([egg_pack], "sell", by="me")
    assert "已登记售出" in stranger.get(egg_pack).text
    codes.move([egg_pack], "void", by="me", reason="印坏<b>")
    page = stranger.get(egg_pack)
    assert 'data-state="void"' in page.text
    assert "印坏&lt;b&gt;" in page.text


def test_a_code_without_events_is_told_by_its_state_and_never_called_a_forgery(stranger, services):
    codes = services.provenance.codes
    paths = [code.path for code in codes.issue("02000011700010", "L9", 3, by="me")]
    codes.move([paths[0]], "activate", by="me")
    codes.move([paths[1]], "void", by="me", reason="印坏")
    codes.move([paths[2]], "activate", by="me")
    codes.move([paths[2]], "retire", by="me", reason="破损")
    for path, said in zip(paths, ("已启用", "印坏", "破损"), strict=True):
        page = stranger.get(path)
        assert page.status_code == 200
        assert told(page, "verdict.no_events")
        assert said in page.text
        assert "当心仿冒" not in page.text.partition('id="scratch"')[0]
        assert stranger.get("/api/v1/trace/label.svg", params={"path": path}).status_code == 200
        link = stranger.get(path, params={"linkType": "gs1:pip"}, follow_redirects=False)
        assert stranger.get(link.headers["location"]).status_code == 200
        (links,) = stranger.get(path, params={"linkType": "linkset"}).json()["linkset"]
        targets = [each[0]["href"] for name, each in links.items() if name.startswith("https://")]
        assert [stranger.get(target).status_code for target in targets] == [200, 200]
    assert 'data-state="void"' in stranger.get(paths[1]).text
    assert stranger.get(paths[0].rpartition("/")[0] + "/NOBODY").status_code == 404


def test_a_slash_too_much_or_a_link_type_nobody_knows_makes_no_forgery(stranger, egg_pack):
    assert stranger.get(egg_pack + "/?lang=en", follow_redirects=False).headers["location"] == egg_pack + "?lang=en"
    assert stranger.get(egg_pack + "/").status_code == 200
    assert stranger.get(egg_pack + "?linkType=").status_code == 200
    page = stranger.get(egg_pack + "?linkType=foo")
    assert page.status_code == 404
    assert told(page, "scan.link_type_line")
    assert "仿冒" not in page.text


def test_the_scratch_code_is_judged_on_a_page_that_says_whether_it_is_the_first_time(stranger, services):
    (code,) = services.provenance.codes.issue("02000011700010", "S1", 1, by="me")
    form = {"code": code.path, "characters": code.scratch}
    outcomes = [
        stranger.post("/scratch", data=form | {"characters": each})
        for each in ("00000000", code.scratch, code.scratch, "?")
    ]
    assert [page.text.partition('data-scratch="')[2].partition('"')[0] for page in outcomes] == [
        "wrong",
        "first",
        "again",
        "bad",
    ]
    assert stranger.post("/scratch", data=form | {"code": "/01/02000011700010/10/S1/21/NONE"}).status_code == 404


def test_the_resolver_describes_itself_and_its_links_lead_somewhere(stranger, egg_pack):
    about = stranger.get("/.well-known/gs1resolver").json()
    assert about["resolverRoot"] == SITE
    assert about["supportedPrimaryKeys"] == ["01"]
    (supported,) = about["supportedLinkType"]
    for name in supported["linkTypes"]:
        for wanted in (f"gs1:{name}", supported["namespace"] + name):
            answer = stranger.get(egg_pack, params={"linkType": wanted}, follow_redirects=False)
            assert answer.status_code == 307
            assert 'rel="linkset"' in answer.headers["link"]
            assert stranger.get(answer.headers["location"]).status_code == 200


def test_a_linkset_is_of_the_finest_thing_that_is_known(stranger, egg_pack):
    lot, _, _ = egg_pack.partition("/21/")
    item = "/".join(egg_pack.split("/")[:3])
    for asked, known in (
        (egg_pack, egg_pack),
        (lot + "/21/NOBODY", lot),
        (lot, lot),
        (item + "/10/NOLOT", item),
        (item, item),
    ):
        for wanted in ("linkset", "all"):
            (links,) = stranger.get(asked, params={"linkType": wanted}).json()["linkset"]
            assert links["anchor"] == "https://id.gs1.org" + known
            for name, targets in links.items():
                if name.startswith("https://"):
                    assert stranger.get(targets[0]["href"]).status_code == 200
    assert stranger.get("/01/09520123456788/10/A", params={"linkType": "linkset"}).status_code == 404
    assert stranger.get(egg_pack, params={"linkType": "gs1:nonsense"}).status_code == 404
    assert stranger.get(item, params={"linkType": "gs1:traceability"}, follow_redirects=False).status_code == 404


def test_land_is_said_to_be_computed_only_while_it_is(tmp_path):
    built = build(Settings(var=tmp_path, readings_url="memory://"))
    demo.prepare_person(built)
    client = TestClient(create_app(built), base_url=SITE)
    client.get("/sign-in/" + built.accounts.issue_sign_in(demo.PERSON))
    for page in ("/console", "/console/live/land"):
        told = client.get(page).text
        assert "还没有遥感结果" in told
        assert "正在计算" not in told
    built.jobs.ask(LAND_JOB, demo.LAND_KEY)
    assert "遥感结果正在计算" in client.get("/console").text
    assert "遥感结果正在计算" in client.get("/console/live/land").text
    built.close()
