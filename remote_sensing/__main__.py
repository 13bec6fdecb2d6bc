"""``tianmai-land``: from scenes to clues, maps and figures. Expected errors are one line on stderr and exit 2."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import re
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
import xarray as xr
from distributed import Client
from tqdm import tqdm

from remote_sensing import accuracy, masks, products, reports
from remote_sensing.catalogues import Wanted
from remote_sensing.cubes import Calendar, LandError
from remote_sensing.detection import CLASSES, Detections, detect
from remote_sensing.kept import FinishedTiles
from remote_sensing.labels import Labels, read_labels, yearly_accuracy
from remote_sensing.monitor import LEVELS
from remote_sensing.parcels import grid_of, sorted_out
from remote_sensing.profiles import CN_ADMIN, PROFILES, Profile
from remote_sensing.scenes import open_scene
from remote_sensing.segments import draw_fields
from remote_sensing.synthetic import county
from remote_sensing.tiles import Progress, Workers
from remote_sensing.watching import open_area

MOST_LINES = 20
"""Parcels with an alert that are told one by one on the screen."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 2 expected error (one line on stderr)."""
    args = _parser().parse_args(argv)
    try:
        status = int(args.job(args))
        sys.stdout.flush()
    except LandError as why:
        print(f"error: {why}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); nothing is left to say, nor anybody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tianmai-land", description="Abandoned farmland from space.")
    jobs = parser.add_subparsers(required=True, metavar="COMMAND")
    find = jobs.add_parser("detect", help="judge every parcel and pixel of a cube")
    _add_source(find)
    find.add_argument("--out", type=Path, required=True, help="folder for maps and parcels")
    find.add_argument("--parcels", type=Path, help="polygons: GeoJSON, GeoPackage or GeoParquet")
    find.add_argument("--segment", type=float, metavar="MU", help="no polygons: draw fields of at least MU mu")
    find.add_argument("--profile", default=CN_ADMIN.id, help=f"definition: {', '.join(PROFILES)} or years=N")
    find.add_argument("--year-start", default=None, help="first day of the agricultural year, MM-DD (10-01)")
    find.add_argument("--labels", type=Path, help="CSV of yearly field labels: print the accuracy")
    find.add_argument("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster: tiles are judged there")
    find.add_argument("--quiet", action="store_true", help="no progress bar")
    find.set_defaults(job=_detect)
    watch = jobs.add_parser("monitor", help="take new scenes into the watch of an area, one at a time")
    _add_source(watch)
    watch.add_argument("--state", type=Path, required=True, help="folder of the area: its state file and scenes")
    watch.add_argument("--parcels", type=Path, help="farmland: only its pixels are watched and compared, from now on")
    watch.add_argument("--year-start", default=None, help="first day of the agricultural year, MM-DD (10-01)")
    watch.add_argument("--first-year", type=int, help="first crop year watched (by the first scene)")
    watch.set_defaults(job=_monitor)
    draw = jobs.add_parser("sample", help="draw the parcels that people should judge, by map class")
    draw.add_argument("parcels", type=Path, help="parcels.geojson of a detect run")
    draw.add_argument(
        "--out", type=Path, required=True, help="CSV to fill in: parcel and an empty reference, without the map class"
    )
    draw.add_argument("--target-se", type=float, default=0.02, help="wanted standard error of overall accuracy")
    draw.add_argument("--seed", type=int, default=0)
    draw.set_defaults(job=_sample)
    check = jobs.add_parser("evaluate", help="accuracy and area with 95 %% intervals from a filled-in sample")
    check.add_argument("parcels", type=Path, help="parcels.geojson of the same detect run")
    check.add_argument("--sample", type=Path, required=True, help="the CSV with its reference column filled in")
    check.set_defaults(job=_evaluate)
    check.add_argument("--json", type=Path, metavar="FILE", help="write the figures for `report --accuracy`")
    tell = jobs.add_parser("report", help="one page and a picture of a detect run")
    tell.add_argument("run", type=Path, help="folder of the detect run")
    tell.add_argument("--out", type=Path, help="folder for the report (the run's own)")
    tell.add_argument("--accuracy", type=Path, help="figures of `evaluate --json`; without: not validated 未验证")
    tell.set_defaults(job=_report)
    invent = jobs.add_parser("simulate", help="write a SYNTHETIC 合成 county scene with known truth")
    invent.add_argument("--out", type=Path, required=True, help="folder for cube, parcels and truth")
    invent.add_argument("--seed", type=int, default=7)
    invent.add_argument("--size", type=int, default=256, help="pixels along one side")
    invent.add_argument("--years", type=int, default=8)
    invent.add_argument("--parcels", type=int, default=1000)
    invent.add_argument("--looks", type=float, default=15.0, help="mean clear looks a pixel and year")
    invent.add_argument("--radar", action="store_true", help="add speckled VV/VH")
    invent.set_defaults(job=_simulate)
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    """Where scenes come from and which of them; the same for every command that reads them."""
    parser.add_argument("source", help="netCDF, zarr, STAC catalogue, folder of GeoTIFFs, or https:// of a STAC API")
    parser.add_argument("--collection", action="append", default=[], metavar="ID", help="STAC collection; repeatable")
    parser.add_argument("--bbox", type=_box, metavar="W,S,E,N", help="degrees; --bbox=-55,... if it begins with minus")
    parser.add_argument("--from", dest="first", type=dt.date.fromisoformat, metavar="DATE", help="first day wanted")
    parser.add_argument("--to", dest="last", type=dt.date.fromisoformat, metavar="DATE", help="last day wanted")
    parser.add_argument("--dem", type=Path, help="height model: looks in the cast shadow of hills are masked")


def _box(text: str) -> tuple[float, float, float, float]:
    """West, south, east, north of a box in WGS84 degrees."""
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as why:
        raise argparse.ArgumentTypeError(f"{text!r}: give W,S,E,N in degrees") from why
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):  # noqa: PLR2004 - the globe
        raise argparse.ArgumentTypeError(f"{text!r}: W < E within 180 and S < N within 90 degrees")
    return west, south, east, north


def _open(args: argparse.Namespace) -> xr.Dataset:
    """The cube a command asked for; what was left out or noticed goes to stderr, one line each."""
    wanted = Wanted(tuple(args.collection), args.bbox, args.first, args.last)
    if "://" in args.source and not (wanted.bbox and (wanted.first or wanted.last)):
        raise LandError("bad_setting", f"{args.source}: say which place and time: --bbox W,S,E,N and --from or --to")
    opened = open_scene(args.source, args.dem, wanted)
    for note in opened.notes:
        print(f"note: {Path(args.source).name}: {note}", file=sys.stderr)
    return opened.cube


def _profile(text: str) -> Profile:
    own = re.fullmatch(r"years=(\d+)", text)
    if own:
        years = int(own.group(1))
        return Profile(text, years, f"连续 {years} 年以上未耕种", f"not cultivated for {years} crop years or more")
    if text not in PROFILES:
        raise LandError("bad_profile", f"profile {text!r}: known are {', '.join(PROFILES)} and years=N")
    return PROFILES[text]


def _calendar(text: str | None, labels: Labels | None) -> Calendar:
    if text is None:
        return labels.calendar if labels else Calendar()
    match = re.fullmatch(r"(\d{2})-(\d{2})", text)
    if not match or not (1 <= int(match[1]) <= 12 and 1 <= int(match[2]) <= 28):  # noqa: PLR2004 - months and days
        raise LandError("bad_setting", f"--year-start {text!r}: give MM-DD, day 01..28")
    return Calendar(int(match[1]), int(match[2]))


def read_parcels(path: Path) -> gpd.GeoDataFrame:
    """Polygons from GeoJSON, GeoPackage or GeoParquet. Raises ``LandError`` naming the file."""
    if not path.exists():
        raise LandError("no_file", f"{path}: no such file")
    try:
        # A polygon that cannot be built (a corner that is not a number) stays as nothing: `checked` names its parcel.
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            read = gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path, on_invalid="ignore")
    except (pyogrio.errors.DataSourceError, shapely.errors.ShapelyError, ValueError, OSError) as why:
        raise LandError("truncated", f"{path.name}: cannot be read ({str(why).splitlines()[0][:120]})") from why
    if not isinstance(read, gpd.GeoDataFrame):
        raise LandError("bad_polygon", f"{path.name}: a table without polygons; give GeoJSON, GeoPackage or GeoParquet")
    return read


def _usable_parcels(path: Path, cube: xr.Dataset) -> gpd.GeoDataFrame:
    """The parcels that can be judged; each of the others is one line on stderr. Raises ``LandError`` if none can."""
    read = read_parcels(path)
    try:
        usable, faults = sorted_out(read, grid_of(cube))
    except LandError as why:
        raise LandError(why.code, f"{path.name}: {why}") from why
    if faults and usable.empty:
        raise LandError(faults[0].code, f"{path.name}: {faults[0]}")
    for fault in faults:
        print(f"left out of {path.name}: {fault}", file=sys.stderr)
    return usable


def _bar(title: str, *, quiet: bool) -> tuple[Progress, tqdm[NoReturn]]:
    bar = tqdm(total=0, desc=title, unit="row", disable=quiet, file=sys.stderr)

    def step(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return step, bar


@contextlib.contextmanager
def _workers(address: str | None) -> Iterator[Workers | None]:
    if address is None:
        yield None
        return
    try:
        place = urlsplit(address)
        # dask goes on knocking for minutes where nobody is; one knock tells
        socket.create_connection((place.hostname or "", place.port or 8786), timeout=10).close()
        client: Any = Client(address, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as why:
        raise LandError("no_scheduler", f"{address}: no Dask scheduler answers ({str(why)[:80]})") from why
    with client:
        yield client


def _detect(args: argparse.Namespace) -> int:
    cube = _open(args)
    labels = read_labels(args.labels, cube) if args.labels else None
    parcels = _usable_parcels(args.parcels, cube) if args.parcels else None
    if parcels is None and args.segment is not None:
        parcels = draw_fields(cube, args.segment, _calendar(args.year_start, labels))
    finished = FinishedTiles(args.out / "unfinished")
    if finished.count():
        print(
            f"note: an unfinished run lies in {args.out}: {finished.count()} tiles are there already", file=sys.stderr
        )
    step, bar = _bar("detect", quiet=args.quiet)
    with bar, _workers(args.dask) as workers:
        found = detect(
            cube,
            parcels,
            _profile(args.profile),
            calendar=_calendar(args.year_start, labels),
            known_cropland=args.parcels is not None,
            progress=step,
            workers=workers,
            finished=finished,
            scratch=args.out / "unfinished",
        )
    for path in products.write_all(found, args.out):
        print(path)
    shifts = masks.registration(cube)
    shifts.to_csv(args.out / "registration.csv", index=False)
    print(args.out / "registration.csv")
    finished.clear()
    print(f"crop years {found.crop_years[0]}..{found.crop_years[-1]}; model {found.model}; {_summary(found)}")
    if labels:
        _print_accuracy(labels, found)
    return 0


def _monitor(args: argparse.Namespace) -> int:
    cube = _open(args)
    season = _calendar(args.year_start, None) if args.year_start else None
    parcels = _usable_parcels(args.parcels, cube) if args.parcels else None
    area = open_area(args.state, cube, season, args.first_year)
    farmland = area.restrict(parcels, cube) if parcels is not None else None
    taken = 0
    for day, done in area.feed(cube):
        date = dt.date(1970, 1, 1) + dt.timedelta(days=day)
        if isinstance(done, LandError):
            print(f"left out {date}: {done}", file=sys.stderr)
        elif done.applied:
            taken += 1
            print(f"{date}: taken in, crop year {done.year}, {done.reread_bytes} bytes read again")
        else:
            print(f"{date}: already in")
    print(products.write_alerts(cube, area.monitor.alerts(), args.state / "alerts.tif"))
    if farmland is not None:
        _print_alerted(farmland.table(area.monitor.alerts()), args.state / "alerts.csv")
    levels = ", ".join(f"{name} {count}" for name, count in area.counts().items())
    words = "SYNTHETIC 合成; " if area.synthetic else ""
    print(f"{words}{taken} taken in; pixels by level: {levels}; not validated 未验证")
    return 0


def _print_alerted(table: pd.DataFrame, path: Path) -> None:
    """Every parcel into a CSV; those with an alert on stdout, the worst first, and how many there are a level."""
    table.to_csv(path, index=False)
    print(path)
    names = list(LEVELS[1:])
    alerted = table.sort_values(names[::-1], ascending=False).query(" + ".join(names) + " > 0")
    for row in alerted.head(MOST_LINES).to_dict("records"):
        parts = ", ".join(f"{name} {row[name]}" for name in names if row[name])
        print(f"parcel {row['parcel']}: {row['level']}; of {row['pixels']} pixels {parts}")
    if len(alerted) > MOST_LINES:
        print(f"and {len(alerted) - MOST_LINES} parcels more, see {path.name}")
    counts = table["level"].value_counts()
    said = ", ".join(f"{name} {counts.get(name, 0)}" for name in (*LEVELS, "not_observable"))
    print(f"parcels by level: {said}")


def _summary(found: Detections) -> str:
    words = products.honest_words(found)
    gone = sum(item.class_name == "abandoned" for item in found)
    data = f"{words['data']}; " if found.synthetic else ""
    seen = f"{len(found)} parcels, {gone} abandoned" if len(found) else "maps only, no parcels given"
    return f"{data}{seen} ({found.profile}); accuracy {words['accuracy']}"


def _print_accuracy(labels: Labels, found: Detections) -> None:
    said = found.maps["cultivated"].to_numpy()
    table = yearly_accuracy(labels, said.reshape(said.shape[0], -1), found.crop_years)
    for row in table.itertuples():
        print(f"crop year {row.crop_year}: cultivated or not right in {row.right} of {row.labels}")
    total, right = int(table["labels"].sum()), int(table["right"].sum())
    share = right / total if total else float("nan")
    print(f"yearly cultivated/not accuracy: {share:.3f} ({right} of {total} labels)")


def _judged_parcels(path: Path) -> gpd.GeoDataFrame:
    frame = read_parcels(path)
    if not {"parcel", "class_name", "area_m2"} <= set(frame.columns):
        raise LandError("missing_column", f"{path.name}: not the parcels of a detect run (no class_name, area_m2)")
    return frame[frame["class_name"] != "undecided"]


def _sample(args: argparse.Namespace) -> int:
    frame = _judged_parcels(args.parcels)
    counts = frame["class_name"].value_counts()
    kept = {str(name): float(count) for name, count in counts.items() if count >= 2}  # noqa: PLR2004 - a variance needs two
    guesses = dict.fromkeys(kept, 0.8)
    wanted = accuracy.design_sample(kept, guesses, target_se=args.target_se)
    rows = accuracy.draw_sample(frame["class_name"].tolist(), wanted, seed=args.seed)
    picked = frame.iloc[rows][["parcel"]].assign(reference="")
    picked.to_csv(args.out, index=False)
    print(f"{args.out}: {len(picked)} parcels to judge ({', '.join(f'{k} {v}' for k, v in wanted.items())})")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    frame = _judged_parcels(args.parcels).set_index("parcel")
    told = _references(args.sample, frame)
    mapped = frame.loc[told["parcel"], "class_name"].tolist()
    counts = {str(name): int(count) for name, count in frame["class_name"].value_counts().items()}
    missed = {name: count for name, count in counts.items() if name not in mapped}
    sizes = {name: float(count) for name, count in counts.items() if name in mapped}
    seen = accuracy.assess(mapped, mapped, told["reference"].tolist(), sizes)
    print(f"overall accuracy {seen.overall.value:.3f} ({seen.overall.low:.3f}..{seen.overall.high:.3f})")
    for name in seen.classes:
        users, producers, count = seen.users[name], seen.producers[name], seen.area[name]
        print(
            f"{name}: user's {users.value:.3f}, producer's {producers.value:.3f}, F1 {seen.f1(name):.3f}, "
            f"parcels {count.value:.0f} ({max(count.low, 0):.0f}..{count.high:.0f})"
        )
    for name, total in missed.items():
        print(f"{name}: no sample among {total} parcels: the figures are of the other {sum(sizes.values()):.0f} alone")
    blocks = _calibration(frame.loc[told["parcel"]], told["reference"])
    for block in blocks:
        where = f"block {block.row} from the south, {block.column} from the west"
        print(f"calibration of P(abandoned), {where}: error {block.error:.3f} over {block.samples} parcels")
    if args.json:
        _write_accuracy(args.json, args.parcels, seen, {"not_sampled": missed, "calibration": blocks})
    return 0


def _references(path: Path, frame: gpd.GeoDataFrame) -> pd.DataFrame:
    """What people said of the sampled parcels. Raises ``LandError("no_file" | "bad_sample")``."""
    if not path.exists():
        raise LandError("no_file", f"{path}: no such file")
    try:
        told = pd.read_csv(path, dtype=str)
    except ValueError as why:
        raise LandError("bad_sample", f"{path.name}: cannot be read as a CSV ({str(why)[:80]})") from why
    if not {"parcel", "reference"} <= set(told.columns):
        raise LandError("bad_sample", f"{path.name}: needs the columns parcel and reference")
    if (empty := told["reference"].isna()).any():
        first = told["parcel"][empty].iloc[0]
        raise LandError("bad_sample", f"{path.name}: {int(empty.sum())} without a reference, the first {first}")
    if strange := sorted(set(told["reference"]) - set(CLASSES)):
        raise LandError("bad_sample", f"{path.name}: reference {strange[0]!r}; known are {', '.join(CLASSES)}")
    unknown = set(told["parcel"]) - set(frame.index)
    if unknown:
        raise LandError("bad_sample", f"{path.name}: parcel {min(unknown)} is not among the judged parcels")
    return told


def _calibration(frame: gpd.GeoDataFrame, reference: pd.Series[str]) -> tuple[accuracy.BlockCalibration, ...]:
    """How far P(abandoned) lies from what people found, block by block; none for parcels that carry no chances."""
    if "probabilities" not in frame:
        return ()
    shares = [json.loads(one) if isinstance(one, str) else one for one in frame["probabilities"]]
    chance = np.array([float(one["abandoned"]) for one in shares])
    at = shapely.get_coordinates(shapely.centroid(frame.geometry.to_numpy()))
    return accuracy.calibration_by_block(chance, (reference == "abandoned").to_numpy(), at)


def _write_accuracy(path: Path, parcels: Path, seen: accuracy.Assessment, more: dict[str, Any]) -> None:
    run = reports.read_run(parcels.parent)
    overall = {"value": seen.overall.value, "low": seen.overall.low, "high": seen.overall.high}
    told = {"profile": run.facts["profile"], "model": run.facts["model"], "samples": seen.samples, "overall": overall}
    told["matrix"] = seen.matrix
    told["not_sampled"] = more["not_sampled"]
    told["calibration"] = [asdict(block) for block in more["calibration"]]
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _report(args: argparse.Namespace) -> int:
    run = reports.read_run(args.run)
    known = reports.read_accuracy(args.accuracy, run) if args.accuracy else None
    for path in reports.write_report(run, args.out or args.run, known):
        print(path)
    return 0


def _simulate(args: argparse.Namespace) -> int:
    if args.size < 48 or args.years < 3 or args.parcels < 1 or not 0 < args.looks <= 60:  # noqa: PLR2004 - sane settings
        raise LandError("bad_setting", "size >= 48, years >= 3, parcels >= 1 and 0 < looks <= 60")
    scene = county(args.seed, args.size, args.years, args.parcels, looks=args.looks, radar=args.radar)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as why:
        raise LandError("no_place", f"{args.out}: cannot be made ({why.strerror})") from why
    print(products.write_cube(scene.cube, args.out / "synthetic_cube.nc"))
    scene.parcels.to_crs(4326).to_file(args.out / "synthetic_parcels.geojson", driver="GeoJSON")
    print(args.out / "synthetic_parcels.geojson")
    truth = scene.truth.assign(states=scene.truth["states"].map(" ".join))
    truth.to_csv(args.out / "synthetic_truth.csv", index=False)
    print(args.out / "synthetic_truth.csv")
    print("SYNTHETIC 合成: this is not real land")
    return 0


if __name__ == "__main__":
    sys.exit(main())
