"""A small county: two towns of two counties, fields in a row, and the persons who look after them."""

import math
import shutil
from types import SimpleNamespace

import pytest

from cloud.accounts import Accounts
from cloud.database import open_database
from cloud.land import Batch, Claim, Land, LandRules
from cloud.land.demonstration import demonstration_photo
from cloud.regions import Regions
from cloud.who import Grant, Role, Who

HERE, THERE = "500235103", "500153103"
STEP_DEG = 0.002


def feature(parcel, *, at=0, **changes):
    """One finding as remote sensing writes it: a square of some 100 m at place `at` of the row."""
    west, south = 108.7 + STEP_DEG * at, 30.9
    east, north = west + 0.001, south + 0.001
    properties = {
        "parcel": parcel,
        "class_name": "abandoned",
        "probabilities": {"abandoned": 0.9, "cultivated": 0.1},
        "crop_year": 2026,
        "observability": "observable",
        "reasons_zh": ["连续三年未见耕作"],
        "region": HERE,
    } | changes
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def batch(*features, **more):
    return Batch.from_geojson({"type": "FeatureCollection", "features": list(features), "synthetic": True} | more)


def person(name, *grants):
    return Who(name, name, frozenset(Grant(role, region) for role, region in grants))


def claim(at=0, *, east_m=0.0, north_m=0.0, datum="WGS84", taken_ms=0, **more):
    """A position so many metres from the middle of the square at place `at`."""
    lat = 30.9005 + north_m / 111_320.0
    lon = 108.7005 + STEP_DEG * at + east_m / (111_320.0 * math.cos(math.radians(lat)))
    return Claim(lon, lat, datum, taken_ms, **more)


def build(engine, folder, clock, rules=None):
    regions = Regions(engine, clock)
    accounts = Accounts(engine, clock, inside=regions.codes_under)
    land = Land(engine, folder, clock, accounts.audit, inside=regions.codes_under, rules=rules)
    for context in (regions, accounts, land):
        context.prepare()
    photos = iter(range(1, 10_000))
    made = SimpleNamespace(
        engine=engine,
        clock=clock,
        regions=regions,
        accounts=accounts,
        land=land,
        issuer=person("issuer", (Role.ANALYST, HERE)),
        collector=person("collector", (Role.COLLECTOR, HERE)),
        reviewer=person("reviewer", (Role.REVIEWER, HERE)),
        stranger=person("stranger", *((role, THERE) for role in (Role.ANALYST, Role.COLLECTOR, Role.REVIEWER))),
        new_photo=lambda: demonstration_photo("test", next(photos) * 7_919),
    )
    made.claim = lambda at=0, **more: claim(at, taken_ms=clock(), **more)
    made.file = lambda case, at=0, who=None: (
        land.add_evidence(who or made.collector, case, made.claim(at), made.new_photo()).id
    )
    return made


@pytest.fixture
def rules():
    return LandRules()


@pytest.fixture
def world(engine, tmp_path, clock, rules):
    return build(engine, tmp_path / "photos", clock, rules)


@pytest.fixture(scope="session")
def blank(tmp_path_factory):
    """A database file with all tables and regions: made once, copied for each test."""
    folder = tmp_path_factory.mktemp("blank")
    engine = open_database(f"sqlite:///{folder / 'blank.db'}")
    build(engine, folder, lambda: 1_700_000_000_000)
    engine.dispose()
    return folder / "blank.db"


@pytest.fixture
def quick_world(tmp_path, clock, rules, blank):
    """The same on SQLite only, for what has nothing to do with the database."""
    engine = open_database(f"sqlite:///{shutil.copy(blank, tmp_path / 'quick.db')}")
    yield build(engine, tmp_path / "photos", clock, rules)
    engine.dispose()


@pytest.fixture
def fresh_world(tmp_path, clock):
    """A maker of empty worlds in memory, for properties."""

    def make():
        return build(open_database("sqlite:///:memory:"), tmp_path / "photos", clock)

    return make


@pytest.fixture
def tools():
    """The makers of findings, batches and persons."""
    return SimpleNamespace(feature=feature, batch=batch, person=person, here=HERE, there=THERE)
