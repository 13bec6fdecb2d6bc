"""A real Tianmai in this process, seeded through the services' own doors, and a real Chromium in front of it."""

import math
import random
from urllib.parse import urlsplit

import numpy as np
import pytest
from processes import free_port

from cloud import demonstration as demo
from cloud.land import Batch
from cloud.settings import Settings
from cloud.supervisor import Server
from cloud.telemetry import Arrival
from cloud.telemetry.store import Points, columns
from cloud.wiring import build, utc_now_ms
from edge.farms import load_farm

HOUR_MS = 3_600_000
# Where the made-up parcels lie: near Yunyang, in a grid of 12 columns.
WEST, SOUTH, SIDE = 108.90, 30.93, 0.0012
KINDS = (
    *(("cultivated", "observable"),) * 6,
    ("abandoned", "observable"),
    ("idle_season", "observable"),
    ("converted", "observable"),
    ("natural", "observable"),
    ("undecided", "not_observable"),
    ("undecided", "partly"),
)


def pytest_addoption(parser):
    parser.addoption("--screenshots", action="store_true", help="write docs/screenshots from the running pages")


@pytest.fixture(scope="session")
def services(tmp_path_factory, request):
    """The whole cloud over temporary stores: four farms, parcels, one closed case, four lots, one refusal.

    For pictures the county is the one that `run` shows, judged from its synthetic scenes; tests make do with squares.
    """
    port = free_port()
    settings = Settings(
        var=tmp_path_factory.mktemp("var"), readings_url="memory://", http_port=port, database_url="", public_url=""
    )
    built = build(settings)
    demo.prepare_person(built)
    demo.prepare_gateways(built)
    if request.config.getoption("--screenshots", default=False):
        demo.detect_county(built.land, demo.COUNTY)
    else:
        built.land.import_detections(Batch.from_geojson(county(), region=str(demo.COUNTY["region"])))
    demo.play_land_loop(built)
    demo.play_chains(built)
    for farm in demo.FARMS:
        seed_readings(built, farm.gateway, farm.farm)
    yield built
    built.close()


@pytest.fixture(scope="session")
def site(services):
    """Address of the running pages."""
    with Server(services):
        yield services.settings.site


@pytest.fixture(scope="session")
def chromium(need_program):
    """One browser for all tests of the session."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not needed where there is no browser

    path = need_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, site):
    """A function that opens a fresh page; afterwards no request may have left the site, and no script failed."""
    contexts, strangers, faults = [], [], []

    def note(request):
        if urlsplit(request.url).netloc != urlsplit(site).netloc and not request.url.startswith(("data:", "blob:")):
            strangers.append(request.url)

    def opened(**options):
        context = chromium.new_context(base_url=site, **({"viewport": {"width": 1280, "height": 800}} | options))
        contexts.append(context)
        context.on("request", note)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert strangers == []
    assert faults == []


@pytest.fixture
def console(open_page, services):
    """A function that opens a page of somebody who has signed in by a one-time link."""

    def opened(**options):
        page = open_page(**options)
        page.goto("/sign-in/" + services.accounts.issue_sign_in(demo.PERSON))
        return page

    return opened


@pytest.fixture(scope="session")
def lots(services):
    """Paths of the four lots by chain."""
    return {lot.chain: lot.path for lot in services.provenance.lots()}


def seed_readings(services, gateway, farm):
    """Seven hours of readings of one farm at its sensors' own pace, with an hour's gap in the middle."""
    rows = load_farm(farm).series.values()
    owner = services.registry.gateway(gateway)
    series = services.registry.ensure_series(owner, {row.name: row.unit for row in rows})
    now, chance = utc_now_ms(), random.Random(farm)
    ids, times, values = [], [], []
    for row in rows:
        like = row.simulate
        for at in range(now - 7 * HOUR_MS, now + 1, row.interval_s * 1000):
            if 3 * HOUR_MS < now - at < 4 * HOUR_MS:
                continue
            hour = (at / HOUR_MS + 8) % 24
            curve = like.base + like.day * math.cos((hour - like.peak) / 24 * 2 * math.pi)
            ids.append(series[row.name].id)
            times.append(at)
            values.append(round(curve + chance.gauss(0, like.noise), 3))
    points = Points(*columns(ids, times, values, np.zeros(len(ids))))
    services.readings.append([Arrival(key=None, points=points, received_ms=now)])


def county():
    """A feature collection in the form remote sensing writes: 120 squares, every class among them."""
    return {
        "type": "FeatureCollection",
        "synthetic": True,
        "profile": "cn_admin",
        "model": "test",
        "calibration": "none",
        "features": [parcel(n, *KINDS[n % len(KINDS)]) for n in range(120)],
    }


def parcel(number, class_name, observability):
    """One square parcel with the record of a detection."""
    west, south = WEST + number % 12 * SIDE * 1.1, SOUTH + number // 12 * SIDE * 1.1
    corners = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
    years = list(range(2019, 2027))
    unsure = class_name == "undecided"
    idle = {"abandoned": 0.93, "cultivated": 0.04}.get(class_name, 0.1)
    return {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[west + x * SIDE, south + y * SIDE] for x, y in corners]],
        },
        "properties": {
            "parcel": f"SYN-{number:05d}",
            "class_name": class_name,
            "observability": observability,
            "probabilities": {} if unsure else probabilities(class_name),
            "crop_year": 2026,
            "onset": {"p05": 2023, "p50": 2024, "p95": 2024} if class_name == "abandoned" else None,
            "pure_pixels": 0 if observability == "not_observable" else 42,
            "crop_years": years,
            "looks": [3 if year == 2021 else 14 for year in years],
            "p_abandoned": [None if year == 2021 or unsure else (idle if year >= 2024 else 0.05) for year in years],
            "p_cultivated": [None if unsure else 1 - idle for _ in years],
            "reasons_zh": ["两季均未见翻耕", "植被年内起伏小,像灌草"],
            "reasons_en": ["no tillage seen in either season", "little change within the year, like shrub"],
            "profile": "cn_admin",
            "model": "test",
            "calibration": "none",
            "synthetic": True,
        },
    }


def probabilities(class_name):
    """Most of the weight on one class."""
    names = ("cultivated", "idle_season", "abandoned", "converted", "natural")
    return {name: 0.92 if name == class_name else 0.02 for name in names}
