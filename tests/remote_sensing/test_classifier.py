"""Few labels in, honest probabilities out."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier

from remote_sensing.classifier import CLIP, Labelled, Recipe, Trained, train
from remote_sensing.cubes import LandError
from remote_sensing.evidence import Evidence
from remote_sensing.trees import LEAST_ROWS, LEAST_SHARE, RAREST, UNSEEN, boosted, by_kinds, rare, together_of

NAMES = ("looks", "a", "b")
QUICK = Recipe(nets=2, hidden=8, steps=150, batch=64)


def points(seed, count=300, gap=0.2):
    """Three clouds of points in two numbers, some numbers missing; blocks of 20."""
    rng = np.random.default_rng(seed)
    looks = rng.choice([0, 1, 4], count)
    centre = np.array([[0, 0], [3, 0], [0, 0], [0, 0], [0, 3]])[looks]
    values = centre + rng.normal(0, 0.7, (count, 2))
    values[rng.random(values.shape) < gap] = np.nan
    clear = rng.integers(3, 20, count)
    features = np.column_stack([clear, values]).astype(np.float32)
    return Labelled(features, looks, clear, np.arange(count) // 20)


@pytest.fixture(scope="module")
def model():
    return train(points(1), NAMES, ("ndvi",), recipe=QUICK)


def test_it_tells_the_looks_apart_and_missing_numbers_do_not_hurt(model):
    test = points(2)
    scores = model.log_odds(test.features, test.clear)
    right = np.array(model.known)[scores.argmax(axis=1)] == test.looks
    assert right.mean() > 0.8
    assert np.isfinite(scores).all()


def test_a_row_with_nothing_in_it_says_little(model):
    empty = np.array([[np.nan, np.nan, np.nan]], np.float32)
    spread = model.log_odds(empty, np.array([0]))
    assert np.ptp(spread) < np.ptp(model.log_odds(np.array([[10, 3, 0]], np.float32), np.array([10])))


def test_the_same_seed_gives_the_same_model_and_saving_changes_nothing(model, tmp_path):
    again = train(points(1), NAMES, ("ndvi",), recipe=QUICK)
    assert again.id == model.id
    model.save(tmp_path / "model.npz")
    loaded = Trained.load(tmp_path / "model.npz")
    test = points(3)
    np.testing.assert_array_equal(loaded.log_odds(test.features, test.clear), model.log_odds(test.features, test.clear))
    assert (loaded.id, loaded.calibration) == (model.id, model.calibration)


@pytest.mark.parametrize("classes", [2, 3])
def test_boosted_trees_say_flat_what_scikit_learn_says(classes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 8)).astype(np.float32)
    target = np.digitize(x[:, 0] + 0.3 * rng.normal(size=600), [-0.3, 0.4][: classes - 1])
    plan = Recipe(boosts=15)
    flat = boosted(x, target, (15, plan.step, plan.leaf), seed=3)
    trees = HistGradientBoostingClassifier(
        max_iter=15,
        learning_rate=plan.step,
        max_leaf_nodes=15,
        min_samples_leaf=plan.leaf,
        l2_regularization=1.0,
        max_features=0.2,
        early_stopping=False,
        random_state=3,
    ).fit(x, target)
    np.testing.assert_allclose(
        np.exp(flat.scores(np.ascontiguousarray(x.T))).T, np.maximum(trees.predict_proba(x), LEAST_SHARE), atol=1e-5
    )


def test_trees_say_of_evidence_as_it_is_what_they_say_of_it_standardised():
    rng = np.random.default_rng(5)
    raw = (rng.standard_t(2, (600, 8)) * 40 + 300).astype(np.float32)
    raw[rng.random(raw.shape) < 0.2] = np.nan
    centre, spread = np.nanmean(raw, axis=0), np.nanstd(raw, axis=0) / 3
    ready = np.clip((raw - centre) / spread, -CLIP, CLIP)
    target = np.digitize(np.nan_to_num(ready[:, 0]) + rng.normal(size=600), [-0.3, 0.4])
    trees = boosted(np.nan_to_num(ready, nan=UNSEEN), target, (15, 0.1, 10), seed=3)
    assert (trees.splits[trees.feature >= 0] < -CLIP).any(), "some ask whether anything was seen"
    wanted = trees.scores(np.ascontiguousarray(np.nan_to_num(ready, nan=UNSEEN).T))
    got = trees.in_units(centre, spread, CLIP).scores(np.ascontiguousarray(raw.T))
    off = np.abs(got - wanted).max(axis=0)
    assert (off > 1e-5).mean() < 0.005, "only what lies within rounding of a threshold may fall to its other side"
    assert off.max() < 0.05


def test_where_a_look_is_rare_trees_by_kinds_answer_together():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 8)).astype(np.float32)
    kinds = np.digitize(x[:, 0] + 0.3 * rng.normal(size=600), [-2.4, -0.3, 0.4])
    looks = np.where(kinds == 0, 1, 0)
    assert looks.mean() < RAREST
    said_of_looks = by_kinds(x, looks, kinds, 15, seed=3)
    trees = ExtraTreesClassifier(15, min_samples_leaf=LEAST_ROWS, max_features=0.3, random_state=3).fit(x, kinds)
    said = trees.predict_proba(x)
    wanted = np.stack([said[:, 1:].sum(axis=1), said[:, 0]], axis=1)
    np.testing.assert_allclose(np.exp(said_of_looks(x)), np.maximum(wanted, LEAST_SHARE), atol=1e-5)


def rare_points():
    """Three hundred points, three of them of another look."""
    some, late = points(1), np.arange(300) // 297
    return Labelled(some.features, late, some.clear, some.block, some.looks + 10 * late)


@pytest.mark.parametrize("data", [points(1, gap=0), rare_points()])
def test_students_say_of_new_years_what_their_teachers_say(data):
    plan, asked = replace(QUICK, hidden=32, steps=600, boosts=20), points(2, gap=0)
    model = train(data, NAMES, ("ndvi",), recipe=plan, seed=3)
    nets = train(data, NAMES, ("ndvi",), recipe=replace(plan, boosts=0), seed=3)
    known, new = (
        np.nan_to_num(np.clip((rows.features - model.centre) / model.spread, -CLIP, CLIP), nan=0.0)
        for rows in (data, asked)
    )
    columns = np.ascontiguousarray(new.T)
    wanted = nets.nets.chances(columns).T @ together_of(nets.kinds)
    if rare(data.looks):
        trees = by_kinds(known, data.looks, data.kinds, 20, seed=3)
        wanted = np.sqrt(wanted * np.exp(trees(new)))
        wanted /= wanted.sum(axis=1, keepdims=True)
    assert (model.trees.roots.size == 0) == rare(data.looks)
    assert np.abs(model.nets.chances(columns).T - wanted).mean() < 0.03


def test_a_model_taught_by_trees_by_kinds_knows_looks_and_is_the_same_after_saving(tmp_path):
    model = train(rare_points(), NAMES, ("ndvi",), recipe=Recipe(nets=2, hidden=8, steps=100, batch=64, boosts=6))
    assert model.kinds == model.known == (0, 1)
    model.save(tmp_path / "model.npz")
    test = points(3)
    again = Trained.load(tmp_path / "model.npz").log_odds(test.features, test.clear)
    np.testing.assert_array_equal(again, model.log_odds(test.features, test.clear))


def test_a_model_of_earlier_versions_with_large_trees_is_refused(model, tmp_path):
    model.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as held:
        np.savez(tmp_path / "old.npz", **held, shares=np.ones((), bool))
    with pytest.raises(LandError, match=r"old\.npz: not a model \(large trees .* train it again"):
        Trained.load(tmp_path / "old.npz")


def test_a_year_without_a_look_has_no_likelihood(model):
    values = np.full((3, 2, 1), np.nan, np.float32)
    none = np.zeros((2, 1), np.int16)
    assert (model.loglik(Evidence(NAMES, (1, 2), values, none, none)) == 0).all()


def test_too_few_labels_and_broken_files_are_refused(tmp_path):
    with pytest.raises(LandError, match="needs 10 of 2"):
        train(points(1).pick(np.arange(5)), NAMES, ("ndvi",))
    (tmp_path / "m.npz").write_bytes(b"not a model")
    with pytest.raises(LandError, match=r"m\.npz"):
        Trained.load(tmp_path / "m.npz")


@pytest.mark.parametrize(("part", "value"), [("left", 0), ("right", 10**6), ("feature", 3)])
def test_a_model_whose_trees_are_none_is_refused(tmp_path, part, value):
    model = train(points(1), NAMES, ("ndvi",), recipe=Recipe(nets=1, hidden=4, steps=20, batch=16, boosts=2))
    model.save(tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as held:
        arrays = dict(held)
    arrays[part][np.flatnonzero(arrays["feature"] >= 0)[-1]] = value
    np.savez(tmp_path / "bent.npz", **arrays)
    with pytest.raises(LandError, match=r"bent\.npz: not a model"):
        Trained.load(tmp_path / "bent.npz")


def test_a_model_that_has_judged_travels_as_it_did_before():
    model = train(points(1), NAMES, ("ndvi",), recipe=Recipe(nets=1, hidden=4, steps=20, batch=16, boosts=2))
    before = pickle.dumps(model)
    model.log_odds(points(2).features, points(2).clear)
    assert pickle.dumps(model) == before


def test_a_shaken_net_is_less_sure():
    seen = np.nan_to_num(points(1).features)
    sure = []
    for shake in (0.0, 0.5):
        held = train(points(1), NAMES, ("ndvi",), recipe=replace(QUICK, shake=shake), seed=1)
        sure.append(held.nets.chances(np.ascontiguousarray(((seen - held.centre) / held.spread).T)).max(axis=0).mean())
    assert sure[1] < sure[0]
