"""Scenes in any order, replayed or late, end where batch ends; and a closed case is not the end of watching."""

import numpy as np
import pytest

from remote_sensing import CN_ADMIN, Calendar, LandError, synthetic
from remote_sensing import states as st
from remote_sensing.cubes import stack_of
from remote_sensing.evidence import gather
from remote_sensing.monitor import ABANDONED, Monitor, OneScene

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
