"""Every kernel against a slow and obvious numpy version."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier

from remote_sensing import kernels as fast
from remote_sensing.cubes import Calendar, pack_values
from remote_sensing.evidence import HIGH, LOW, RIDGE, SOIL, design_matrix, feature_names
from remote_sensing.trees import laid_out

MARKS = np.array([LOW, HIGH, SOIL], np.float32)


def odd(rng, shape):
    """Values -0.3..1.05 as bands hold them, none of them on a mark: odd numbers of steps."""
    return (2 * rng.integers(-1500, 5250, shape) + 1).astype(np.float32) * np.float32(1e-4)


def random_layers(seed, layers=2, years=3, pixels=7, gap=0.6):
    rng = np.random.default_rng(seed)
    start = Calendar().start(2018)
    days = np.sort(rng.choice(np.arange(start, start + years * 365), 40 * years, replace=False)).astype(np.int32)
    values = odd(rng, (layers, days.size, pixels))
    values[:, rng.random((days.size, pixels)) < gap] = np.nan
    borders = Calendar().split(days, tuple(range(2018, 2018 + years)))
    years_begin = np.repeat([Calendar().start(2018 + year) for year in range(years)], np.diff(borders))
    window = np.clip((days - years_begin) * 12 // 366, 0, 11).astype(np.int64)
    return values, (design_matrix(days, Calendar()), window, borders)


def evidence_of(layers, calendar):
    """The evidence, and that nothing beside its place was touched.

    What is missing is missing for one of two reasons: the mask says so, or one of the layers has nothing.
    """
    missing, coin = np.isnan(layers[0]), np.random.default_rng(layers.shape[1]).random(layers.shape[1:])
    clear = ~(missing & (coin < 0.6))
    layers = np.where(missing & (coin < 0.3), np.float32(0.6), layers)
    layers[1:] = np.where(missing & (coin > 0.8), np.float32(0.4), layers[1:])
    rows, years = fast.SHARED + fast.PER_LAYER * layers.shape[0], calendar[2].size - 1
    out = np.full((rows, years + 2, layers.shape[2] + 5), np.float32(7))
    made = np.array([(layer, -1) for layer in range(len(layers))]), np.array([(1e-4, 0.0)] * len(layers), np.float32)
    fast.annual_evidence(pack_values(layers), made, clear, calendar, RIDGE, MARKS, 1, (out, 1, 3))
    within = np.zeros(out.shape, bool)
    within[:, 1:-1, 3:-2] = True
    assert (out[~within] == 7).all()
    return out[:, 1:-1, 3:-2]


def slow_year(values, design, window):
    """Evidence of one pixel and year, written to be read."""
    seen = np.isfinite(values[0])
    x = design[seen].astype(float)
    out = []
    green = values[0][seen].astype(float)
    water = values[1][seen].astype(float)
    cycles, up = 0, False
    for value in green:
        if up and value < LOW:
            cycles, up = cycles + 1, False
        if value > HIGH:
            up = True
    flooded = (water > green) & (green < SOIL)
    out += [seen.sum(), cycles, ((green < SOIL) & ~flooded).sum(), flooded.sum()]
    for layer in values:
        y = layer[seen].astype(float)
        beta = np.linalg.solve(x.T @ x + np.diag(RIDGE.astype(float)), x.T @ y)
        rmse = np.sqrt(((y - x @ beta) ** 2).sum() / max(seen.sum(), 1))
        steps = np.diff(y)
        spread = [np.nan] * 5
        if seen.any():
            bins = np.clip((y + 0.2) / 0.075, 0, 15).astype(int)
            counts = np.bincount(bins, minlength=16)
            spread = [
                slow_quantile(counts, 0.1),
                slow_quantile(counts, 0.5),
                slow_quantile(counts, 0.9),
                max([0.0, *steps]),
                max([0.0, *(-steps)]),
            ]
        months = [np.median(y[window[seen] == one]) if (window[seen] == one).any() else np.nan for one in range(12)]
        out += [*beta, rmse, *spread, *months]
    return np.array(out)


def slow_quantile(counts, share):
    want, below = share * counts.sum(), 0
    for place, here in enumerate(counts):
        if here and below + here >= want:
            return -0.2 + 0.075 * (place + (want - below) / here)
        below += here
    return 1.0


@given(seed=some.integers(0, 10**6), gap=some.sampled_from([0.0, 0.5, 0.8, 0.97, 1.0]))
@settings(max_examples=25, deadline=None)
def test_annual_evidence_equals_the_slow_version_and_missing_stays_missing(seed, gap):
    layers, calendar = random_layers(seed, gap=gap)
    design, window, borders = calendar
    got = evidence_of(layers, calendar)
    assert got.shape[0] == len(feature_names(("ndvi", "wetness")))
    for year, pixel in itertools.product(range(3), range(layers.shape[2])):
        part = slice(borders[year], borders[year + 1])
        want = slow_year(layers[:, part, pixel], design[part], window[part])
        np.testing.assert_allclose(got[:, year, pixel], want, atol=2e-3, rtol=2e-3)


@given(seed=some.integers(0, 10**6), dates=some.integers(1, 130), gap=some.sampled_from([0.0, 0.3, 0.9]))
@settings(max_examples=15, deadline=None)
def test_windows_hold_medians_however_many_dates_fall_into_one(seed, dates, gap):
    rng = np.random.default_rng(seed)
    window = np.sort(rng.choice([2, 3, 9], dates)).astype(np.int64)
    values = odd(rng, (2, dates, 300))
    values[:, rng.random((dates, 300)) < gap] = np.nan
    design = np.ones((dates, fast.TERMS), np.float32)
    got = evidence_of(values, (design, window, np.array([0, dates])))
    for layer, one in itertools.product(range(2), range(12)):
        part = values[layer, window == one]
        want = np.full(300, np.nan)
        seen = np.isfinite(part).any(axis=0)
        want[seen] = np.nanmedian(part[:, seen], axis=0)
        row = fast.SHARED + (layer + 1) * fast.PER_LAYER - 12 + one
        np.testing.assert_allclose(got[row, 0], want, atol=1e-6)


def test_a_year_without_looks_has_no_quantiles_but_a_count_of_zero():
    layers, calendar = random_layers(1, gap=1.0)
    got = evidence_of(layers, calendar)
    assert (got[0] == 0).all()
    assert np.isnan(got[12:17]).all()


def test_normalized_difference_knows_missing_zero_and_range():
    a = np.array([[1000, -32768, 0, 300, 30000]], np.int16)
    b = np.array([[500, 500, 0, -400, -20000]], np.int16)
    got = np.empty(a.shape, np.float32)
    fast.normalized_difference(a, b, got)
    assert got[0, 0] == pytest.approx(1 / 3)
    assert np.isnan(got[0, 1:4]).all()
    assert got[0, 4] == 1.0


def test_a_packed_band_becomes_its_value_and_missing_becomes_nan():
    band = np.array([[-32768, -32767, 0, 1, 32767]], np.int16)
    out = np.empty(band.shape, np.float32)
    fast.scaled(band, 1e-4, out)
    np.testing.assert_allclose(out, [[np.nan, -3.2767, 0, 1e-4, 3.2767]], rtol=1e-6)


def all_paths(loglik, moves, start):
    years, states = loglik.shape
    paths = list(itertools.product(range(states), repeat=years))
    weights = []
    for path in paths:
        weight = start[path[0]] * np.prod([moves[a, b] for a, b in itertools.pairwise(path)])
        weights.append(weight * np.exp(sum(loglik[y, k] for y, k in enumerate(path))))
    weights = np.array(weights)
    return paths, weights / weights.sum()


@given(seed=some.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_posterior_runs_and_best_path_equal_the_sum_over_all_paths(seed):
    rng = np.random.default_rng(seed)
    years, states = 4, 4
    moves = rng.dirichlet(np.ones(states), states).astype(np.float32)
    start = rng.dirichlet(np.ones(states)).astype(np.float32)
    loglik = rng.normal(0, 2, (years, states, 1)).astype(np.float32)
    paths, weights = all_paths(loglik[:, :, 0].astype(float), moves, start)
    likely = np.exp(loglik - loglik.max(axis=1, keepdims=True))
    post, beta = fast.smooth_states(likely, moves, start)
    idle, entry = np.array([1, 2]), np.array([0])
    runs = fast.run_masses(likely, moves, (post, beta), idle, entry)
    want_post = np.zeros((years, states))
    want_runs = np.zeros((years, years))
    for path, weight in zip(paths, weights, strict=True):
        for y, k in enumerate(path):
            want_post[y, k] += weight
        for i in range(years):
            for j in range(i, years):
                lasting = all(path[y] in idle for y in range(i, j + 1))
                want_runs[i, j] += weight * (lasting and (i == 0 or path[i - 1] in entry))
    np.testing.assert_allclose(post[:, :, 0], want_post, atol=2e-5)
    np.testing.assert_allclose(runs[:, :, 0], want_runs, atol=2e-5)
    best = fast.best_path(loglik, moves, start)[:, 0]
    chosen = weights[paths.index(tuple(int(k) for k in best))]
    assert chosen == pytest.approx(weights.max(), rel=1e-4)


@given(seed=some.integers(0, 10**6), pixels=some.sampled_from([1, 255, 256, 257]))
@settings(max_examples=15, deadline=None)
def test_what_is_not_clear_or_missing_in_one_layer_is_missing_in_all(seed, pixels):
    rng = np.random.default_rng(seed)
    layers = rng.normal(size=(2, 5, pixels)).astype(np.float32)
    layers[rng.random(layers.shape) < 0.3] = np.nan
    clear = rng.random((5, pixels)) < 0.6
    want = np.where(clear & np.isfinite(layers).all(axis=0), layers, np.float32(np.nan))
    fast.keep_clear(layers, clear)
    np.testing.assert_array_equal(layers, want)


@given(seed=some.integers(0, 10**6), pixels=some.sampled_from([255, 257, 513]))
@settings(max_examples=5, deadline=None)
def test_evidence_does_not_depend_on_how_pixels_fall_into_blocks(seed, pixels):
    layers, calendar = random_layers(seed, pixels=pixels)
    whole = evidence_of(layers, calendar)
    turned = evidence_of(np.ascontiguousarray(layers[:, :, ::-1]), calendar)
    np.testing.assert_array_equal(whole, turned[:, :, ::-1])
    np.testing.assert_array_equal(whole[4:12], fast.harmonic_fit(layers, calendar[0], calendar[2], RIDGE)[4:12])


@given(seed=some.integers(0, 10**4), rows=some.sampled_from([1, 65]), leaves=some.sampled_from([2, 12, 100]))
@settings(max_examples=6, deadline=None)
def test_small_trees_are_sifted_to_what_scikit_learn_says(seed, rows, leaves):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, 9)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)
    kind = GradientBoostingClassifier(n_estimators=10, max_leaf_nodes=leaves, max_depth=None, init="zero")
    model = kind.set_params(random_state=seed).fit(x, y)
    grown = []
    for place, tree in [(place, one.tree_) for round_ in model.estimators_ for place, one in enumerate(round_)]:
        says = np.zeros((tree.node_count, 3))
        says[:, place] = 0.1 * tree.value[:, 0, 0] * (tree.children_left < 0)
        feature = np.where(tree.children_left < 0, -1, tree.feature)
        grown.append(((feature, tree.children_left, tree.children_right), tree.threshold, says))
    asked = rng.normal(size=(rows, 9)).astype(np.float32)
    got = fast.sifted(np.ascontiguousarray(asked.T), (0, rows), *laid_out(grown).for_sifting)
    np.testing.assert_allclose(got.T, model.decision_function(asked), atol=1e-5)


def test_a_tree_of_one_leaf_says_the_same_of_everything():
    leaf = ((np.array([-1]), np.array([-1]), np.array([-1])), np.array([0.0]), np.array([[0.0, 0.25]]))
    got = fast.sifted(np.zeros((3, 80), np.float32), (5, 75), *laid_out([leaf, leaf]).for_sifting)
    np.testing.assert_array_equal(got, np.repeat(np.array([[0], [0.5]], np.float32), 70, axis=1))


def test_trees_too_large_to_be_sifted_are_refused():
    rng = np.random.default_rng(0)
    tree = (
        ExtraTreesClassifier(1, random_state=0).fit(rng.normal(size=(900, 3)), rng.integers(0, 2, 900)).estimators_[0]
    )
    parts = tree.tree_.feature, tree.tree_.children_left, tree.tree_.children_right
    large = (parts, tree.tree_.threshold, rng.random((tree.tree_.node_count, 2)))
    with pytest.raises(ValueError, match="more than 255 nodes"):
        laid_out([large])


@given(seed=some.integers(0, 10**6), rows=some.sampled_from([1, 7, 300]))
@settings(max_examples=10, deadline=None)
def test_the_nets_kernels_equal_plain_numpy(seed, rows):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(5, rows)).astype(np.float32) * 3
    features[rng.random(features.shape) < 0.2] = np.nan
    centre, by = rng.normal(size=5).astype(np.float32), rng.uniform(0.5, 2, 5).astype(np.float32)
    out = np.empty(features.shape, np.float32)
    more = np.concatenate([np.full((5, 3), 7, np.float32), features, features], axis=1)
    fast.standardise(more, 3, centre, by, 4.0, out)
    wanted = np.nan_to_num(np.clip((features - centre[:, None]) * by[:, None], -4, 4), nan=0)
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)
    hidden, bias = rng.normal(size=(8, rows)).astype(np.float32), rng.normal(size=8).astype(np.float32)
    want = np.maximum(hidden + bias[:, None], 0)
    fast.bend(hidden, bias)
    np.testing.assert_array_equal(hidden, want)
    scores = rng.normal(0, 5, (3, 4, rows)).astype(np.float32)
    bias = rng.normal(size=(3, 4)).astype(np.float32)
    powers = np.exp((scores + bias[:, :, None]).astype(float))
    fast.less_best(scores, bias)
    shares = np.empty((4, rows), np.float32)
    fast.mean_share(np.exp(scores), shares)
    np.testing.assert_allclose(shares, (powers / powers.sum(axis=1, keepdims=True)).mean(axis=0), atol=1e-6)


@given(some.integers(0, 99), some.integers(1, 9), some.integers(1, 9), some.integers(0, 10))
def test_counts_around_equal_those_of_a_plain_window(seed, rows, columns, near):
    flags = np.random.default_rng(seed).integers(0, 2, (2, rows, columns)).astype(np.uint8)
    wide = np.pad(flags, ((0, 0), (near, near), (near, near)))
    window = np.lib.stride_tricks.sliding_window_view(wide, (2 * near + 1, 2 * near + 1), axis=(1, 2))
    np.testing.assert_array_equal(fast.count_around(flags, near), window.sum(axis=(3, 4)))
