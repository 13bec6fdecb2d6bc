"""What an official sees, in a real browser."""

import re

import pytest

from cloud.alarms import AlarmStore, Watched
from cloud.alarms.engine import Change
from edge.farms import load_farm
from edge.rules import Transition

pytestmark = pytest.mark.browser
HAN = re.compile("[\u4e00-\u9fff]")


def test_the_console_is_closed_to_strangers_and_says_how_to_get_in(open_page):
    page = open_page()
    answer = page.goto("/console")
    assert answer.status == 401
    assert "一次性登录链接" in page.inner_text("main")


def test_a_one_time_link_leads_to_four_live_farms(console):
    page = console()
    assert page.inner_text("h1") == "4 座农场全部在线"
    assert page.locator(".farm").count() == 4
    assert page.locator(".farm .state.ok").count() == 4
    assert page.locator(".farm .readings b").count() >= 12


def test_the_overview_tells_the_case_the_refusal_and_the_logs_health(console):
    text = console().inner_text("main")
    assert "已销号" in text
    assert "最早合法日期" in text
    assert "检查点时间" in text
    assert "暂无见证方" in text
    assert "SYNTHETIC" in text


def test_live_values_come_without_a_reload_and_silence_is_said(console):
    page = console()
    page.clock.install()
    page.reload()
    page.evaluate("document.querySelector('.farm h2').dataset.old = 'yes'")
    page.evaluate("document.querySelector('.stack h2').dataset.old = 'yes'")
    page.clock.run_for(6000)
    page.wait_for_selector(".farm:first-child h2:not([data-old])")
    page.wait_for_selector(".stack .card:first-child h2:not([data-old])")
    assert page.locator("#map canvas").count() > 0, "the map is left alone"
    page.context.set_offline(True)
    wait_until(page, lambda: page.clock.run_for(20_000) or page.locator(".lost-line").count() > 0)
    assert "连接中断" in page.inner_text(".lost-line >> nth=0")


def test_the_map_paints_parcels_in_the_colour_of_their_status(console):
    page = console()
    page.goto("/console/map")
    page.wait_for_selector("#map[data-ready='120']")
    colours = painted(page)
    assert colours["4d9a6a"] > 2000, "cultivated"
    assert colours["f28e2b"] > 300, "suspected"
    assert colours["3b4ba3"] > 300, "converted"
    page.uncheck("input[data-status=cultivated]")
    wait_until(page, lambda: painted(page)["4d9a6a"] == 0)


def test_a_click_on_the_overviews_map_leads_to_the_parcel(console):
    page = console()
    page.wait_for_selector("#map[data-ready='120']")
    across, down = page.evaluate(INSIDE_A_PARCEL)

    def clicked_through():
        if "parcel=SYN-" not in page.url:
            page.locator("#map").click(position={"x": across, "y": down}, timeout=5000)
            page.wait_for_timeout(500)
        return "parcel=SYN-" in page.url

    wait_until(page, clicked_through)
    page.wait_for_selector("#parcel .facts")


def test_a_click_on_a_parcel_opens_the_reasons_beside_the_map(console):
    page = console()
    page.goto("/console/map")
    page.wait_for_selector("#map[data-ready]")
    page.locator("a[data-parcel]").first.click()
    page.wait_for_selector("#parcel .chances")
    text = page.inner_text("#parcel")
    assert "判断依据" in text
    assert "SYNTHETIC" in text
    assert "线索" in text
    assert "parcel=SYN-" in page.url


def test_the_list_holds_every_parcel_without_the_map(console):
    page = console(java_script_enabled=False)
    page.goto("/console/map?status=all")
    assert page.locator("tbody tr").count() == 50
    page.click(".pager a")
    page.click(".pager a >> nth=1")
    assert page.locator("tbody tr").count() == 20


def test_a_closed_case_shows_steps_photos_and_who_signed(console):
    page = console()
    page.goto("/console/cases?state=closed")
    page.click("tbody a >> nth=0")
    page.wait_for_url("**/console/cases/*")
    page.wait_for_load_state("load")
    text = page.inner_text("main")
    assert "演示审核员" in text
    assert "撂荒两年以上" in text
    assert "已销号" in text
    assert page.locator(".photos img").count() == 3
    assert page.evaluate("Array.from(document.images).every((image) => image.complete && image.naturalWidth > 0)")


def test_a_gateways_chart_leaves_its_gap_open(console):
    page = console()
    page.goto("/console/gateways/nanan-pond")
    page.wait_for_selector(".uplot canvas")
    assert "1 处缺口" in page.inner_text("main")


def test_a_chart_without_scripts_is_drawn_in_two_strokes(console):
    page = console(java_script_enabled=False)
    page.goto("/console/gateways/nanan-pond")
    assert page.locator(".plot path[stroke='#2f6b4a']").count() == 2


@pytest.fixture
def storm(services):
    """Six alarms that began together at one farm, as the watch would have written them."""
    store, now = AlarmStore(services.engine), services.clock()
    owner, rules = services.registry.gateway("hechuan-layer"), list(load_farm("layer_house").rules.values())[:6]
    watched = Watched(owner.id, owner.name, owner.region, tuple(rules))
    raised = [Change(watched, rule, Transition(rule.id, "raised", now - n, now - n)) for n, rule in enumerate(rules)]
    store.apply(raised, [], {}, [], 0, now)
    return [one.id for one in services.alarms.board(gateway=owner.id, open_only=True).items]


def test_a_storm_is_one_line_that_opens_and_is_answered_with_one_tick(console, services, storm):
    page = console()
    page.goto("/console/alarms")
    assert page.locator(".storm").count() == 1
    if page.locator(".storm[open]").count() == 0:
        page.click(".storm summary")
    assert page.locator(".storm li.alarm").count() == len(storm)
    page.check(".storm input[data-storm]")
    page.uncheck(".storm input[name=alarm] >> nth=0")
    assert page.evaluate("document.querySelector('[data-storm]').indeterminate")
    page.check(".storm input[data-storm]")
    page.click(".bulk > button")
    page.wait_for_url("**/console/alarms")
    assert {services.alarms.get(one).state for one in storm} == {"acknowledged"}


def test_the_trace_side_lists_lots_refusals_and_the_log(console):
    page = console()
    page.goto("/console/trace")
    text = page.inner_text("main")
    assert page.locator("section table").first.locator("tbody tr").count() == 4
    assert "依据" in text
    assert re.search("[0-9a-f]{64}", text)
    page.locator(".qr img").last.scroll_into_view_if_needed()
    wait_until(page, lambda: page.evaluate(EVERY_LABEL_DRAWN) == 4)
    with page.expect_download() as fetched:
        page.locator(".qr a[download$='.png']").first.click()
    assert fetched.value.path().read_bytes().startswith(b"\x89PNG")


EVERY_LABEL_DRAWN = """() => Array.from(document.querySelectorAll(".qr img"))
  .filter((image) => image.complete && image.naturalWidth > 0).length"""

PLACES = (
    "/console",
    "/console/farms",
    "/console/alarms?show=all",
    "/console/map",
    "/console/cases",
    "/console/trace",
    "/console/gateways/nanan-pond",
    "/console/parcels/SYN-00006",
)


def test_every_page_of_the_console_is_complete_in_english(console):
    page = console()
    for place in PLACES:
        page.goto(f"{place}{'&' if '?' in place else '?'}lang=en")
        shell = page.evaluate(
            """() => {
              for (const part of document.querySelectorAll("[lang=zh-CN]:not(html)")) part.remove();
              return ["nav", "h1", "h2", "h3", "dt", "th", "caption", ".state", "button", "footer", "title", ".notice"]
                .flatMap((kind) => Array.from(document.querySelectorAll(kind), (part) => part.textContent)).join("\\n");
            }"""
        )
        names = ("荣昌示范猪舍", "合川示范鸡舍", "云阳示范柑橘园", "南岸示范鱼塘")
        for name in names:
            shell = shell.replace(name, "")
        assert HAN.findall(shell) == [], place


@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_scrolls_sideways(console, width):
    page = console(viewport={"width": width, "height": 740})
    for place in PLACES:
        page.goto(place)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place


def test_a_missing_thing_is_explained_in_plain_words(console):
    page = console()
    answer = page.goto("/console/parcels/NOPE")
    assert answer.status == 404
    assert "没有找到" in page.inner_text("h1")
    answer = page.goto("/console/cases?state=nonsense")
    assert answer.status == 422


def test_names_from_outside_are_text_and_never_markup(console, services):
    name = "<img src=x onerror=alert(1)>"
    services.registry.change_gateway("nanan-pond", name=name)
    try:
        page = console()
        assert name in page.inner_text("main")
        assert page.locator("main img").count() == 0
    finally:
        services.registry.change_gateway("nanan-pond", name="南岸示范鱼塘")


def wait_until(page, happened):
    """Look again and again, for ten seconds at most; a busy machine draws late."""
    for _ in range(100):
        if happened():
            return
        page.wait_for_timeout(100)
    pytest.fail("it did not happen within ten seconds")


# The middle of some converted parcel, in pixels from the map's corner (device pixels are CSS pixels here).
INSIDE_A_PARCEL = """() => {
  const canvas = document.querySelector("#map canvas");
  const pen = canvas.getContext("2d");
  const { data, width, height } = pen.getImageData(0, 0, canvas.width, canvas.height);
  const is = (x, y) => data[4 * (y * width + x)] === 0x3b && data[4 * (y * width + x) + 2] === 0xa3;
  for (let y = 8; y < height - 8; y += 1)
    for (let x = 8; x < width - 8; x += 1)
      if (is(x, y) && is(x - 5, y) && is(x + 5, y) && is(x, y - 5) && is(x, y + 5)) return [x, y];
  return [0, 0];
}"""


def painted(page):
    """How many pixels of the map's canvases have each colour of the palette."""
    counts = page.evaluate(
        """() => {
          const seen = {};
          for (const canvas of document.querySelectorAll("#map canvas")) {
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            for (let at = 0; at < data.length; at += 4) {
              const name = [0, 1, 2].map((n) => data[at + n].toString(16).padStart(2, "0")).join("");
              seen[name] = (seen[name] ?? 0) + 1;
            }
          }
          return seen;
        }"""
    )
    return {name: counts.get(name, 0) for name in ("4d9a6a", "f28e2b", "3b4ba3")}
