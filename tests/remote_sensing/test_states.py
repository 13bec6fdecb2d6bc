"""What the chain knows: the path tells abandoned from natural, and how long is long enough."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from remote_sensing import CN_ADMIN, ONE_YEAR, YIN2020
from remote_sensing import states as st


def shown(*names, sure=4.0):
    """Look log-likelihoods (Y, 7, 1) of a series that shows these looks plainly; None = nothing seen."""
    looks = np.zeros((len(names), len(st.LOOKS), 1), np.float32)
    for year, name in enumerate(names):
        if name:
            looks[year] = -sure
            looks[year, st.LOOKS.index(name)] = 0
    return looks, np.array([[name is not None] for name in names])


def judged(*names, known_cropland=True):
    looks, decided = shown(*names)
    chain = st.Chain.for_land(known_cropland=known_cropland)
    return st.infer(looks, decided, tuple(range(2001, 2001 + len(names))), chain)


def test_rows_of_the_prior_chain_are_distributions():
    chain = st.Chain.for_land(known_cropland=True)
    for table in (chain.moves, chain.shows, chain.start[None]):
        np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-5)


def test_two_idle_years_after_crops_are_abandoned_with_the_right_onset():
    found = judged("crop", "crop", "crop", "idle", "idle", "shrub")
    chance = found.abandoned(CN_ADMIN)[:, 0]
    assert (chance[:3] < 0.1).all()
    assert (chance[3:] > 0.8).all()
    assert found.onset(np.array([5]))[:, 0].argmax() == 3


def test_a_one_year_fallow_is_not_abandoned_unless_the_definition_says_one_year():
    found = judged("crop", "crop", "idle", "crop", "crop")
    assert found.abandoned(CN_ADMIN).max() < 0.2
    assert found.abandoned(ONE_YEAR)[2, 0] > 0.5


@pytest.mark.parametrize("look", ["idle", "shrub", "forest", "built", "water", "orchard"])
def test_land_that_never_was_worked_is_not_abandoned_without_a_register(look):
    assert judged(*[look] * 6, known_cropland=False).abandoned(CN_ADMIN).max() < 0.1


@pytest.mark.parametrize("look", ["orchard", "built", "water", "forest"])
def test_conversion_is_not_abandonment(look):
    assert judged("crop", "crop", "crop", look, look, look).abandoned(CN_ADMIN)[-1, 0] < 0.3


def test_recultivation_is_found_and_ends_the_run():
    chance = judged("crop", "idle", "idle", "shrub", "crop", "crop").abandoned(CN_ADMIN)[:, 0]
    assert (chance[1:4] > 0.7).all()
    assert (chance[4:] < 0.1).all()


def test_a_year_without_looks_says_nothing():
    known, blind = judged("crop", "crop", "crop"), judged("crop", None, "crop")
    assert blind.states[1, st.CULTIVATED, 0] < known.states[1, st.CULTIVATED, 0]
    assert blind.states[1, st.CULTIVATED, 0] > 0.5


@given(seed=some.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_longer_definitions_never_find_more_and_chances_stay_chances(seed):
    rng = np.random.default_rng(seed)
    looks = rng.normal(0, 3, (7, len(st.LOOKS), 5)).astype(np.float32)
    found = st.infer(looks, np.ones((7, 5), bool), tuple(range(7)), st.Chain())
    one, two, five = (found.abandoned(profile) for profile in (ONE_YEAR, CN_ADMIN, YIN2020))
    assert ((one >= two - 1e-5) & (two >= five - 1e-5)).all()
    assert (one <= 1).all()
    assert (five >= 0).all()


def test_a_chain_taught_by_sequences_leans_to_what_it_saw():
    states = np.full((200, 4), st.CULTIVATED)
    states[:, 2:] = st.YOUNG
    looks = np.where(states == st.YOUNG, st.LOOKS.index("shrub"), st.LOOKS.index("crop"))
    taught = st.Chain().learned(states, looks)
    assert taught.moves[st.CULTIVATED, st.FIRST] > 0.4
    assert taught.shows[st.YOUNG, st.LOOKS.index("shrub")] > 0.9
    np.testing.assert_allclose(taught.moves.sum(axis=1), 1, atol=1e-5)


def test_a_faint_year_helps_its_neighbours_and_is_not_judged_itself():
    looks, decided = shown("crop", "crop", "crop", "idle", "idle", "idle")
    decided[2:4] = False
    looks[2:4] *= 0.4
    found = st.infer(looks, decided, tuple(range(2001, 2007)), st.Chain.for_land(known_cropland=True))
    assert found.onset(np.array([5])).argmax() == 3
    assert not found.decided[2:4].any()


def test_a_gap_of_one_year_is_a_fallow_and_no_abandonment_given_up_at_once():
    found = judged("crop", "crop", "idle", "crop", "crop")
    states = dict(zip(st.STATES, found.states[2, :, 0], strict=True))
    assert states["abandoned_young"] < 0.05 * states["fallow"]
    taught = st.Chain().learned(
        np.tile([st.CULTIVATED, st.YOUNG, st.YOUNG, st.CULTIVATED], (50, 1)), np.tile([0, 1, 1, 0], (50, 1))
    )
    looks, decided = shown("crop", "idle", "crop", "crop", sure=1.5)
    assert st.infer(looks, decided, (1, 2, 3, 4), taught).abandoned(CN_ADMIN)[1, 0] > 0.5, "it never saw a single year"


def test_the_chains_own_first_year_is_a_young_abandonment_to_everybody_else():
    found = judged("crop", "crop", "idle", "idle", "idle", "idle")
    assert found.states.shape[1] == len(st.STATES)
    np.testing.assert_allclose(found.states.sum(axis=1), 1, atol=1e-5)
    assert found.path.max() < len(st.STATES)
    assert found.path[2, 0] == found.states[2, :, 0].argmax() == st.YOUNG
