"""The spliced set: real single years joined to series with a known year of abandonment."""

from __future__ import annotations

import numpy as np
import pandas as pd
from land_series import MODIS_BANDS, MODIS_LAYERS, first, read_samples, series_cube, train_on

from remote_sensing import CN_ADMIN, Calendar
from remote_sensing import states as st
from remote_sensing.accuracy import calibration_error
from remote_sensing.detection import default_model, judge_pixels

CALENDAR = Calendar(9, 14)
GONE = ("abandon", "recultivated")
KEYS = (
    "clear_f1",
    "clear_exact_year",
    "clear_within_1y",
    "clear_fallow_false",
    "clear_stable_false",
    "recultivated_recall",
    "clear_ece",
    "all_f1",
    "all_exact_year",
)


class Spliced:
    """Series (N), their values, masks and truth."""

    def __init__(self, folder):
        values, truth = first(folder, "spliced_abandonment.csv*"), first(folder, "spliced_abandonment_truth*")
        self.truth = pd.read_csv(truth)
        table = pd.read_csv(values).sort_values(["series", "year", "period"])
        self.truth = self.truth.set_index("series").loc[sorted(table["series"].unique())].reset_index()
        count = len(self.truth)
        self.years = int(table["year"].nunique())
        self.bands = {name: table[name].to_numpy(float).reshape(count, -1) for name in MODIS_BANDS if name in table}
        self.clear = table["clear"].to_numpy().reshape(count, -1).astype(bool)
        self.sources = [set(map(int, str(ids).split())) for ids in self.truth["source_ids"]]
        self.source_rows = np.array([list(map(int, str(ids).split())) for ids in self.truth["source_ids"]])
        self.letters = np.array([list(states) for states in self.truth["states"]])
        kind = self.truth["kind"]
        self.gone = kind.str.startswith(GONE).to_numpy()
        self.fallow = kind.str.startswith("fallow").to_numpy()
        self.stable = kind.isin(["stable_pasture", "stable_shrub", "stable_forest"]).to_numpy()
        self.back = (kind == "recultivated").to_numpy()

    def cube(self, rows, clear):
        periods = self.clear.shape[1] // self.years
        times = [
            np.datetime64(CALENDAR.start(2001 + year), "D") + 16 * np.arange(periods) for year in range(self.years)
        ]
        mask = self.clear[rows] if clear else np.ones_like(self.clear[rows])
        return series_cube(
            np.concatenate(times).astype("datetime64[s]"), {n: v[rows] for n, v in self.bands.items()}, mask
        )

    def masks(self, rows):
        """The pool of yearly masks (M, periods) of some series."""
        return self.clear[rows].reshape(-1, self.clear.shape[1] // self.years)

    def hidden(self):
        """States (N, Y) and looks (N, Y) of the truth, for teaching the chain."""
        nature = np.select([self.letters == "p", self.letters == "s"], [st.NATURE, st.SHRUBS], st.FOREST)
        gone = np.where(self.letters == "p", st.YOUNG, st.OLD)
        gone[self.fallow] = st.FALLOW
        steady = ~(self.gone | self.fallow)
        states = np.where(steady[:, None], nature, gone)
        return np.where(self.letters == "c", st.CULTIVATED, states), self._looks()

    def _looks(self):
        table = {"c": "crop", "p": "idle", "s": "shrub", "f": "forest"}
        return np.vectorize(lambda letter: st.LOOKS.index(table[letter]))(self.letters)

    def abandoned_years(self):
        """Truth (Y, N): the year lies in an abandonment of at least two years."""
        out = np.zeros((self.years, len(self.truth)), bool)
        for n, row in enumerate(self.truth.itertuples()):
            if self.gone[n]:
                end = row.recultivated_year if row.recultivated_year > 0 else self.years
                out[row.abandoned_year : end, n] = end - row.abandoned_year >= CN_ADMIN.min_years
        return out


def judge(train_folder, data_folder):
    """P(abandoned) (Y, N), decided (Y, N) and onset year index (N,) for clear dates and for all; None without data."""
    if not first(data_folder, "spliced_abandonment.csv*") or not first(train_folder, "modis_mt_samples*"):
        return None
    samples, data = read_samples(first(train_folder, "modis_mt_samples*")), Spliced(data_folder)
    teacher = Spliced(train_folder) if first(train_folder, "spliced_abandonment.csv*") else None
    count, years = len(data.truth), data.years
    out = {
        clear: (np.zeros((years, count)), np.zeros((years, count), bool), np.zeros(count, int))
        for clear in (True, False)
    }
    # By what the two share, not by where they lie: a copied folder would otherwise judge what it has learnt.
    shared = np.isin(samples.ids, data.source_rows).any()
    for part in folds(samples, data) if shared else [np.arange(count)]:
        held = set().union(*(data.sources[n] for n in part))
        keep = _elsewhere(samples, held)
        taken = held | set(samples.ids[~keep].tolist())
        rows = [n for n, ids in enumerate(teacher.sources if teacher else []) if ids.isdisjoint(taken)]
        masks, chain = _taught(teacher, rows)
        model = train_on(samples.pick(keep), masks, MODIS_LAYERS, CALENDAR)
        print(
            f"  spliced: {part.size} series judged by {model.id} {model.calibration}, {keep.sum()} samples, "
            f"{len(masks) // years} series taught masks and chain",
            flush=True,
        )
        for clear, (chance, decided, onset) in out.items():
            found = judge_pixels(data.cube(part, clear), model=model, chain=chain, calendar=CALENDAR)
            chance[:, part], decided[:, part] = found.abandoned(CN_ADMIN), found.decided
            onset[part] = found.onset(np.argmax(chance[:, part], axis=0)).argmax(axis=0)
    return data, out


def _taught(teacher, rows):
    """Masks of years and the chain that these of the teacher's series teach; without any, the prior chain."""
    chain = st.Chain.for_land(known_cropland=False)
    if teacher is None or not rows:
        return np.zeros((0, 0), bool), chain
    states, looks = teacher.hidden()
    return teacher.masks(rows), chain.learned(states[rows], looks[rows])


def _elsewhere(samples, held):
    """Samples in no place block that a held source lies in."""
    block = samples.block
    return ~np.isin(block, block[np.isin(samples.ids, list(held))])


def folds(samples, data, parts=8):
    """Series by place: the place of the first source, cut along longitude and latitude into equal parts."""
    at = {int(n): (x, y) for n, x, y in zip(samples.ids, samples.lon, samples.lat, strict=True)}
    places = np.array([at.get(int(ids[0]), (0.0, 0.0)) for ids in data.source_rows])
    order = np.lexsort((places[:, 1], np.digitize(places[:, 0], np.quantile(places[:, 0], [1 / 3, 2 / 3]))))
    return [np.sort(part) for part in np.array_split(order, parts)]


def textbook_f1(data):
    """What synthetic curves alone are worth on real signal: the default model, which saw none of it, clear dates."""
    cube = data.cube(np.arange(len(data.truth)), clear=True)
    found = judge_pixels(cube, model=default_model(cube), calendar=CALENDAR)
    said = (found.decided & (found.abandoned(CN_ADMIN) >= 0.5)).any(axis=0)
    return 2 * (said & data.gone).sum() / max(said.sum() + data.gone.sum(), 1)


def score(report, train_folder, data_folder):
    """Every figure of the spliced set."""
    judged = judge(train_folder, data_folder)
    targets = {"f1": 0.96, "exact": 0.95, "near": 0.99}
    if judged is None:
        for key in KEYS:
            report.figure(f"spliced_{key}", None, cases=0)
        return
    data, out = judged
    count = len(data.truth)
    report.figure("spliced_textbook_f1", textbook_f1(data), cases=count)
    for clear, name in ((True, "clear"), (False, "all")):
        chance, decided, onset = out[clear]
        said = (decided & (chance >= 0.5)).any(axis=0)
        both = said & data.gone
        f1 = 2 * both.sum() / max(said.sum() + data.gone.sum(), 1)
        off = np.abs(onset - data.truth["abandoned_year"].to_numpy())[both]
        wrong = int((said != data.gone).sum())
        exact = float((off == 0).mean()) if off.size else None
        report.figure(f"spliced_{name}_f1", f1, cases=count, wrong=wrong, at_least=targets["f1"] if clear else 0.99)
        report.figure(
            f"spliced_{name}_exact_year",
            exact,
            cases=off.size,
            wrong=int((off > 0).sum()),
            at_least=targets["exact"] if clear else 0.985,
        )
        if clear:
            report.figure(
                "spliced_clear_within_1y",
                float((off <= 1).mean()) if off.size else None,
                cases=off.size,
                wrong=int((off > 1).sum()),
                at_least=targets["near"],
            )
            for key, who, most in (("fallow", data.fallow, 0.10), ("stable", data.stable, 0.0125)):
                report.figure(
                    f"spliced_clear_{key}_false",
                    float(said[who].mean()) if who.any() else None,
                    cases=int(who.sum()),
                    wrong=int(said[who].sum()),
                    at_most=most,
                )
            report.figure(
                "spliced_recultivated_recall",
                float(said[data.back].mean()) if data.back.any() else None,
                cases=int(data.back.sum()),
                wrong=int((~said[data.back]).sum()),
                at_least=0.94,
            )
            truth = data.abandoned_years()
            report.figure("spliced_clear_ece", calibration_error(chance[decided], truth[decided]), at_most=0.03)
            report.figure("spliced_clear_decided_share", float(decided.mean()))
