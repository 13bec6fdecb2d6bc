"""The pages' doors over real services in memory: who is let in, which headers go out, what a strange address gets."""

import pytest
from fastapi.testclient import TestClient

from cloud import demonstration as demo
from cloud.app import create_app
from cloud.pages.console import build_console
from cloud.pages.problem_pages import page_route
from cloud.pages.render import Renderer
from cloud.settings import Settings
from cloud.wiring import build

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
    given = {"{gateway}": "nanan-pond", "{parcel}": "P1", "{case:path}": "C1"}
    renderer = Renderer(services.clock)
    for route in build_console(services, renderer, page_route(renderer)).routes:
        path = route.path
        for name, value in given.items():
            path = path.replace(name, value)
        yield path


def test_every_page_of_the_console_is_closed_to_strangers(stranger, services):
    paths = list(console_paths(services))
    assert len(paths) >= 10
    for path in paths:
        answer = stranger.get(path, params={"series": "x"})
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
