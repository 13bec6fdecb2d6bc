"""The door: a synthetic county in, clues out; and the traps of the domain."""

import json

import numpy as np
import pytest
from distributed import Client, LocalCluster

import remote_sensing as land
from remote_sensing import synthetic


@pytest.fixture(scope="module")
def scene():
    return synthetic.county(seed=5, size=64, years=6, parcels=60)


@pytest.fixture(scope="module")
def found(scene):
    return land.detect(scene.cube, scene.parcels)


def test_every_parcel_gets_one_record_that_json_can_hold(scene, found):
    records = json.loads(json.dumps(found.records()))
    assert [record["parcel"] for record in records] == list(scene.parcels["parcel"])
    assert all(record["synthetic"] and record["model"].startswith("nets-textbook-") for record in records)
    assert found.to_geojson()["accuracy"].startswith("not validated")


def test_probabilities_are_a_distribution_or_absent(found):
    for item in found:
        assert item.probabilities == {} or sum(item.probabilities.values()) == pytest.approx(1, abs=1e-3)
        assert (item.onset is not None) == (item.class_name == "abandoned")
        if item.onset:
            assert item.onset.p05 <= item.onset.p50 <= item.onset.p95


def test_what_cannot_be_seen_is_never_judged(found):
    hidden = [item for item in found if item.observability == "not_observable"]
    assert hidden
    assert all(item.class_name == "undecided" and item.probabilities == {} for item in hidden)


def test_a_year_with_under_five_looks_is_undecided(found):
    for item in found:
        for looks, chance in zip(item.looks, item.p_abandoned, strict=True):
            assert looks >= 5 or chance is None


def test_the_same_answer_comes_out_whatever_the_tile_height(scene, found):
    again = land.detect(scene.cube, scene.parcels, tile_rows=64)
    assert [item.class_name for item in again] == [item.class_name for item in found]
    np.testing.assert_array_equal(again.maps["state"].to_numpy(), found.maps["state"].to_numpy())


def test_a_longer_definition_never_finds_more(scene, found):
    strict = land.detect(scene.cube, scene.parcels, land.YIN2020)
    for item, other in zip(found, strict, strict=True):
        for two, five in zip(item.p_abandoned, other.p_abandoned, strict=True):
            assert two is None or five <= two + 1e-3


def test_progress_ends_at_the_last_row(scene):
    steps = []
    land.detect(scene.cube, None, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (64, 64)


def test_a_cube_without_a_whole_year_is_refused(scene):
    cube = scene.cube.isel(time=slice(0, 8)).copy()
    cube.attrs = dict(cube.attrs)
    del cube.attrs["period"]
    with pytest.raises(land.LandError, match="no whole crop year"):
        land.detect(cube, scene.parcels)


def test_the_scene_is_the_same_for_the_same_seed(scene):
    again = synthetic.county(seed=5, size=64, years=6, parcels=60)
    assert again.cube.identical(scene.cube)
    assert again.truth.equals(scene.truth)


@pytest.mark.slow
def test_dask_gives_the_same_answer(scene, found):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        again = land.detect(scene.cube, scene.parcels, workers=client)
    assert again.maps.identical(found.maps)
    assert again.records() == found.records()


def test_every_definition_comes_out_of_the_kept_beliefs_without_an_image(scene, found):
    for profile in (land.ONE_YEAR, land.YIN2020):
        again = land.detect(scene.cube, scene.parcels, profile)
        for kept, fresh in zip(found, again, strict=True):
            moved = kept.under(profile)
            assert (moved.class_name, moved.profile) == (fresh.class_name, fresh.profile)
            for name, share in fresh.probabilities.items():
                assert moved.probabilities[name] == pytest.approx(share, abs=5e-3)
            assert [chance is None for chance in moved.p_abandoned] == [chance is None for chance in fresh.p_abandoned]
            if fresh.onset:
                assert abs(moved.onset.p50 - fresh.onset.p50) <= 1
