"""The pictures in the README and the documents, made only when asked: `pytest tests/browser --screenshots`."""

from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.browser
FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"


@pytest.fixture
def folder(request):
    """Where pictures go; skips unless they were asked for."""
    if not request.config.getoption("--screenshots", default=False):
        pytest.skip("pictures are made with --screenshots only")
    FOLDER.mkdir(parents=True, exist_ok=True)
    return FOLDER


def keep(page, file):
    """Take the picture in 256 colours: a third of the bytes, and nobody sees it."""
    page.screenshot(path=file)
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def test_a_picture_of_the_console(console, folder):
    page = console(viewport={"width": 1280, "height": 1210})
    page.wait_for_selector("#map[data-ready]")
    keep(page, folder / "console.png")


def test_a_picture_of_the_map(console, folder):
    page = console(viewport={"width": 1280, "height": 860})
    page.goto("/console/map")
    page.wait_for_selector("#map[data-ready]")
    page.locator("a[data-parcel]").first.click()
    page.wait_for_selector("#parcel .chances")
    page.locator("#map-fit").click()
    page.wait_for_timeout(600)
    page.evaluate("window.scrollTo(0, 0)")
    keep(page, folder / "map.png")


def test_a_picture_of_the_scan_page(open_page, lots, folder):
    page = open_page(viewport={"width": 420, "height": 860})
    page.goto(lots["pork"])
    page.wait_for_selector("#verdict[data-state=passed]")
    keep(page, folder / "scan.png")
