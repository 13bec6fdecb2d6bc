"""One case from clue to closing by four persons in a real browser, without scripts, partly by keyboard alone."""

import pytest
from shapely.geometry import shape

from cloud.land.demonstration import demonstration_photo
from cloud.land.model import Recovery, VerdictKind

pytestmark = pytest.mark.browser


@pytest.fixture
def enter(open_page, services):
    """A function that signs somebody in, scripts off; collectors come with a narrow phone."""

    def entered(person, width=1280):
        page = open_page(java_script_enabled=False, viewport={"width": width, "height": 740})
        page.goto("/sign-in/" + services.accounts.issue_sign_in(person))
        return page

    return entered


def state(page):
    return page.inner_text(".head .tag >> nth=0")


def do(page, action, **fields):
    """Open a form where it is closed, fill it in, send it."""
    form = page.locator(f"form[action$='/{action}']")
    if not form.is_visible():
        page.locator("details.act", has=form).locator("summary").click()
    for name, value in fields.items():
        field = form.locator(f"[name={name}]")
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    form.locator("button").click()
    page.wait_for_load_state("load")


def photograph(page, file, place, seed, **changes):
    file.write_bytes(demonstration_photo(f"walk {seed}", seed))
    page.set_input_files("#evidence-photo", file)
    do(page, "evidence", **{"lon": f"{place.x:.6f}", "lat": f"{place.y:.6f}", "datum": "WGS84"} | changes)


def test_a_case_goes_from_clue_to_closing_by_four_persons(enter, services, tmp_path):
    issuer, reviewer = enter("demo-issuer"), enter("demo-reviewer")
    collector = enter("demo-collector", width=360)
    issuer.goto("/console/cases?state=candidate")
    issuer.click("tbody a >> nth=0")
    issuer.wait_for_url("**/console/cases/*")
    address = issuer.url
    case = services.land.case(services.accounts.who(token(issuer)), address.rpartition("/")[2]).case
    place = shape(services.land.parcel(services.accounts.who(token(issuer)), case.parcel)["geometry"]).centroid
    assert state(issuer) == "候选线索"
    do(issuer, "issue", collector="demo-collector")
    assert state(issuer) == "已下发"

    collector.goto(address)
    collector.locator("form[action$='/accept'] button").focus()
    collector.keyboard.press("Enter")
    collector.wait_for_selector("#evidence-photo")
    assert state(collector) == "已接收"
    assert collector.evaluate("document.documentElement.scrollWidth") <= 360
    file = tmp_path / "photo.jpg"
    photograph(collector, file, place, 1, datum="GCJ-02")
    assert "拍摄位置离地块太远" in collector.inner_text("details[open] [role=alert]")
    assert collector.input_value("#evidence-lon") == f"{place.x:.6f}"
    assert collector.evaluate("document.documentElement.scrollWidth") <= 360
    photograph(collector, file, place, 2)
    photograph(collector, file, place, 3, view="close")
    assert collector.locator(".photos img").count() == 2

    reviewer.goto(address)
    do(reviewer, "verify", kind=VerdictKind.ABANDONED_LONG, note="两季未种，灌草成片")
    assert state(reviewer) == "已核实"
    do(reviewer, "close")
    assert "规则不允许" in reviewer.inner_text("details[open] [role=alert]")
    do(reviewer, "plan_remedy", note="翻耕后复种油菜")

    collector.goto(address)
    do(collector, "start_remedy")
    do(collector, "submit", note="已翻耕")
    assert "还缺有效的现场照片" in collector.inner_text("[role=alert]")
    photograph(collector, file, place, 4)
    do(collector, "submit", note="已翻耕")
    assert state(collector) == "已提交"

    reviewer.goto(address)
    do(reviewer, "review", recovery=Recovery.TILLAGE_CROP)
    assert "其他耕作物" in reviewer.locator(".signedon").last.inner_text()
    do(reviewer, "close", note="复种属实")
    assert state(reviewer) == "已销号"

    auditor = enter("demo-auditor")
    auditor.goto(address)
    assert "现在没有需要您做的事" in auditor.inner_text("#do")
    assert "演示网格员" in auditor.inner_text("main")
    assert auditor.locator("#do form").count() == 0
    auditor.goto(f"/console/parcels/{case.parcel}")
    assert "现状由人实地核实" in auditor.inner_text("main")


def token(page):
    """The session of the person in front of a page."""
    return next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "tm_session")


def test_an_administrator_sees_forms_that_can_be_left_alone(console):
    page = console()
    page.goto("/console/cases?state=candidate")
    page.click("tbody a >> nth=0")
    page.wait_for_selector("#do details")
    assert page.locator("#do details[open]").count() == 1
