"""The estimators against the worked examples of their papers, and against simulated surveys."""

import numpy as np
import pytest

from remote_sensing.accuracy import assess, calibration_by_block, calibration_error, design_sample, draw_sample
from remote_sensing.cubes import LandError


def units(matrix, names):
    """An error matrix of counts (map rows, reference columns) as sample units."""
    mapped, reference = [], []
    for row, said in enumerate(names):
        for column, true in enumerate(names):
            mapped += [said] * matrix[row][column]
            reference += [true] * matrix[row][column]
    return mapped, reference


def test_the_worked_example_of_olofsson_2014():
    names = ("deforestation", "gain", "stable forest", "stable non-forest")
    matrix = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
    sizes = dict(zip(names, (200_000, 150_000, 3_200_000, 6_450_000), strict=True))
    mapped, reference = units(matrix, names)
    found = assess(mapped, mapped, reference, sizes)
    assert found.overall.value == pytest.approx(0.95, abs=0.005)
    users = [0.88, 0.73, 0.93, 0.96]
    producers = [0.75, 0.85, 0.93, 0.96]
    for name, user, producer in zip(names, users, producers, strict=True):
        assert found.users[name].value == pytest.approx(user, abs=0.006)
        assert found.producers[name].value == pytest.approx(producer, abs=0.006)
    # table 9 of the paper: proportions of area, not counts
    assert found.matrix["deforestation"]["deforestation"] == pytest.approx(0.0176, abs=5e-5)
    assert found.matrix["stable non-forest"]["stable forest"] == pytest.approx(0.0179, abs=5e-5)
    assert sum(sum(row.values()) for row in found.matrix.values()) == pytest.approx(1)
    lost = found.area["deforestation"]
    assert lost.value * 0.09 == pytest.approx(21_158, rel=1e-3)
    assert 1.96 * lost.se * 0.09 == pytest.approx(6_158, rel=5e-3)


def test_the_worked_example_of_stehman_2014():
    strata = [name for name in "ABCD" for _ in range(10)]
    mapped = list("AAAAAAABBBABBBBBBBBBBBCCCCCCBBDDDDDDDDDD")
    reference = list("AAAAACBABCABBBBBAABBCCCCCDDBBADDDDDDDCCB")
    found = assess(strata, mapped, reference, {"A": 40_000, "B": 30_000, "C": 20_000, "D": 10_000})
    assert found.area["A"].value / 1e5 == pytest.approx(0.35, abs=0.0005)
    assert found.area["A"].se / 1e5 == pytest.approx(0.082, abs=0.0005)
    assert found.area["C"].value / 1e5 == pytest.approx(0.20, abs=0.0005)
    assert found.area["C"].se / 1e5 == pytest.approx(0.064, abs=0.0005)
    assert found.overall.value == pytest.approx(0.63, abs=0.0005)
    assert found.overall.se == pytest.approx(0.085, abs=0.0005)
    assert found.users["B"].value == pytest.approx(0.574, abs=0.0005)
    assert found.users["B"].se == pytest.approx(0.125, abs=0.001)
    assert found.producers["B"].value == pytest.approx(0.794, abs=0.0005)
    assert found.producers["B"].se == pytest.approx(0.116, abs=0.001)


def test_the_area_interval_covers_the_truth_in_simulated_surveys():
    rng = np.random.default_rng(4)
    truth = rng.random(20_000) < 0.15
    said = np.where(rng.random(20_000) < 0.12, ~truth, truth)
    words = np.where(said, "gone", "worked")
    sizes = {name: int((words == name).sum()) for name in ("gone", "worked")}
    counts = design_sample(sizes, {"gone": 0.7, "worked": 0.95}, target_se=0.012)
    hits = 0
    for survey in range(200):
        rows = draw_sample(words, counts, seed=survey)
        seen = assess(words[rows], words[rows], np.where(truth[rows], "gone", "worked"), sizes)
        hits += seen.area["gone"].low <= truth.sum() <= seen.area["gone"].high
    assert hits / 200 >= 0.92


def test_rare_strata_keep_their_least_number_of_units():
    counts = design_sample({"gone": 500, "worked": 99_500}, {"gone": 0.7, "worked": 0.95})
    assert counts["gone"] == 50
    assert counts["worked"] > 300


def test_samples_that_cannot_carry_an_estimate_are_refused():
    with pytest.raises(LandError, match="stratum b"):
        assess(["a", "a", "b"], ["x", "x", "x"], ["x", "x", "x"], {"a": 10, "b": 10})
    with pytest.raises(LandError, match="no size"):
        assess(["a", "a", "c"], ["x", "x", "x"], ["x", "x", "x"], {"a": 10})


def test_calibration_error_is_zero_for_the_truth_and_large_for_boasting():
    truth = np.array([True, False] * 50)
    assert calibration_error(truth.astype(float), truth) == 0
    assert calibration_error(np.ones(100), truth) == pytest.approx(0.5)


def test_a_map_right_in_the_mean_and_wrong_in_every_valley_is_found_out_block_by_block():
    truth = np.repeat([True, False], 50)
    at = np.column_stack([np.repeat([0.0, 9.0], 50), np.zeros(100)])
    chance = np.full(100, 0.5)
    assert calibration_error(chance, truth) == 0
    blocks = calibration_by_block(chance, truth, at)
    assert [(one.row, one.column, one.samples, one.error) for one in blocks] == [(1, 1, 50, 0.5), (1, 3, 50, 0.5)]


def test_calibration_by_block_needs_a_place_for_every_unit():
    with pytest.raises(LandError, match="2 places"):
        calibration_by_block(np.array([0.1]), np.array([True]), np.zeros((2, 2)))
