"""Speed of the land science, in CPU-seconds and ratios within one run; `--only fit,chain` measures some of it.

Peers (nrt 0.3, cdts 0.23) live in an environment of their own under var/ that the first run makes (`--peer PYTHON`
names another); they are never our dependencies. Where they cannot be installed their figures are null and the reason
is printed. Everything is synthetic noise of the usual shape: a quarter of the looks clear, int16 bands.
"""

import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import xarray as xr
from distributed import Client, LocalCluster
from land_series import MODIS_LAYERS, STEADY
from measuring import ROOT, bench
from threadpoolctl import threadpool_limits

from remote_sensing import CN_ADMIN, Calendar, detect
from remote_sensing import states as st
from remote_sensing.classifier import Labelled, train
from remote_sensing.cubes import Stack
from remote_sensing.evidence import design_matrix, feature_names, gather
from remote_sensing.kernels import harmonic_fit, stream_pass
from remote_sensing.monitor import Monitor, OneScene
from remote_sensing.neighbours import beside_neighbours

LAYERS = ("ndvi", "wetness")
YEARS = tuple(range(2011, 2021))
PARTS = ("fit", "monitor", "chain", "growth", "memory", "dask", "peers")
PEER_HOME = ROOT / "var" / "peers" / "land"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""CPU-seconds count every thread, also one that only waits: our peers get one as we do."""
BANDS = ("red", "nir", "swir1")
MODIS_BANDS = ("red", "nir", "swir2", "blue", "ndvi")

NRT = """
import datetime, sys, time, json
import numpy as np
import xarray as xr
from nrt.monitor.ewma import EWMA
rng = np.random.default_rng(0)
T, size = 92, 120
times = np.datetime64("2018-01-01") + 16 * np.arange(T)
values = 0.5 + 0.2 * rng.standard_normal((T, size, size))
values[rng.random(values.shape) < 0.4] = np.nan
cube = xr.DataArray(values, dims=("time", "y", "x"), coords={"time": times.astype("datetime64[ns]")})
def least(call, repeats):
    call()
    best = 1e9
    for _ in range(repeats):
        begin = time.process_time()
        call()
        best = min(best, time.process_time() - begin)
    return best
peer = EWMA(trend=True, harmonic_order=2)
fit = T * size * size / least(lambda: peer.fit(dataarray=cube, method="OLS", screen_outliers=None), 3)
days = iter(range(1, 10_000))
def scene():
    day = next(days)
    peer.monitor(array=values[day % T], date=datetime.datetime(2022, 2, 1) + datetime.timedelta(days=16 * day))
update = size * size / least(scene, 12)
print(json.dumps({"fit": fit, "update": update}))
"""
CDTS = """
import json, sys, time
import numpy as np
from cdts.ccdc import run_ccdc
rng = np.random.default_rng(0)
dates = np.array(json.loads(sys.argv[1]))
season = np.sin((dates % 365.2425) / 365.2425 * 2 * np.pi)
pixels = 40
bands = [400, 600, 500, 2500, 2000, 1200]
series = [
    (
        np.stack([level * (1 + 0.2 * season) + rng.normal(0, 60, dates.size) for level in bands]).round(),
        np.where(rng.random(dates.size) < 0.25, 0, 4),
    )
    for _ in range(pixels)
]
least = 1e9
for _ in range(6):
    begin = time.process_time()
    for values, quality in series:
        run_ccdc(dates, values, quality)
    least = min(least, time.process_time() - begin)
print(json.dumps({"pd": pixels * dates.size / least}))
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


def stack_of_noise(dates_a_year, years, pixels, seed=0, bands=BANDS):
    """Random int16 bands with a quarter of the looks clear."""
    rng = np.random.default_rng(seed)
    start = Calendar().start(2011)
    days = (start + np.arange(int(365.2425 * years)) * 1)[:: max(1, 365 // dates_a_year)][: dates_a_year * years]
    shape = (days.size, pixels)
    held = {name: rng.integers(300, 4000, shape, dtype=np.int16) for name in bands}
    return Stack(days.astype(np.int32), held, rng.random(shape) < 0.25, (1, pixels), np.zeros(0, np.int32), {})


def model_of(layers=LAYERS, bands=BANDS, *, rows=400, shares=(1,) * 6, kinds=1, recipe=None, apart=1.0):
    """A classifier of the shape that conform trains; what it learnt does not change how long it takes.

    Learnt from noise evidence, every kind ``apart`` standard deviations aside of the others: ``shares`` how often
    each look comes, ``kinds`` of the first look.
    """
    rng = np.random.default_rng(0)
    stack = stack_of_noise(73, 10, -(-rows // 10), bands=bands)
    values = gather(beside_neighbours(stack, layers), Calendar(), YEARS, layers).values
    values = values.reshape(values.shape[0], -1).T[:rows]
    looks = rng.choice(len(shares), rows, p=np.array(shares) / sum(shares))
    kind = np.where(looks == 0, rng.integers(0, kinds, rows) * 100, looks)
    aside = rng.normal(0, apart, (kinds * 100, values.shape[1]))[kind] * np.nanstd(values, axis=0)
    data = Labelled((values + aside).astype(np.float32), looks, rng.integers(5, 20, rows), np.arange(rows) // 10, kind)
    return train(data, feature_names(layers), layers, recipe=recipe)


def block_of(stack, cut):
    """Some pixels of a stack."""
    bands = {name: band[:, cut] for name, band in stack.bands.items()}
    clear = stack.clear[:, cut]
    return Stack(stack.days, bands, clear, (1, clear.shape[1]), stack.radar_days, {})


def chain_seconds(stack, model, years, block=4000):
    """CPU-seconds from int16 bands and mask to the posterior, block by block."""

    def run():
        whole = beside_neighbours(stack, model.layers)
        for left in range(0, stack.clear.shape[1], block):
            evidence = gather(block_of(whole, slice(left, left + block)), Calendar(), years, model.layers)
            found = st.infer(model.loglik(evidence), st.decided_years(evidence), years, st.Chain())
            found.abandoned(CN_ADMIN)

    return cpu(run, 5)


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
    ours = cpu(lambda: harmonic_fit(values, design, borders, ridge), 9)
    plain = cpu(lambda: stream_pass(values[0]), 9)

    def blas():
        seen = np.isfinite(values[0])
        filled = np.where(seen, values[0], 0)
        terms = design.shape[1]
        squares = (design[:, :, None] * design[:, None, :]).reshape(dates, terms * terms)
        gram = (squares.T @ seen.astype(np.float32)).T.reshape(pixels, terms, terms) + np.diag(ridge)
        np.linalg.solve(gram, (design.T @ filled).T[:, :, None])

    report.figure("fit_mpd_per_cpu_s", dates * pixels / ours / 1e6)
    report.figure("stream_mpd_per_cpu_s", dates * pixels / plain / 1e6)
    report.figure("fit_vs_blas", cpu(blas) / ours, at_least=2)
    report.figure("fit_vs_stream", plain / ours, at_least=0.4)
    return dates * pixels / ours


def monitor_figures(report):
    """Pixels a CPU-second of one scene's update of the monitor, its alert levels included; bytes carried."""
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
    rate = 27 * 40_000 / (time.process_time() - begin)
    report.figure("monitor_mpx_per_cpu_s", rate / 1e6)
    report.figure("bytes_per_pixel_online", monitor.bytes_per_pixel, at_most=80)
    return rate


def chain_figures(report):
    """The chain as the issue names it, 200 x 200 pixels, 10 years, 73 dates a year, with every classifier of conform.

    ``scenes``: nets, two layers (Sentinel-2 and the synthetic county). ``labels``: MODIS's six layers, boosted trees
    beside students of nets. ``rare``: Central Asia, contrast to all neighbours, students of nets and of extremely
    randomised trees by kinds. The slowest of them is the figure.
    """
    rates = {}
    for name, bands, shape in (
        ("scenes", BANDS, {}),
        (
            "labels",
            MODIS_BANDS,
            {"layers": MODIS_LAYERS, "rows": 3000, "shares": (6, 3, 2, 2), "kinds": 6, "recipe": STEADY, "apart": 0.2},
        ),
        (
            "rare",
            BANDS,
            {
                "layers": ("ndvi", "contrast"),
                "rows": 16_000,
                "shares": (96, 1.4, 2.6),
                "kinds": 13,
                "recipe": STEADY,
                "apart": 0.8,
            },
        ),
    ):
        stack, model = stack_of_noise(73, 10, 200 * 200, bands=bands), model_of(bands=bands, **shape)
        rates[name] = stack.clear.size / chain_seconds(stack, model, YEARS)
        report.figure(f"chain_{name}_mpd_per_cpu_s", rates[name] / 1e6)
        report.figure(f"chain_{name}_nodes_a_tree", model.trees.feature.size / max(1, model.trees.roots.size))
    slowest = min(rates.values())
    report.figure("chain_mpd_per_cpu_s", slowest / 1e6, at_least=20)
    return slowest, [int(day) + dt.date(1970, 1, 1).toordinal() for day in stack.days]


def growth_figure(report, model):
    """Seconds a pixel-date at four times the pixels and dates."""
    span = tuple(range(2011, 2015))
    small, large = stack_of_noise(36, 4, 10_000), stack_of_noise(146, 4, 40_000)
    one = chain_seconds(small, model, span) / small.clear.size
    four = chain_seconds(large, model, span) / large.clear.size
    report.figure("growth", four / one, at_most=1.15)


def peak(pixels, model):
    """Peak memory beside the input of the tiled chain over so many pixels."""
    stack = stack_of_noise(24, 2, pixels)
    years = Calendar().whole_years(stack.days)
    tracemalloc.start()
    chain_seconds(stack, model, years, block=2000)
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return top


def dask_figure(report, model):
    """Seconds of ``detect`` on one worker process ÷ on two, median of five each: 57 million pixel-dates."""
    rows, columns = 512, 256
    stack = stack_of_noise(73, 6, rows * columns)
    times = stack.days.astype("datetime64[D]").astype("datetime64[s]")
    shape = (times.size, rows, columns)
    dims = ("time", "y", "x")
    held = {name: (dims, band.reshape(shape)) for name, band in stack.bands.items()}
    coords = {"time": times, "y": -10.0 * np.arange(rows), "x": 10.0 * np.arange(columns)}
    cube = xr.Dataset({**held, "clear": (dims, stack.clear.reshape(shape))}, coords=coords)
    middle = {}
    for count in (1, 2):
        with (
            LocalCluster(n_workers=count, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            took = []
            for _ in range(6):
                begin = time.perf_counter()
                found = detect(cube, None, model=model, workers=client, tile_rows=16)
                took.append(time.perf_counter() - begin)
        middle[count] = statistics.median(took[1:])
        report.figure(f"dask_seconds_{count}", middle[count])
    report.figure("dask_same_answer", found.maps.identical(detect(cube, None, model=model).maps), exactly=True)
    report.figure("dask_speedup_2", middle[1] / middle[2], at_least=1.4)


def peer_python(args):
    """The Python with the peers, made at the first call; a reason in words where there is none."""
    if args.peer:
        return args.peer, ""
    python = PEER_HOME / "bin" / "python"
    if not (PEER_HOME / "complete").exists():
        # cdts's fitting core needs numpy alone; its declared dependencies bring torch and a hundred more
        steps = [[sys.executable, "-m", "venv", "--clear", PEER_HOME]]
        steps += [
            [python, "-m", "pip", "install", "-q", *what] for what in (["nrt==0.3.0"], ["--no-deps", "cdts==0.23.0"])
        ]
        for step in steps:
            why = said_wrong(step)
            if why:
                return None, f"{step[-1]}: {why}"
        (PEER_HOME / "complete").touch()
    return python, ""


def said_wrong(command, **how):
    """The last words of a command that failed; nothing where it did not. ``answer``: what becomes of its output."""
    answer = how.pop("answer", lambda _: None)
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=900, **how)
    except (OSError, subprocess.TimeoutExpired) as why:
        return str(why)[:160]
    if run.returncode:
        return (run.stderr.strip().splitlines() or [f"exit {run.returncode}"])[-1][:160]
    answer(run.stdout)
    return ""


def peer_figures(args, report, fit, update, chain):
    """What the peers need for the same work; null with the reason where they cannot run."""
    python, why = peer_python(args)
    rate, days = chain
    for name, program, extra in (("nrt", NRT, []), ("cdts", CDTS, [json.dumps(days)])):
        said = {}
        if python:
            keep = lambda out, said=said: said.update(json.loads(out.splitlines()[-1]))  # noqa: E731
            why = said_wrong([python, "-c", program, *extra], env=ONE_THREAD, answer=keep)
        if not said:
            print(f"  {name}: {why}", flush=True)
            report.figures[f"{name}_reason"] = why
        if name == "nrt":
            report.figure("fit_vs_nrt", fit / said["fit"] if said else None, at_least=12)
            report.figure("monitor_vs_nrt", update / said["update"] if said else None, at_least=6)
        else:
            report.figure("ccdc_mpd_per_cpu_s", said["pd"] / 1e6 if said else None)
            report.figure("chain_vs_ccdc", rate / said["pd"] if said else None, at_least=70)


@threadpool_limits.wrap(limits=1)
def measure(args, report):
    wanted = set(args.only.split(",")) if args.only else set(PARTS)
    if "peers" in wanted:
        wanted |= {"fit", "monitor", "chain"}
    model = model_of()
    fit = fit_figures(report) if "fit" in wanted else None
    update = monitor_figures(report) if "monitor" in wanted else None
    chain = chain_figures(report) if "chain" in wanted else None
    if "growth" in wanted:
        growth_figure(report, model)
    if "memory" in wanted:
        report.figure("peak_growth", peak(40_000, model) / peak(4_000, model), at_most=1.2)
    if "dask" in wanted:
        dask_figure(report, model)
    if "peers" in wanted:
        peer_figures(args, report, fit, update, chain)


def arguments(parser):
    parser.add_argument(
        "--only", metavar="PARTS", help=f"some of {','.join(PARTS)} (peers bring what they are held to)"
    )
    parser.add_argument("--peer", type=Path, metavar="PYTHON", help="a Python that has nrt and cdts")


if __name__ == "__main__":
    sys.exit(bench("land", measure, arguments))
