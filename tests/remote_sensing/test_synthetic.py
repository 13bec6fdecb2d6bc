"""What an invented scene must be before anything may be measured on it: no cleaner and no easier than the real."""

import itertools

import numpy as np
import pytest

from remote_sensing import Calendar, synthetic
from remote_sensing import states as st
from remote_sensing.cubes import LandError, stack_of
from remote_sensing.evidence import MIN_LOOKS, gather
from remote_sensing.indices import layers_of
from remote_sensing.parcels import coverages, grid_of
from remote_sensing.synthetic import phenology as ph
from remote_sensing.synthetic.land import FATES
from remote_sensing.synthetic.paint import FINE, blur_weights, draw
from remote_sensing.synthetic.spectra import LEAFIER, ROUGH, roughness
from remote_sensing.synthetic.weather import fog, random_field

YEARS = tuple(range(synthetic.FIRST_CROP_YEAR, synthetic.FIRST_CROP_YEAR + 6))


@pytest.fixture(scope="module")
def scene():
    return synthetic.county(seed=11, size=96, years=6, parcels=260, dark_year=False)


@pytest.fixture(scope="module")
def seen(scene):
    """NDVI (T, P), days (T,) and borders of the years, of one pure pixel a parcel; and the parcels' truth."""
    covers = coverages(list(scene.parcels.geometry), grid_of(scene.cube))
    chosen = [n for n, cover in enumerate(covers) if cover.pure]
    pixels = [int(covers[n].pixels[np.argmax(covers[n].shares)]) for n in chosen]
    stack = stack_of(scene.cube)
    names = scene.parcels["parcel"].iloc[chosen]
    green = layers_of(stack, ("ndvi",))[0][:, pixels]
    return green, stack.days, Calendar().split(stack.days, YEARS), scene.truth.set_index("parcel").loc[names]


def test_crops_swing_as_far_in_a_year_as_real_rotations_do(seen):
    green, _, borders, truth = seen
    swings = []
    for year in range(len(YEARS)):
        worked = np.array([states[year] == "cultivated" for states in truth["states"]])
        part = green[borders[year] : borders[year + 1]][:, worked]
        full = np.isfinite(part).sum(axis=0) >= 14
        low, high = np.nanquantile(part[:, full], [0.05, 0.95], axis=0)
        swings.extend(high - low)
    assert 0.55 <= np.median(swings) <= 0.72  # quartiles of real rotations, MODIS, 23 looks a year


def test_neighbouring_looks_quarrel_as_much_as_real_ones(seen):
    green, days, _, _ = seen
    off = []
    for series in green.T:
        known = np.isfinite(series)
        value, day = series[known], days[known].astype(float)
        share = (day[1:-1] - day[:-2]) / (day[2:] - day[:-2])
        off.extend(value[1:-1] - (value[:-2] * (1 - share) + value[2:] * share))
    spread = 1.4826 * np.median(np.abs(np.array(off) - np.median(off)))
    assert 0.05 <= spread <= 0.07


def test_a_pixel_is_clearly_seen_twelve_to_eighteen_times_a_year(seen):
    green, _, _, _ = seen
    assert 12 <= np.isfinite(green).sum(axis=0).mean() / len(YEARS) <= 18


def test_weeds_are_rougher_inside_a_parcel_than_crops():
    rng = np.random.default_rng(4)
    owners = np.repeat([0, 1], 32 * FINE)[None, :].repeat(64 * FINE, axis=0).astype(np.int32)
    plan = ph.Plan(np.full((1, 2), 0), np.array([[st.CULTIVATED, st.YOUNG]]), np.zeros((1, 2), int))
    pattern = random_field(64 * FINE, -2.0, rng, synthetic.PATCH).astype(np.float32)
    table = np.full((2, 6), 0.2, np.float32)
    drawn = draw(owners, table, (pattern, roughness(40, plan), LEAFIER), (0, 0), blur_weights())
    inside = drawn[:, 2:-2, 2:30], drawn[:, 2:-2, 34:-2]
    crops, weeds = (part.std(axis=(1, 2)) for part in inside)
    parts = [
        pattern.reshape(64, FINE, 64, FINE).mean(axis=(1, 3))[2:-2, cut].std() for cut in (slice(2, 30), slice(34, -2))
    ]
    assert crops[2] / 0.2 > ROUGH / 3  # patches are wide enough to be seen at 10 m
    np.testing.assert_allclose(weeds / crops, 1.3 * parts[1] / parts[0], rtol=0.1)
    np.testing.assert_allclose(drawn.mean(axis=(1, 2)), 0.2, rtol=0.02)


@pytest.mark.parametrize("looks", [15, 8, 4])
def test_as_many_looks_are_clear_as_were_asked_for(looks):
    seen = [
        float(synthetic.county(seed, 48, 8, 40, looks=looks, dark_year=False).cube["clear"].sum("time").mean()) / 8
        for seed in range(30, 36)
    ]
    assert np.mean(seen) == pytest.approx(looks, rel=0.12), "six skies differ by more than a tenth"


@pytest.mark.parametrize("seed", [101, 103, 5])
def test_the_dark_year_has_under_five_looks_whatever_the_seed(seed):
    clear = stack_of(synthetic.county(seed, 32, 8, 20).cube)
    years = tuple(range(synthetic.FIRST_CROP_YEAR, synthetic.FIRST_CROP_YEAR + 8))
    borders = Calendar().split(clear.days, years)
    looks = [clear.clear[a:b].sum(axis=0).max() for a, b in itertools.pairwise(borders)]
    assert looks[8 // 3] < MIN_LOOKS


def test_most_dates_are_all_or_nothing(scene):
    cover = scene.weather["cover"]
    assert ((cover == 0) | (cover >= 0.95)).mean() > 0.70


@pytest.mark.parametrize("number", ["ndvi.low", "ndvi.fall", "amplitude"])
def test_no_constant_threshold_finds_what_is_abandoned(scene, number):
    covers = coverages(list(scene.parcels.geometry), grid_of(scene.cube))
    chosen = [n for n, cover in enumerate(covers) if cover.observability == "observable"]
    pixels = [int(covers[n].pixels[np.argmax(covers[n].shares)]) for n in chosen]
    truth = scene.truth.set_index("parcel").loc[scene.parcels["parcel"].iloc[chosen], "abandoned_now"].to_numpy()
    evidence = gather(stack_of(scene.cube), Calendar(), YEARS, ("ndvi",))
    values = {
        "ndvi.low": evidence.get("ndvi.low"),
        "ndvi.fall": evidence.get("ndvi.fall"),
        "amplitude": evidence.get("ndvi.high") - evidence.get("ndvi.low"),
    }[number]
    best = 0.0
    for mark in np.arange(0.0, 1.0, 0.02):
        for said in ((values[-2:, pixels] < mark).all(axis=0), (values[-2:, pixels] > mark).all(axis=0)):
            best = max(best, 2 * (said & truth).sum() / max(said.sum() + truth.sum(), 1))
    assert truth.any()
    assert best <= 0.80  # however well the threshold is chosen, with the truth in hand


def test_everything_that_is_mistaken_for_abandonment_is_there():
    fates = set()
    for seed in range(3):
        scene = synthetic.county(seed=seed, size=64, years=5, parcels=200)
        fates |= set(scene.truth["fate"])
        lost = scene.truth[scene.truth["fate"] == "landslide"]
        assert not lost["abandoned_now"].any()
        merged = scene.truth[scene.truth["fate"] == "merged"]
        assert all(set(states) == {"cultivated"} for states in merged["states"])
    assert set(FATES) - {"landslide"} <= fates


def test_short_series_and_impossible_settings():
    assert synthetic.county(seed=1, size=32, years=1, parcels=20).truth["states"].map(len).eq(1).all()
    with pytest.raises(LandError, match="do not fit"):
        synthetic.county(seed=1, size=16, parcels=1000)


def test_truth_names_are_states(scene):
    assert {state for states in scene.truth["states"] for state in states} <= set(st.STATES)


def year_of(kind, cells=60, state=st.CULTIVATED):
    """NDVI of one year (366, cells) of a kind."""
    plan = ph.Plan(np.full((1, cells), kind), np.full((1, cells), state), np.zeros((1, cells), np.int64))
    return ph.greenness(np.arange(366.0), plan, np.random.default_rng(1)), plan


def test_vegetables_keep_no_calendar_and_leave_the_soil_bare_two_or_three_times():
    green, _ = year_of(ph.GARDEN)
    up = green > 0.45
    waves = (np.diff(up.astype(int), axis=0) == 1).sum(axis=0)
    assert set(waves) == {2, 3}
    assert up[60:300].mean(axis=1).min() > 0.1, "on every day from December to July some garden is green"
    assert up.mean(axis=1).max() < 0.95, "and never all are"
    fewer, _ = year_of(ph.GARDEN, state=st.SEASONAL)
    assert (fewer > 0.45).mean() < up.mean()


def test_rapeseed_dips_and_turns_yellow_while_it_flowers_and_only_where_it_was_sown():
    march = 167
    assert ph.flowering(np.array([march, march + 60.0]), year_of(ph.RAPE_RICE)[1], ph.RAPE_RICE)[:, 0] == pytest.approx(
        [1, 0], abs=0.1
    )
    green, plan = year_of(ph.RAPE_RICE)
    middle = green.mean(axis=1)
    assert middle[march] < min(middle[march - 25], middle[march + 25]) - 0.05
    idle = ph.Plan(plan.kinds, np.full_like(plan.states, st.YOUNG), plan.ages)
    assert not ph.flowering(np.array([float(march)]), idle, ph.RAPE_RICE).any()


def test_winter_fog_lies_in_the_valleys_only():
    rng = np.random.default_rng(0)
    height = np.linspace(200, 900, 50)[None]
    mornings = np.stack([fog(1, height, rng) for _ in range(300)])
    assert not mornings[..., height[0] >= 400].any()
    assert 0.25 < mornings[..., 0].mean() < 0.42
    assert not any(fog(7, height, rng).any() for _ in range(50))


def test_single_years_without_crops_fall_into_the_last_year_too():
    last = [
        states[-1]
        for seed in range(3)
        for states in synthetic.county(seed=seed, size=64, years=5, parcels=200).truth["states"]
    ]
    assert "fallow" in last
    assert not any(
        truth["abandoned_now"] and truth["states"][-2] == "cultivated"
        for _, truth in synthetic.county(seed=0, size=64, years=5, parcels=200).truth.iterrows()
    )
