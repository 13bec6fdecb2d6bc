import json

import pytest
from sqlalchemy import select

from cloud.land import Batch
from cloud.land.store import batches, detections, parcels
from cloud.problems import Conflict, Invalid, NotFound, Refused
from cloud.who import Role


def status(world, parcel):
    return world.land.parcel(world.reviewer, parcel)["status"]


@pytest.mark.parametrize(
    ("changes", "shown", "candidate"),
    [
        ({}, "suspected", True),
        ({"probabilities": {"abandoned": 0.45, "cultivated": 0.3, "natural": 0.25}}, "suspected", False),
        ({"observability": "partly"}, "suspected", False),
        ({"class_name": "cultivated"}, "cultivated", False),
        ({"class_name": "idle_season"}, "cultivated", False),
        ({"class_name": "converted"}, "converted", False),
        ({"class_name": "natural"}, "natural", False),
        ({"class_name": "undecided", "probabilities": {}}, "unknown", False),
        (
            {"class_name": "undecided", "probabilities": {}, "observability": "not_observable"},
            "not_observable",
            False,
        ),
    ],
)
def test_only_land_seen_well_as_abandoned_opens_a_candidate(quick_world, tools, changes, shown, candidate):
    done = quick_world.land.import_detections(tools.batch(tools.feature("P1", **changes)))
    assert (done.parcels, done.detections, done.candidates) == (1, 1, int(candidate))
    assert status(quick_world, "P1") == shown
    assert [case.state for case in quick_world.land.cases(quick_world.reviewer).items] == ["candidate"] * candidate


def test_the_same_findings_again_change_nothing(world, tools):
    fields = tools.batch(tools.feature("P1"), tools.feature("P2", at=1, class_name="cultivated"))
    world.land.import_detections(fields)
    with world.engine.connect() as db:
        before = [list(db.execute(select(table))) for table in (parcels, detections)]
    again = world.land.import_detections(fields)
    assert (again.parcels, again.detections, again.known, again.candidates) == (0, 0, 2, 0)
    with world.engine.connect() as db:
        assert before == [list(db.execute(select(table))) for table in (parcels, detections)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"class_name": "guilty"}, "guilty"),
        ({"observability": "sort of"}, "sort of"),
        ({"observability": "not_observable"}, "not observable and yet"),
        ({"probabilities": {}}, "without probabilities"),
        ({"probabilities": {"abandoned": 1.4, "cultivated": -0.4}}, "sum 1"),
        ({"probabilities": {"abandoned": 0.9}}, "sum 1"),
        ({"crop_year": 20266}, "crop year"),
        ({"region": "999999"}, "999999"),
    ],
)
def test_a_bad_finding_is_left_out_and_named_and_the_rest_goes_on(quick_world, tools, changes, says):
    done = quick_world.land.import_detections(tools.batch(tools.feature("BAD", **changes), tools.feature("P2", at=1)))
    assert done.detections == 1
    assert len(done.refused) == 1
    assert says in done.refused[0]
    with pytest.raises(NotFound):
        quick_world.land.parcel(quick_world.reviewer, "BAD")


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Point", "coordinates": [108.7, 30.9]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[640000, 0], [640001, 0], [640001, 1], [640000, 0]]]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Blob"},
        None,
    ],
)
def test_an_outline_that_is_none_is_left_out(quick_world, tools, geometry):
    bad = tools.feature("BAD") | {"geometry": geometry}
    done = quick_world.land.import_detections(tools.batch(bad, tools.feature("P2", at=1)))
    assert (done.detections, len(done.refused)) == (1, 1)


def test_a_parcel_never_changes_its_outline_unnoticed(quick_world, tools):
    quick_world.land.import_detections(tools.batch(tools.feature("P1")))
    done = quick_world.land.import_detections(tools.batch(tools.feature("P1", at=3, crop_year=2027)))
    assert done.detections == 0
    assert "another outline" in done.refused[0]


@pytest.mark.parametrize(
    "content", ["", "{}", '{"type": "FeatureCollection"}', '{"type": "FeatureCollection", "features": "x"}']
)
def test_a_file_that_is_no_collection_is_refused_by_name(tmp_path, content):
    path = tmp_path / "found.geojson"
    path.write_text(content)
    with pytest.raises(Invalid, match=r"found\.geojson"):
        Batch.from_geojson(path)


def test_a_batch_says_whether_it_was_validated(quick_world, tools):
    quick_world.land.import_detections(tools.batch(tools.feature("P1")))
    with quick_world.engine.connect() as db:
        assert "not validated" in db.execute(select(batches.c.accuracy)).scalar_one()
    assert "not validated" in quick_world.land.parcel(quick_world.reviewer, "P1")["findings"][0]["accuracy"]


def test_a_detection_is_kept_word_for_word(quick_world, tools):
    finding = tools.feature("P1")
    quick_world.land.import_detections(tools.batch(finding))
    with quick_world.engine.connect() as db:
        assert json.loads(db.execute(select(detections.c.record)).scalar_one()) == finding["properties"]


def test_a_case_is_opened_by_hand_only_where_land_is_seen_as_abandoned(quick_world, tools):
    partly = tools.feature("P1", observability="partly")
    tilled = tools.feature("P2", at=1, class_name="cultivated")
    quick_world.land.import_detections(tools.batch(partly, tilled))
    case = quick_world.land.open_case(quick_world.issuer, "P1")
    assert (case.state, case.parcel) == ("candidate", "P1")
    with pytest.raises(Conflict, match=case.id):
        quick_world.land.open_case(quick_world.issuer, "P1")
    with pytest.raises(Refused):
        quick_world.land.open_case(quick_world.issuer, "P2")
    with pytest.raises(NotFound):
        quick_world.land.open_case(quick_world.stranger, "P1")


def test_case_numbers_run_by_county_and_year(world, tools):
    world.land.import_detections(tools.batch(*(tools.feature(f"P{n}", at=n) for n in range(3))))
    world.land.import_detections(tools.batch(tools.feature("P9", at=9, region=tools.there)))
    numbers = {case.id for case in world.land.cases(tools.person("x", (Role.VIEWER, "500000"))).items}
    assert numbers == {"500235-2026-00001", "500235-2026-00002", "500235-2026-00003", "500153-2026-00001"}
