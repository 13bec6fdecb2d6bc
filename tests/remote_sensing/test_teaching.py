"""Labels in, a model out: hidden under clouds, crops learnt apart, neighbours looked at, bad lessons refused."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as some

from remote_sensing import Calendar
from remote_sensing import states as st
from remote_sensing.classifier import Recipe
from remote_sensing.cubes import MISSING, SCALE, LandError, pack_values, stack_of
from remote_sensing.detection import judge_pixels
from remote_sensing.evidence import FAINT
from remote_sensing.indices import layers_of
from remote_sensing.kernels import less_median
from remote_sensing.neighbours import beside_neighbours
from remote_sensing.synthetic import phenology as ph
from remote_sensing.teaching import Lesson, Skies, rows_of, teach

QUICK = Recipe(nets=2, hidden=12, steps=200, boosts=5)
DAYS = np.arange(0, 365, 8)
PLOTS = 90


def lesson(seed, dry=0.0):
    """One year of thirty rice, thirty rape-rice and thirty weedy plots; ``dry``: what every plot lacks in green."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat([ph.RICE, ph.RAPE_RICE, ph.MAIZE_POTATO], PLOTS // 3)[None]
    states = np.repeat([st.CULTIVATED, st.CULTIVATED, st.YOUNG], PLOTS // 3)[None]
    green = ph.greenness(DAYS.astype(float), ph.Plan(kinds, states, np.zeros_like(kinds)), rng)
    green += rng.normal(0, 0.03, green.shape) - dry
    times = np.datetime64("2000-10-01") + DAYS
    cube = xr.Dataset(
        {
            "ndvi": (("time", "y", "x"), pack_values(green)[:, None, :]),
            "clear": (("time", "y", "x"), np.ones((DAYS.size, 1, PLOTS), bool)),
        },
        coords={"time": times.astype("datetime64[s]"), "y": [0.0], "x": np.arange(PLOTS, dtype=float)},
    )
    looks = np.where(states[0] == st.YOUNG, st.LOOKS.index("idle"), st.LOOKS.index("crop"))
    return Lesson(cube, looks, np.arange(PLOTS) // 6, np.repeat(["rice", "rape", "weeds"], PLOTS // 3))


def test_crops_are_learnt_apart_and_answered_together():
    nets = teach([lesson(1)], ("ndvi",), skies=Skies(4), recipe=replace(QUICK, boosts=0))
    assert len(nets.kinds) == 3
    model = teach([lesson(1)], ("ndvi",), skies=Skies(4), recipe=QUICK)
    assert model.kinds == model.known
    assert model.known == (st.LOOKS.index("crop"), st.LOOKS.index("idle"))
    found = judge_pixels(lesson(2).cube, model=model)
    worked = found.states[0, [st.CULTIVATED, st.SEASONAL]].sum(axis=0) > 0.5
    assert (worked == (np.arange(PLOTS) < 60)).mean() > 0.95


def test_kinds_too_rare_to_learn_join_the_rest_of_their_look():
    one = lesson(1)
    words = one.kinds.astype("U9")
    words[:3] = "saffron"
    rows = rows_of([Lesson(one.cube, one.looks, one.block, words)], ("ndvi",), skies=Skies(2))
    assert np.unique(rows.kinds).size == 4  # rice, rape, weeds, and the rest of the crops


def test_hidden_years_keep_their_label_until_nothing_is_left_to_see():
    masks = np.zeros((1, DAYS.size), bool)
    masks[0, : FAINT - 1] = True
    assert rows_of([lesson(1)], ("ndvi",), skies=Skies(3, masks)).looks.size == PLOTS
    masks[0, :FAINT] = True
    assert rows_of([lesson(1)], ("ndvi",), skies=Skies(3, masks)).looks.size == 3 * PLOTS


def test_a_dry_year_changes_no_contrast():
    wet, dry = (
        layers_of(beside_neighbours(stack_of(lesson(3, dry=lost).cube), ("ndvi", "contrast")), ("contrast",))
        for lost in (0.0, 0.15)
    )
    np.testing.assert_allclose(wet, dry, atol=2e-4)
    assert abs(float(np.nanmedian(wet))) < 1e-3


@given(some.lists(some.one_of(some.just(np.nan), some.floats(-1, 1, width=32)), min_size=1, max_size=60))
def test_the_counted_median_is_the_sorted_one(values):
    green = np.array(values, np.float32)
    out = np.empty(green.size, np.int16)
    less_median(green, 3, out)
    seen = green[np.isfinite(green)].astype(float)
    if seen.size < 3:
        assert (out == MISSING).all()
        return
    assert ((out == MISSING) == np.isnan(green)).all()
    np.testing.assert_allclose(out[out != MISSING] * SCALE, seen - np.median(seen), atol=1.05 * SCALE)


def test_a_contrast_that_does_not_fit_is_missing():
    out = np.empty(5, np.int16)
    less_median(np.array([-3.2, -3.2, -3.2, 3.2, -3.1], np.float32), 3, out)
    assert out.tolist() == [0, 0, 0, MISSING, 1000]


def test_a_field_without_neighbours_has_no_contrast():
    alone = lesson(1).cube.isel(x=slice(0, 1))
    seen = layers_of(beside_neighbours(stack_of(alone), ("ndvi", "contrast")), ("contrast",))
    assert np.isnan(seen).all()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"looks": np.zeros(7, int)}, "bad_label"),
        ({"cube": lesson(1).cube.isel(time=slice(0, 9))}, "bad_label"),
        ({"looks": np.full(PLOTS, -1)}, "too_few_labels"),
    ],
)
def test_lessons_that_teach_nothing_are_refused(change, code):
    one = lesson(1)
    parts = {"cube": one.cube, "looks": one.looks, "block": one.block, **change}
    with pytest.raises(LandError) as caught:
        teach([Lesson(**parts)], ("ndvi",), recipe=QUICK)
    assert caught.value.code == code


def test_masks_of_another_rhythm_are_refused():
    with pytest.raises(LandError, match="do not fit a series"):
        teach([lesson(1)], ("ndvi",), skies=Skies(2, np.ones((4, 7), bool)), recipe=QUICK, calendar=Calendar())
