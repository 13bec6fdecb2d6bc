"""MODIS yearly field labels and Central Asian fallow: real labels, real gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
from land_series import MODIS_LAYERS, Samples, first, read_samples, train_on

from remote_sensing import Calendar
from remote_sensing import states as st
from remote_sensing.detection import judge_pixels
from remote_sensing.labels import read_labels
from remote_sensing.scenes import open_scene

CALENDAR_YEAR = Calendar(1, 1)
SEEDS = 5


def score_modis(report, train_folder, data_folder):
    """Cultivated in the year or not, on a raster none of whose places was trained on."""
    raster, marks = first(data_folder, "modis_mt*[0-9].nc"), first(data_folder, "modis_mt*_labels.csv")
    source = first(train_folder, "modis_mt_samples*")
    if not raster or not marks or not source:
        report.figure("modis_year_accuracy", None, cases=0)
        report.figure("modis_forest_as_crop", None, cases=0)
        return
    cube = open_scene(raster).cube
    labels = read_labels(marks, cube)
    table = pd.read_csv(marks)
    samples = read_samples(source)
    margin = 0.05
    inside = (
        (samples.lon > table["longitude"].min() - margin)
        & (samples.lon < table["longitude"].max() + margin)
        & (samples.lat > table["latitude"].min() - margin)
        & (samples.lat < table["latitude"].max() + margin)
    )
    samples = samples.pick(~inside)
    masks = np.random.default_rng(0).random((400, samples.times.size)) < np.linspace(0.3, 1, 400)[:, None]
    model = train_on(samples, masks, MODIS_LAYERS, labels.calendar, draws=8)
    found = judge_pixels(cube, model=model, calendar=labels.calendar)
    worked = found.states[:, [st.CULTIVATED, st.SEASONAL]].sum(axis=1)
    within = np.isin(labels.crop_years, found.years)
    rows = labels.crop_years[within] - found.years[0]
    pixels = labels.pixels[within]
    said = worked[rows, pixels] >= 0.5
    sure = found.decided[rows, pixels]
    right = sure & (said == labels.cultivated[within])
    report.figure(
        "modis_year_accuracy",
        float(right.mean()),
        cases=right.size,
        wrong=int((~right).sum()),
        at_least=0.975,
    )
    forest = np.array([name.lower() == "forest" for name in labels.names])[within]
    report.figure(
        "modis_forest_as_crop",
        float((said & sure)[forest].mean()) if forest.any() else None,
        cases=int(forest.sum()),
        wrong=int((said & sure)[forest].sum()),
        at_most=0,
    )


def read_fields(path) -> Samples:
    """Central Asian fields: one calendar year of 16-day NDVI each, NaN = gap."""
    table = pd.read_csv(path)
    columns = sorted(name for name in table.columns if name.startswith("ndvi_doy"))
    days = np.array([int(name[-3:]) for name in columns])
    return Samples(
        table["id"].to_numpy() if "id" in table else np.arange(len(table)),
        table["lon"].to_numpy(),
        table["lat"].to_numpy(),
        table["label_1"].to_numpy(str),
        {"ndvi": table[columns].to_numpy(float)},
        np.datetime64("2001-01-01") + days - 1,
        _scenes(table),
    )


def _scenes(table):
    """Fields seen together: of one degree cell and one year. Their common weather is no sign of fallow."""
    year = table["year"] if "year" in table else pd.to_datetime(table["date"]).dt.year
    east, north = np.floor(table["lon"]).astype(int), np.floor(table["lat"]).astype(int)
    return np.array([f"{when}/{x}/{y}" for when, x, y in zip(year, east, north, strict=True)])


def score_central_asia(report, train_folder, data_folder):
    """Rank fields by P(fallow): average precision, mean of five seeds, interval by resampling place blocks."""
    judged, taught = first(data_folder, "central_asia*"), first(train_folder, "central_asia*")
    if not judged or not taught:
        report.figure("central_asia_ap", None, cases=0)
        return
    fields, teacher = read_fields(judged), read_fields(taught)
    same = judged.resolve() == taught.resolve()
    fallow = fields.label == "fallow"
    block = np.floor(fields.lon / 0.1) * 1e4 + np.floor(fields.lat / 0.1)
    places = np.unique(block)
    fold = np.random.default_rng(0).permutation(places.size) % 4
    of_field = fold[np.searchsorted(places, block)] if same else np.zeros(fields.ids.size, int)
    scores = np.zeros((SEEDS, fields.ids.size))
    for seed in range(SEEDS):
        for part in np.unique(of_field):
            held = np.flatnonzero(of_field == part)
            keep = np.flatnonzero(of_field != part) if same else np.arange(teacher.ids.size)
            scores[seed, held] = _fallow_odds(teacher.pick(keep), fields.pick(held), seed)
    values = [average_precision(one, fallow) for one in scores]
    low, high = _block_interval(scores.mean(axis=0), fallow, np.searchsorted(places, block))
    print(f"  central asia: 95 % interval by blocks {low:.3f}..{high:.3f}; seeds {np.round(values, 3).tolist()}")
    report.figure("central_asia_ap", float(np.mean(values)), cases=int(fallow.size), at_least=0.66)


def _fallow_odds(teacher, fields, seed):
    """log P(not worked) of fields through the pixel-series door, after training on the teacher's fields."""
    masks = np.random.default_rng(seed).random((300, teacher.times.size)) < np.linspace(0.5, 1, 300)[:, None]
    model = train_on(teacher, masks, ("ndvi", "contrast"), CALENDAR_YEAR, draws=3, seed=seed)
    odds = np.zeros(fields.ids.size)
    for scene in np.unique(fields.scene):
        here = fields.scene == scene
        found = judge_pixels(fields.pick(here).cube(CALENDAR_YEAR), model=model, calendar=CALENDAR_YEAR)
        odds[here] = np.log(found.states[0, [*st.IDLE, st.NATURE]].sum(axis=0) + 1e-9)
    return odds


def average_precision(scores, truth):
    """Area under precision over recall, by steps."""
    order = np.argsort(-scores, kind="stable")
    hits = truth[order]
    return float((np.cumsum(hits) / np.arange(1, hits.size + 1))[hits].mean()) if hits.any() else float("nan")


def _block_interval(scores, truth, block, draws=200):
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(block == one) for one in np.unique(block)]
    values = []
    for _ in range(draws):
        rows = np.concatenate([members[one] for one in rng.integers(0, len(members), len(members))])
        if truth[rows].any():
            values.append(average_precision(scores[rows], truth[rows]))
    return np.quantile(values, [0.025, 0.975])
