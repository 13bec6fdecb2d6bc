"""A case's forms over the real land service: what is offered to whom, and what a refusal looks like."""

import re
from zlib import crc32

import pytest
from fastapi.testclient import TestClient

from cloud.app import create_app
from cloud.land import Batch
from cloud.land.demonstration import demonstration_photo
from cloud.pages.case_actions import taken_ms
from cloud.problems import Invalid
from cloud.settings import Settings
from cloud.who import Role
from cloud.wiring import build

SITE = "http://127.0.0.1:8600"
TOWN = "500235"
ROLES = {
    "issuer": (Role.ANALYST,),
    "collector": (Role.COLLECTOR,),
    "reviewer": (Role.REVIEWER,),
    "both": (Role.COLLECTOR, Role.REVIEWER),
    "auditor": (Role.AUDITOR,),
}
SECOND = 1_795_000_000_000
INSIDE = {"lon": "108.9005", "lat": "30.9305", "datum": "WGS84"}


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    built = build(Settings(var=tmp_path_factory.mktemp("var"), readings_url="memory://"))
    for name, roles in ROLES.items():
        built.accounts.person(name, id=name)
        for role in roles:
            built.accounts.grant(name, role, TOWN, by="test")
    built.accounts.person("elsewhere", id="elsewhere")
    built.accounts.grant("elsewhere", Role.ANALYST, "500153", by="test")
    yield built
    built.close()


@pytest.fixture(scope="module")
def app(services):
    return create_app(services)


@pytest.fixture
def enter(app, services):
    """A function that signs somebody in and gives his browser."""

    def entered(name):
        client = TestClient(app, base_url=SITE)
        client.get("/sign-in/" + services.accounts.issue_sign_in(name), follow_redirects=False)
        return client

    return entered


@pytest.fixture
def case(services, enter, request):
    """A fresh candidate on a parcel of its own."""
    name = f"P-{crc32(request.node.name.encode())}"
    services.land.import_detections(Batch.from_geojson(finding(name), region=TOWN))
    issuer = enter("issuer")
    table = issuer.get("/console/cases?state=candidate").text
    number = re.search(rf'/console/cases/([\w-]+)">[^\n]*{name}', table)
    assert number is not None
    return number[1]


def finding(parcel):
    west, south, side = 108.9, 30.93, 0.001
    ring = [[west + x * side, south + y * side] for x, y in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
    properties = {
        "parcel": parcel,
        "class_name": "abandoned",
        "probabilities": {"abandoned": 0.9, "cultivated": 0.1},
        "crop_year": 2026,
        "observability": "observable",
        "reasons_zh": ["连续三年未见耕作"],
    }
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}
    return {"type": "FeatureCollection", "features": [feature], "synthetic": True}


def post(client, case, action, **more):
    data = more.pop("data", {})
    return client.post(f"/console/cases/{case}/{action}", data=data, headers={"Origin": SITE}, **more)


def photographed(client, case, seed, **changes):
    """Everything the evidence form holds, with one photo."""
    shown = client.get(f"/console/cases/{case}").text
    now = re.search(r'name="taken"[^>]*value="([^"]+)"', shown)
    assert now is not None
    picture = {"photo": ("p.jpg", demonstration_photo("test", seed), "image/jpeg")}
    return post(
        client, case, "evidence", data={**INSIDE, "taken": now[1], "view": "overview", **changes}, files=picture
    )


def test_each_person_is_offered_what_is_his_to_do(enter, case):
    offered = {
        name: set(re.findall(rf'action="/console/cases/{case}/(\w+)"', enter(name).get(f"/console/cases/{case}").text))
        for name in ROLES
    }
    assert offered["issuer"] == {"issue", "merge"}
    assert offered["reviewer"] == {"verify"}
    assert offered["collector"] == offered["auditor"] == set()


def test_a_photo_from_the_wrong_place_comes_back_with_the_reason_and_what_was_typed(enter, case):
    post(enter("issuer"), case, "issue")
    collector = enter("collector")
    post(collector, case, "accept")
    answer = photographed(collector, case, 1, datum="GCJ-02")
    assert answer.status_code == 422
    assert "拍摄位置离地块太远" in answer.text
    assert "the photo was taken" in answer.text
    assert f'value="{INSIDE["lon"]}"' in answer.text
    assert '<option value="GCJ-02" selected>' in answer.text
    assert photographed(collector, case, 1).status_code == 200
    again = photographed(collector, case, 1)
    assert again.status_code == 422
    assert "这张照片以前用过" in again.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lon": "east"}, "请填写经度"),
        ({"lat": "nan"}, "请填写纬度"),
        ({"datum": ""}, "请选择坐标系"),
        ({"taken": "yesterday"}, "请填写拍摄时间"),
        ({"taken": "2099-01-01T00:00"}, "拍摄时间在将来"),
        ({"accuracy_m": "-1"}, "定位精度"),
        ({"accuracy_m": "900"}, "定位精度不够"),
        ({"azimuth_deg": "720"}, "镜头方位"),
    ],
)
def test_a_field_filled_in_wrongly_is_named_in_plain_words(enter, case, changes, said):
    post(enter("issuer"), case, "issue", data={"collector": "collector"})
    collector = enter("collector")
    post(collector, case, "accept")
    answer = photographed(collector, case, crc32(said.encode()), **changes)
    assert answer.status_code == 422
    assert said in answer.text.partition('role="alert"')[2].partition("</div>")[0]


def test_whoever_took_the_photo_cannot_sign_and_is_told_why(enter, case):
    post(enter("issuer"), case, "issue")
    both = enter("both")
    post(both, case, "accept")
    photographed(both, case, 77)
    photo = re.search(r'name="photo" value="(\w+)"', both.get(f"/console/cases/{case}").text)
    assert photo is not None
    answer = post(both, case, "verify", data={"kind": "abandoned_long", "photo": photo[1]})
    assert answer.status_code == 403
    assert "采集证据的人不能自己作判断" in answer.text
    without = post(enter("reviewer"), case, "verify", data={"kind": "abandoned_long"})
    assert without.status_code == 422
    assert "还缺有效的现场照片" in without.text
    signed = post(enter("reviewer"), case, "verify", data={"kind": "abandoned_long", "photo": photo[1]})
    assert signed.status_code == 200
    assert "撂荒两年以上" in signed.text


def test_a_step_that_came_too_late_is_explained_beside_the_forms(enter, case):
    issuer = enter("issuer")
    post(issuer, case, "issue")
    answer = post(issuer, case, "issue")
    assert answer.status_code == 409
    assert "案件的状态刚刚变了" in answer.text


def test_a_reason_left_out_is_asked_for_in_english_too(enter, case):
    post(enter("issuer"), case, "issue")
    answer = post(enter("collector"), f"{case}", "refuse?lang=en", data={"note": "  "})
    assert answer.status_code == 422
    assert "Please give a reason." in answer.text


def test_an_unknown_action_or_a_case_of_another_region_is_not_found(enter, case):
    assert post(enter("issuer"), case, "burn").status_code == 404
    assert post(enter("elsewhere"), case, "issue").status_code == 404
    assert post(enter("issuer"), "500235-1999-00001", "issue").status_code == 404


def test_a_form_of_another_site_does_nothing(enter, case):
    issuer = enter("issuer")
    answer = issuer.post(f"/console/cases/{case}/issue", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert "候选线索" in issuer.get(f"/console/cases/{case}").text


def test_a_time_typed_means_its_last_moment_but_none_to_come():
    assert taken_ms("2026-11-18T19:06:40", SECOND + 5_000_000) % 1000 == 999
    assert taken_ms("2026-11-18T19:06", SECOND + 50_000_000) % 60_000 == 59_999
    now = taken_ms("2026-11-18T19:06:40", SECOND + 5_000_000) - 700
    assert taken_ms("2026-11-18T19:06:40", now) == now
    with pytest.raises(Invalid):
        taken_ms("noon", SECOND)
