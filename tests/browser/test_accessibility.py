"""No barrier that a machine can find, on any page, in either language, in normal and in large type."""

from pathlib import Path

import pytest

import cloud

pytestmark = pytest.mark.browser
AXE = Path(cloud.__file__).parent / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def axe():
    """The source of the checker; the front end's packages bring it."""
    if not AXE.exists():
        pytest.skip("the front end's packages are not installed here: ./dev installs them")
    return AXE.read_text(encoding="utf-8")


def barriers(page, axe):
    """Rule and place of everything the checker objects to."""
    page.evaluate(axe + "; 0")
    found = page.evaluate("(tags) => axe.run(document, {runOnly: tags, resultTypes: ['violations']})", RULES)
    return [
        (rule["id"], node["target"], node["failureSummary"]) for rule in found["violations"] for node in rule["nodes"]
    ]


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_the_console_has_no_barriers(console, axe, lang):
    page = console(viewport={"width": 1366, "height": 900})
    places = ("", "/map?parcel=SYN-00006", "/parcels/SYN-00006", "/cases", "/cases/500235-2026-00001", "/trace")
    for place in (*places, "/cases/500235-2026-00002", "/gateways/nanan-pond", "/farms", "/alarms?show=all"):
        page.goto(f"/console{place}{'&' if '?' in place else '?'}lang={lang}")
        if page.locator("#map").count():
            page.wait_for_selector("#map[data-ready]")
        assert barriers(page, axe) == [], place


@pytest.mark.parametrize("query", ["", "?lang=en&size=large"])
def test_the_consumers_pages_have_no_barriers(open_page, lots, axe, query):
    page = open_page(viewport={"width": 390, "height": 844})
    for path in (lots["pork"], "/", "/01/02000015300018/10/NOPE"):
        page.goto(path + query)
        if path == lots["pork"]:
            page.wait_for_selector("#verdict[data-state=passed]")
        assert barriers(page, axe) == [], path
