"""Nobody learns of anything outside his regions: for random trees and random grants."""

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.land.cycle import Action
from cloud.problems import Forbidden, NotFound
from cloud.who import Role

# A city, three counties, two towns each; the first county also has a village and a grid.
PARENTS = {
    "500000": None,
    **{f"50010{n}": "500000" for n in (1, 2, 3)},
    **{f"50010{n}{town}": f"50010{n}" for n in (1, 2, 3) for town in ("001", "100")},
    "500101001201": "500101001",
    "500101001201G01": "500101001201",
}
CODES = sorted(PARENTS)


def inside(code, region):
    while code is not None and code != region:
        code = PARENTS[code]
    return code == region


@pytest.fixture
def county(fresh_world, tools):
    world = fresh_world()
    by_level = [[c for c in CODES if len(c) == n] for n in (6, 9, 12, 15)]
    for codes in by_level:
        lines = [{"code": c, "name_zh": c, "parent_code": PARENTS[c] or ""} for c in codes]
        world.regions.import_rows("list", lines)
    features = [tools.feature(f"P-{code}", at=n, region=code) for n, code in enumerate(CODES)]
    world.land.import_detections(tools.batch(*features))
    chief = tools.person("chief", (Role.ADMIN, "500000"))
    hand = tools.person("hand", (Role.COLLECTOR, "500000"))
    cases = {case.region: case.id for case in world.land.cases(chief, limit=100).items}
    photos = {}
    for n, code in enumerate(CODES):
        world.land.issue(chief, cases[code], collector="hand")
        world.land.accept(hand, cases[code])
        photos[code] = world.land.add_evidence(hand, cases[code], world.claim(n), world.new_photo()).photo_sha256
    yield SimpleNamespace(land=world.land, regions=world.regions, cases=cases, photos=photos)
    world.engine.dispose()


grants = st.lists(st.tuples(st.sampled_from(Role), st.sampled_from(CODES)), max_size=3)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=grants, narrowed=st.sampled_from([None, *CODES]))
def test_lists_hold_exactly_what_lies_in_ones_regions(county, tools, held, narrowed):
    who = tools.person("who", *held)
    mine = {
        code
        for code in CODES
        if any(inside(code, region) for _, region in held) and (narrowed is None or inside(code, narrowed))
    }
    land = county.land
    assert {f["properties"]["region"] for f in land.parcels(who, region=narrowed)["features"]} == mine
    assert {case.region for case in land.cases(who, region=narrowed).items} == mine
    if narrowed is None:
        assert sum(land.counts(who)["parcels"].values()) == len(mine)
        assert sum(land.counts(who)["cases"].values()) == len(mine)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=grants, code=st.sampled_from(CODES), action=st.sampled_from(Action))
def test_what_lies_outside_looks_as_if_it_were_not_there(county, tools, held, code, action):
    who = tools.person("who", *held)
    land, case = county.land, county.cases[code]
    seen = any(inside(code, region) for _, region in held)
    looks = [
        lambda: land.parcel(who, f"P-{code}"),
        lambda: land.case(who, case),
        lambda: land.photo(who, county.photos[code]),
    ]
    for look in looks:
        if seen:
            look()
        else:
            with pytest.raises(NotFound):
                look()
    if seen:
        return
    missing = "500000-2026-99999"
    acts = {
        Action.ISSUE: lambda number: land.issue(who, number),
        Action.ACCEPT: lambda number: land.accept(who, number),
        Action.REFUSE: lambda number: land.refuse(who, number, "x"),
        Action.CLOSE: lambda number: land.close(who, number),
        Action.DISPUTE: lambda number: land.dispute(who, number, "x"),
    }
    act = acts.get(action, lambda number: land.escalate(who, number, "x"))
    answers = []
    for number in (case, missing):
        with pytest.raises(NotFound) as no:
            act(number)
        answers.append(no.value.detail.replace(number, "N"))
    assert answers[0] == answers[1]


def test_a_role_in_one_county_is_no_role_in_the_next(county, tools):
    who = tools.person("who", (Role.ANALYST, "500101"), (Role.VIEWER, "500102"))
    with pytest.raises(Forbidden):
        county.land.escalate(who, county.cases["500102"], "x")


def test_a_dissolved_county_goes_to_its_heir_with_all_its_cases(county, tools):
    change = {
        "year": "2020",
        "type": "撤销",
        "old_code": "500101",
        "old_name": "a",
        "new_code": "500102",
        "new_name": "b",
    }
    county.regions.import_rows("changes", [change])
    old, heir = (tools.person("who", (Role.VIEWER, region)) for region in ("500101", "500102"))
    assert {case.region for case in county.land.cases(old).items} == set()
    assert {code for code in CODES if code.startswith(("500101", "500102"))} == {
        case.region for case in county.land.cases(heir).items
    }


def test_pages_hang_together_without_gap_or_repeat(county, tools):
    chief = tools.person("chief", (Role.VIEWER, "500000"))
    seen, after = [], None
    while True:
        page = county.land.cases(chief, limit=3, after=after)
        seen += [case.id for case in page.items]
        after = page.next
        if after is None:
            break
    assert seen == [case.id for case in county.land.cases(chief, limit=100).items]
    parcels, after = [], None
    while True:
        body = county.land.parcels(chief, limit=4, after=after)
        parcels += [feature["id"] for feature in body["features"]]
        after = body.get("next")
        if after is None:
            break
    assert parcels == sorted(f"P-{code}" for code in CODES)
