"""Scenes in any order, replayed or late, end where batch ends; and a closed case is not the end of watching."""

import numpy as np
import pytest

from remote_sensing import CN_ADMIN, Calendar, LandError, synthetic
from remote_sensing import states as st
from remote_sensing.cubes import stack_of
from remote_sensing.evidence import gather
from remote_sensing.monitor import ABANDONED, NEAR, SEASONAL_IDLE, WATCH, Monitor, OneScene

YEARS = tuple(range(2018, 2022))


@pytest.fixture(scope="module")
def stack():
    return stack_of(synthetic.county(seed=3, size=24, years=4, parcels=16, dark_year=False).cube)


def scenes(stack):
    return [
        OneScene(int(day), {name: band[t] for name, band in stack.bands.items()}, stack.clear[t])
        for t, day in enumerate(stack.days)
    ]


def watching(stack):
    return Monitor(stack.clear.shape[1], 2018, model=st.WeakRules())


def batch(stack):
    evidence = gather(stack, Calendar(), YEARS, ("ndvi",))
    rules = st.WeakRules()
    chain = st.Chain.for_land(known_cropland=True)
    return st.infer(rules.loglik(evidence), st.decided_years(evidence), YEARS, chain)


def shuffled_late(all_scenes, seed):
    """Mostly in order, some a few scenes late, some replayed."""
    rng = np.random.default_rng(seed)
    order = np.argsort(np.arange(len(all_scenes)) + rng.choice([0, 0, 0, 7], len(all_scenes)), kind="stable")
    return [all_scenes[n] for n in np.concatenate([order, rng.choice(order, 10)])]


@pytest.mark.parametrize("how", ["in order", 1, 2])
def test_the_monitor_ends_where_batch_ends(stack, how):
    monitor = watching(stack)
    feed = scenes(stack) if how == "in order" else shuffled_late(scenes(stack), how)
    for scene in feed:
        monitor.update(scene)
    monitor.close_open_year()
    found, wanted = monitor.posterior(), batch(stack)
    assert found.years == YEARS
    np.testing.assert_array_equal(found.decided, wanted.decided)
    np.testing.assert_allclose(found.states, wanted.states, atol=1 / 255)
    np.testing.assert_allclose(found.abandoned(CN_ADMIN), wanted.abandoned(CN_ADMIN), atol=1 / 255)


def test_the_integers_of_the_open_year_equal_batch_exactly(stack):
    monitor = watching(stack)
    feed = [scene for scene in scenes(stack) if scene.day < Calendar().start(2019)]
    late = feed.pop(len(feed) // 2)
    for scene in feed:
        assert monitor.update(scene).reread_bytes == 0
    assert monitor.update(late).reread_bytes > 0
    values = gather(stack, Calendar(), (2018,), ("ndvi", "wetness")).values[:4, 0]
    np.testing.assert_array_equal(monitor.counters[:4], values.astype(np.int16))


@pytest.mark.parametrize("seed", [3, 4])
def test_refit_coefficients_after_replayed_late_and_mixed_scenes_are_those_of_batch(stack, seed):
    monitor = watching(stack)
    for scene in shuffled_late(scenes(stack), seed):
        monitor.update(scene)
    wanted = gather(stack, Calendar(), YEARS, monitor.model.layers)
    for place, year in enumerate(YEARS):
        found = monitor.evidence(year)
        np.testing.assert_array_equal(found.values[:4, 0], wanted.values[:4, place])
        for term in ("mean", "cos1", "sin1", "cos2", "sin2", "cos3", "sin3"):
            np.testing.assert_allclose(found.get(f"ndvi.{term}")[0], wanted.get(f"ndvi.{term}")[place], atol=1e-5)


def test_levels_do_not_tell_in_which_order_scenes_came(stack):
    straight, mixed = watching(stack), watching(stack)
    feed = scenes(stack)
    for scene in feed:
        straight.update(scene)
    for scene in shuffled_late(feed, 5):
        mixed.update(scene)
    np.testing.assert_array_equal(straight.alerts(), mixed.alerts())


def test_a_pixel_carries_at_most_eighty_bytes(stack):
    assert watching(stack).bytes_per_pixel <= 80


def test_a_replay_changes_nothing_and_a_contradiction_is_refused(stack):
    monitor, first = watching(stack), scenes(stack)[0]
    assert monitor.update(first).applied
    before = monitor.counters.copy()
    assert not monitor.update(first).applied
    np.testing.assert_array_equal(monitor.counters, before)
    with pytest.raises(LandError, match="another scene"):
        monitor.update(OneScene(first.day, first.bands, ~first.clear))


def test_it_goes_on_after_abandonment_and_finds_recultivation():
    crop = np.tile([0.15, 0.15, 0.2, 0.3, 0.45, 0.6, 0.7, 0.76, 0.78, 0.76, 0.3, 0.16], 2)
    weeds = 0.57 + 0.17 * np.sin(np.arange(24) / 24 * 2 * np.pi)
    monitor = Monitor(1, 2018, model=st.WeakRules())
    levels = []
    for year, curve in enumerate([crop, crop, weeds, weeds, weeds, crop, crop]):
        for step, value in enumerate(curve):
            day = Calendar().start(2018 + year) + 15 * step + 2
            monitor.update(OneScene(day, {"ndvi": np.array([value * 1e4], np.int16)}, np.ones(1, bool)))
        monitor.close_open_year()
        levels.append(int(monitor.alerts()[0]))
    assert ABANDONED in levels[3:5]
    assert levels[-1] == 0


CROP = np.tile([0.15, 0.15, 0.2, 0.3, 0.45, 0.6, 0.7, 0.76, 0.78, 0.76, 0.3, 0.16], 2)
WEEDS = 0.57 + 0.17 * np.sin(np.arange(24) / 24 * 2 * np.pi)


def levels_of_a_year(curves, shape, farmland=None):
    """Two years of crops everywhere, then a year of these curves (24, N); the levels after each of its scenes."""
    pixels = curves.shape[1]
    monitor = Monitor(pixels, 2018, model=st.WeakRules(), shape=shape)
    if farmland is not None:
        monitor.restrict(farmland)
    whole = np.repeat(CROP[:, None], pixels, axis=1)
    levels = []
    for place, values in enumerate([whole, whole, curves]):
        for step, row in enumerate(values):
            day = Calendar().start(2018 + place) + 15 * step + 2
            monitor.update(OneScene(day, {"ndvi": np.round(row * 1e4).astype(np.int16)}, np.ones(pixels, bool)))
            if place == 2:
                levels.append(monitor.alerts())
    monitor.close_open_year()
    levels.append(monitor.alerts())
    return np.stack(levels)


def test_a_field_left_among_worked_ones_is_watched_then_idle():
    curves = np.repeat(CROP[:, None], 16, axis=1)
    curves[:, 5] = WEEDS
    levels = levels_of_a_year(curves, (4, 4))
    assert WATCH in levels[:10, 5]
    assert (np.diff(levels[:24, 5].astype(int)) >= 0).all()
    assert levels[-1, 5] >= SEASONAL_IDLE
    assert not np.delete(levels, 5, axis=1).any()


def test_a_drought_that_keeps_a_whole_valley_from_sowing_watches_nobody_there():
    wide = 4 * NEAR
    curves = np.repeat(CROP[:, None], 2 * wide, axis=1).reshape(24, 2, wide)
    curves[:, :, : 2 * NEAR] = WEEDS[:, None, None]  # nobody sows in the west
    curves[:, 0, -5] = WEEDS  # one field stays behind in the east, where all others work
    levels = levels_of_a_year(curves.reshape(24, -1), (2, wide))[:24].reshape(24, 2, wide)
    assert not levels[:, :, : NEAR - 1].any()
    assert levels[-1, 0, -5] == SEASONAL_IDLE


def test_only_farmland_is_watched_and_only_farmland_is_a_neighbour():
    curves = np.repeat(CROP[:, None], 32, axis=1)
    curves[:, [5, 30]] = WEEDS[:, None]
    farmland = np.arange(32) < 16
    levels = levels_of_a_year(curves, (4, 8), farmland)
    assert WATCH in levels[:10, 5]
    assert not levels[:, 30].any(), "left like the other, but no farmland"
    alone = np.isin(np.arange(32), [4, 5, 6])
    assert not levels_of_a_year(curves, (4, 8), alone)[:24].any(), "three fields are too few to compare with"
