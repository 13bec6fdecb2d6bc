"""Speed of the land science, in CPU-seconds and ratios within one run.

Peers (nrt, cdts) are compared only where a Python with them is named (--peer PYTHON): they are never our
dependencies. Everything is synthetic noise of the usual shape: 25 % clear looks, int16 bands.
"""

import json
import subprocess
import sys
import time
import tracemalloc

import numpy as np
from measuring import bench

from remote_sensing import CN_ADMIN, Calendar
from remote_sensing import states as st
from remote_sensing.classifier import Labelled, Recipe, train
from remote_sensing.cubes import Stack
from remote_sensing.evidence import design_matrix, feature_names, gather
from remote_sensing.kernels import harmonic_fit, stream_pass
from remote_sensing.monitor import Monitor, OneScene

LAYERS = ("ndvi", "wetness")
PEER = """
import sys, time, json
import numpy as np
import xarray as xr
from nrt.monitor.ewma import EWMA
rng = np.random.default_rng(0)
T, size = 92, 120
times = np.datetime64("2018-01-01") + 16 * np.arange(T)
values = 0.5 + 0.2 * rng.standard_normal((T, size, size))
values[rng.random(values.shape) < 0.4] = np.nan
cube = xr.DataArray(values, dims=("time", "y", "x"), coords={"time": times.astype("datetime64[ns]")})
peer = EWMA(trend=True, harmonic_order=2)
peer.fit(dataarray=cube, method="OLS", screen_outliers=None)
begin = time.process_time()
peer.fit(dataarray=cube, method="OLS", screen_outliers=None)
fit = T * size * size / (time.process_time() - begin)
import datetime
day = datetime.datetime(2022, 2, 1)
peer.monitor(array=values[0], date=day)
begin = time.process_time()
for n in range(10):
    peer.monitor(array=values[n], date=day + datetime.timedelta(days=16 * (n + 1)))
update = 10 * size * size / (time.process_time() - begin)
print(json.dumps({"fit": fit, "update": update}))
"""


def cpu(call, repeats=3):
    """Least CPU-seconds of some calls, the first one (compilation) not counted."""
    call()
    best = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        call()
        best = min(best, time.process_time() - begin)
    return best


def stack_of_noise(dates_a_year, years, pixels, seed=0):
    """Random int16 bands with a quarter of the looks clear."""
    rng = np.random.default_rng(seed)
    start = Calendar().start(2011)
    days = (start + np.arange(int(365.2425 * years)) * 1)[:: max(1, 365 // dates_a_year)][: dates_a_year * years]
    shape = (days.size, pixels)
    bands = {name: rng.integers(300, 4000, shape, dtype=np.int16) for name in ("red", "nir", "swir1")}
    return Stack(days.astype(np.int32), bands, rng.random(shape) < 0.25, (1, pixels), np.zeros(0, np.int32), {})


def some_model():
    """A classifier of the size that conform trains."""
    rng = np.random.default_rng(0)
    names = feature_names(LAYERS)
    rows = Labelled(
        rng.normal(size=(400, len(names))).astype(np.float32),
        rng.integers(0, 6, 400),
        rng.integers(5, 20, 400),
        np.arange(400) // 10,
    )
    return train(rows, names, LAYERS, recipe=Recipe(steps=50))


def chain_seconds(stack, model, calendar, years, block=4000):
    """CPU-seconds from int16 bands and mask to the posterior, block by block."""

    def run():
        for left in range(0, stack.clear.shape[1], block):
            cut = slice(left, left + block)
            part = Stack(
                stack.days,
                {name: band[:, cut] for name, band in stack.bands.items()},
                stack.clear[:, cut],
                (1, stack.clear[:, cut].shape[1]),
                stack.radar_days,
                {},
            )
            evidence = gather(part, calendar, years, LAYERS)
            found = st.infer(model.loglik(evidence), st.decided_years(evidence), years, st.Chain())
            found.abandoned(CN_ADMIN)

    return cpu(run, 2)


def fit_figures(report):
    """Masked harmonic fit against BLAS normal equations and a plain streaming pass."""
    rng = np.random.default_rng(1)
    dates, pixels = 230, 20_000
    days = (Calendar().start(2011) + 16 * np.arange(dates)).astype(np.int32)
    values = rng.normal(0.5, 0.2, (1, dates, pixels)).astype(np.float32)
    values[:, rng.random((dates, pixels)) < 0.4] = np.nan
    design = design_matrix(days, Calendar())
    ridge = np.full(design.shape[1], 0.05, np.float32)
    borders = np.array([0, dates])
    ours = cpu(lambda: harmonic_fit(values, design, borders, ridge))
    plain = cpu(lambda: stream_pass(values[0]))

    def blas():
        seen = np.isfinite(values[0])
        filled = np.where(seen, values[0], 0)
        terms = design.shape[1]
        squares = (design[:, :, None] * design[:, None, :]).reshape(dates, terms * terms)
        gram = (squares.T @ seen.astype(np.float32)).T.reshape(pixels, terms, terms) + np.diag(ridge)
        np.linalg.solve(gram, (design.T @ filled).T[:, :, None])

    report.figure("fit_mpd_per_cpu_s", dates * pixels / ours / 1e6)
    report.figure("fit_vs_blas", cpu(blas) / ours, at_least=2)
    report.figure("fit_vs_stream", plain / ours, at_least=0.4)
    return dates * pixels / ours


def update_rate():
    """Pixels a CPU-second of one scene's update of the monitor's counters."""
    stack = stack_of_noise(73, 1, 40_000)
    monitor = Monitor(40_000, 2011, model=st.WeakRules())
    scenes = [
        OneScene(int(day), {name: band[t] for name, band in stack.bands.items()}, stack.clear[t])
        for t, day in enumerate(stack.days[:30])
    ]
    for scene in scenes[:3]:
        monitor.update(scene)
    begin = time.process_time()
    for scene in scenes[3:]:
        monitor.update(scene)
    return 27 * 40_000 / (time.process_time() - begin), monitor.bytes_per_pixel


def peak(pixels):
    """Peak memory beside the input of the tiled chain over so many pixels."""
    stack, model = stack_of_noise(24, 2, pixels), some_model()
    years = Calendar().whole_years(stack.days)
    tracemalloc.start()
    chain_seconds(stack, model, Calendar(), years, block=2000)
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return top


def measure(args, report):
    calendar, model = Calendar(), some_model()
    fit = fit_figures(report)
    update, carried = update_rate()
    report.figure("monitor_mpx_per_cpu_s", update / 1e6)
    report.figure("bytes_per_pixel_online", carried, at_most=80)
    stack = stack_of_noise(73, 10, 200 * 200)
    years = tuple(range(2011, 2021))
    seconds = chain_seconds(stack, model, calendar, years)
    work = stack.clear.size
    report.figure("chain_mpd_per_cpu_s", work / seconds / 1e6, at_least=20)
    small = stack_of_noise(36, 4, 10_000)
    large = stack_of_noise(146, 4, 40_000)
    span = tuple(range(2011, 2015))
    one = chain_seconds(small, model, calendar, span) / small.clear.size
    four = chain_seconds(large, model, calendar, span) / large.clear.size
    report.figure("growth", four / one, at_most=1.15)
    report.figure("peak_growth", peak(40_000) / peak(4_000), at_most=1.2)
    if args.peer:
        out = subprocess.run([args.peer, "-c", PEER], capture_output=True, text=True, timeout=900, check=True)
        peer = json.loads(out.stdout.splitlines()[-1])
        report.figure("fit_vs_nrt", fit / peer["fit"], at_least=12)
        report.figure("monitor_vs_nrt", update / peer["update"], at_least=6)
    else:
        report.figure("fit_vs_nrt", None)
        report.figure("monitor_vs_nrt", None)


def arguments(parser):
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has nrt, for the ratios against it")


if __name__ == "__main__":
    sys.exit(bench("land", measure, arguments))
