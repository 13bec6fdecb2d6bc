"""The synthetic scenes: abandoned now, per observable parcel, at three cloud levels; areas and their intervals."""

from __future__ import annotations

import itertools

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from remote_sensing import CN_ADMIN, Calendar, detect, synthetic
from remote_sensing import states as st
from remote_sensing.accuracy import assess, design_sample, draw_sample
from remote_sensing.cubes import MISSING, stack_of
from remote_sensing.evidence import MIN_LOOKS, gather
from remote_sensing.neighbours import beside_neighbours
from remote_sensing.parcels import coverages, grid_of
from remote_sensing.synthetic.textbook import textbook_rows
from remote_sensing.teaching import Lesson, Skies, rows_of, teach

PER_CLASS = 50
UNDECIDED = 255
"""What a map holds where the year says nothing."""
ALARM = 0.5
"""An alarm is P(abandoned) from here on, as in every other set."""
LOOK_OF = {
    "cultivated": "crop",
    "seasonal_idle": "crop",
    "fallow": "idle",
    "abandoned_young": "idle",
    "abandoned_old": "shrub",
    "orchard": "orchard",
    "forest_water": "forest",
    "built_up": "built",
    "open_nature": "idle",
}


def scene_labels(scene, rng):
    """Fifty labelled years a class of observable parcels: the look of one pure pixel in one year."""
    covers = coverages(list(scene.parcels.geometry), grid_of(scene.cube))
    rows = [
        (name, cover.pixels[cover.shares > 0.999])
        for name, cover in zip(scene.parcels["parcel"], covers, strict=True)
        if cover.pure
    ]
    states = scene.truth.set_index("parcel")["states"]
    years = len(states.iloc[0])
    size = scene.cube.sizes["y"] * scene.cube.sizes["x"]
    looks = np.full((years, size), -1)
    left = dict.fromkeys(st.LOOKS, PER_CLASS)
    trained = set()
    for n in rng.permutation(len(rows)):
        name, pixels = rows[n]
        year = int(rng.integers(0, years))
        look = LOOK_OF[states[name][year]]
        if left[look]:
            left[look] -= 1
            looks[year, rng.choice(pixels)] = st.LOOKS.index(look)
            trained.add(name)
    return looks, trained


def judged(scene, layers, seed):
    """Detections by a model from few labels of the scene itself, and the parcels that gave a label."""
    rng = np.random.default_rng(seed)
    looks, trained = scene_labels(scene, rng)
    lesson = Lesson(scene.cube, looks, np.arange(looks.shape[1]))
    skies = Skies(8)
    beside = [textbook_rows(layers, 2, seed=9)]
    model = teach([lesson], layers, skies=skies, beside=beside, seed=seed)
    found = detect(scene.cube, scene.parcels, CN_ADMIN, model=model)
    return found, trained, _forest(lesson, scene, found.crop_years, layers)


def _forest(lesson, scene, years, layers):
    """The plain baseline: a per-year forest on the evidence of the very same labels, no masks, no years around.

    "Abandoned now" = idle or shrub in both of the last two years, by the mean chance over the parcel's pixels.
    """
    rows = rows_of([lesson], layers, skies=Skies(1))
    model = RandomForestClassifier(300, random_state=0, n_jobs=1).fit(np.nan_to_num(rows.features, nan=-1), rows.looks)
    idle = np.isin(model.classes_, [st.LOOKS.index("idle"), st.LOOKS.index("shrub")])
    evidence = gather(beside_neighbours(stack_of(scene.cube), layers), Calendar(), years, layers)
    out = {}
    for name, cover in zip(
        scene.parcels["parcel"], coverages(list(scene.parcels.geometry), grid_of(scene.cube)), strict=True
    ):
        pure = cover.pixels[cover.shares > 0.999] if cover.pure else cover.pixels[[np.argmax(cover.shares)]]
        seen = np.nan_to_num(evidence.values[:, -2:][:, :, pure], nan=-1)
        chance = model.predict_proba(seen.reshape(len(seen), -1).T).reshape(2, pure.size, -1).mean(axis=1)
        said = chance.argmax(axis=1)
        out[name] = bool(idle[said].all())
    return out


def f1(said, true):
    """F1 of two boolean arrays."""
    return float(2 * (said & true).sum() / max(said.sum() + true.sum(), 1))


def score_made(report):
    """Every synthetic figure; scenes of one seed are trained and judged alone, other parcels than those labelled."""
    onset_errors, paddies = [], []
    for looks, layers, target in (
        (15, ("ndvi", "wetness", "contrast"), 0.95),
        (8, ("ndvi", "wetness", "contrast"), 0.88),
        (4, ("ndvi", "wetness", "contrast", "vv", "vh"), 0.75),
    ):
        said, true, plain, sure = [], [], [], []
        for seed in (101, 202):
            scene = synthetic.county(
                seed=seed, size=160, parcels=700, looks=looks, radar="vh" in layers, dark_year=False
            )
            found, trained, forest = judged(scene, layers, seed)
            truth = scene.truth.set_index("parcel")
            for item in found:
                if item.observability != "observable" or item.parcel in trained:
                    continue
                now = bool(truth.loc[item.parcel, "abandoned_now"])
                decided = item.class_name != "undecided"
                gone = decided and item.probabilities["abandoned"] >= ALARM
                said.append(gone)
                true.append(now)
                plain.append(forest[item.parcel])
                sure.append(decided)
                if looks == 15 and gone and now:
                    onset_errors.append(abs(item.onset.p50 - truth.loc[item.parcel, "abandoned_year"]))
                if truth.loc[item.parcel, "kind"] == "rice" and truth.loc[item.parcel, "fate"] == "stable":
                    paddies.append(gone)
        said, true, plain, sure = (np.array(part) for part in (said, true, plain, sure))
        wrong = int((said != true).sum())
        report.figure(f"synthetic_f1_{looks}", f1(said, true), cases=said.size, wrong=wrong, at_least=target)
        report.figure(f"synthetic_forest_f1_{looks}", f1(plain, true), at_most=f1(said, true) - 0.20)
        # a last year of under five looks is "undecided" by rule, and the rule does not bind the forest
        report.figure(f"synthetic_{looks}_decided_share", float(sure.mean()))
        report.figure(f"synthetic_f1_{looks}_decided", f1(said[sure], true[sure]))
        report.figure(f"synthetic_forest_f1_{looks}_decided", f1(plain[sure], true[sure]))
    report.figure(
        "synthetic_single_crop_paddy_false",
        float(np.mean(paddies)),
        cases=len(paddies),
        wrong=int(sum(paddies)),
        at_most=0.01,
    )
    report.figure("synthetic_onset_mae_years", float(np.mean(onset_errors)), cases=len(onset_errors), at_most=0.5)
    score_area(report, said, true)
    score_dark(report)


def score_dark(report):
    """Years with under five looks, a whole dark one among them: nobody may be told that they lay idle, or did not."""
    scene = synthetic.county(seed=101, size=160, parcels=700)
    found = detect(scene.cube)
    stack = stack_of(scene.cube)
    seen = np.logical_and.reduce([stack.clear, *(band != MISSING for band in stack.bands.values())])
    borders = Calendar().split(stack.days, found.crop_years)
    few = np.stack([seen[a:b].sum(axis=0) < MIN_LOOKS for a, b in itertools.pairwise(borders)])
    decided = (found.maps["abandoned"].to_numpy() != UNDECIDED).reshape(few.shape)
    wrong = int((few & decided).sum())
    report.figure("synthetic_dark_years_decided", wrong / few.sum(), cases=int(few.sum()), wrong=wrong, at_most=0)
    report.figure("synthetic_dark_year_share", float(few.mean(axis=1).max()), at_least=1)


def score_area(report, said, true):
    """Share of 200 simulated surveys whose 95 % area interval holds the true number of abandoned parcels."""
    rng = np.random.default_rng(1)
    many = rng.integers(0, said.size, 20_000)
    words = np.where(said[many], "abandoned", "other")
    truth = np.where(true[many], "abandoned", "other")
    sizes = {name: int((words == name).sum()) for name in ("abandoned", "other")}
    counts = design_sample(sizes, {"abandoned": 0.7, "other": 0.9}, target_se=0.012)
    hits = 0
    for survey in range(200):
        rows = draw_sample(words, counts, seed=survey)
        area = assess(words[rows], words[rows], truth[rows], sizes).area["abandoned"]
        hits += area.low <= (truth == "abandoned").sum() <= area.high
    report.figure("area_interval_coverage", hits / 200, cases=200, wrong=200 - hits, at_least=0.93)
