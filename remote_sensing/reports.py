"""A run told to a person: one page (HTML, and the same as Markdown) and two pictures, honest on their face.

Every figure stands beside its definition, the looks behind it and the accuracy it has; without an accuracy file the
words are "not validated 未验证". A page of an invented scene says 合成 SYNTHETIC in its title.
"""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from remote_sensing.cubes import LandError

NOT_VALIDATED = "not validated 未验证"
SYNTHETIC = "合成 SYNTHETIC: not real land 不是真实土地"


@dataclass(frozen=True, slots=True)
class Run:
    """What a detect run left: ``facts`` of the whole, ``records`` one dict a parcel, its quick-look (PNG) or none."""

    folder: Path
    facts: dict[str, Any]
    records: tuple[dict[str, Any], ...]
    quicklook: bytes | None


def read_run(folder: Path) -> Run:
    """Read the folder of a detect run. Raises ``LandError("no_file" | "truncated")`` naming the file."""
    path = folder / "parcels.geojson"
    if not path.exists():
        raise LandError("no_file", f"{path}: no such file; give the folder of a detect run")
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        records = tuple(feature["properties"] for feature in whole.pop("features"))
        facts = {key: whole[key] for key in ("profile", "model", "calibration", "synthetic")}
    except (ValueError, KeyError, TypeError) as why:
        raise LandError("truncated", f"{path}: not the parcels of a detect run ({why})") from why
    picture = folder / "quicklook.png"
    return Run(folder, facts, records, picture.read_bytes() if picture.exists() else None)


def read_accuracy(path: Path, run: Run) -> dict[str, Any]:
    """The JSON that ``evaluate --json`` wrote, of this very definition and model. Raises ``LandError``."""
    if not path.exists():
        raise LandError("no_file", f"{path}: no such file")
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = all(told[key] == run.facts[key] for key in ("profile", "model"))
        overall = [float(told["overall"][key]) for key in ("value", "low", "high")]
    except (ValueError, KeyError, TypeError) as why:
        raise LandError("bad_accuracy", f"{path.name}: not written by evaluate --json ({why})") from why
    if not same:
        raise LandError(
            "bad_accuracy", f"{path.name}: of profile {told['profile']}, model {told['model']}: another run"
        )
    return {**told, "overall": dict(zip(("value", "low", "high"), overall, strict=True))}


def write_report(run: Run, out: Path, accuracy: dict[str, Any] | None = None) -> list[Path]:
    """Write report.html, report.md and report.png into ``out``; returns their paths."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as why:
        raise LandError("no_place", f"{out}: cannot be made ({why.strerror})") from why
    title, lines, table = _told(run, accuracy)
    chart = _chart(run, out / "report.png")
    text = [f"# {title}", "", *(f"- {line}" for line in lines), "", "| class | parcels | mu |", "|---|---|---|"]
    text += [f"| {name} | {count} | {mu:.1f} |" for name, count, mu in table]
    markdown = out / "report.md"
    markdown.write_text("\n".join([*text, "", "![areas by crop year](report.png)", ""]), encoding="utf-8")
    page = out / "report.html"
    page.write_text(_page(title, lines, table, [run.quicklook, chart.read_bytes()]), encoding="utf-8")
    return [page, markdown, chart]


_Table = list[tuple[str, int, float]]


def _told(run: Run, accuracy: dict[str, Any] | None) -> tuple[str, list[str], _Table]:
    records, facts = run.records, run.facts
    title = "撂荒地线索 Clues of abandoned farmland"
    lines = [SYNTHETIC] if facts["synthetic"] else []
    lines += [
        f"accuracy 精度: {_accuracy_words(accuracy)}",
        f"definition 口径: {facts['profile']}; model {facts['model']}; calibration {facts['calibration']}",
        "a clue for a person to check, never a finding 线索供核查,不是结论",
    ]
    if records:
        years = records[0]["crop_years"]
        middle = [int(median(record["looks"][n] for record in records)) for n in range(len(years))]
        each = ", ".join(f"{year}: {count}" for year, count in zip(years, middle, strict=True))
        seen = Counter(record["observability"] for record in records)
        lines += [
            f"crop year judged 评判年度: {records[0]['crop_year']}",
            f"median clear looks per crop year 有效观测: {each}",
            "observability 可观测性: " + ", ".join(f"{name} {count}" for name, count in sorted(seen.items())),
        ]
    counts = Counter(record["class_name"] for record in records)
    table = [
        (name, count, sum(record["area_mu"] for record in records if record["class_name"] == name))
        for name, count in sorted(counts.items())
    ]
    return (f"{title} · 合成 SYNTHETIC" if facts["synthetic"] else title), lines, table


def _accuracy_words(accuracy: dict[str, Any] | None) -> str:
    if accuracy is None:
        return NOT_VALIDATED
    seen = accuracy["overall"]
    low, high = max(seen["low"], 0.0), min(seen["high"], 1.0)
    words = f"overall {seen['value']:.3f} (95 % {low:.3f}..{high:.3f}), {accuracy.get('samples', '?')} parcels judged"
    left = ", ".join(f"{name} {count}" for name, count in accuracy.get("not_sampled", {}).items())
    return f"{words}; not sampled 未抽样: {left}" if left else words


def _chart(run: Run, path: Path) -> Path:
    """Area called abandoned per crop year (P >= 0.5), in mu; what is undecided is drawn too, never left out."""
    years = run.records[0]["crop_years"] if run.records else []
    gone, unknown = [0.0] * len(years), [0.0] * len(years)
    for record in run.records:
        for n, chance in enumerate(record["p_abandoned"]):
            if chance is None:
                unknown[n] += record["area_mu"]
            elif chance >= 0.5:  # noqa: PLR2004 - more likely than not
                gone[n] += record["area_mu"]
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.bar([str(year) for year in years], gone, color="#c43e28", label="abandoned")
    axes.bar([str(year) for year in years], unknown, bottom=gone, color="#d8d8d8", label="undecided")
    axes.set_ylabel("mu")
    axes.set_xlabel("crop year")
    axes.legend()
    honest = "SYNTHETIC, not real land | " if run.facts["synthetic"] else ""
    axes.set_title(f"{honest}{run.facts['profile']} | counted on the map, not an area estimate", fontsize=9)
    figure.savefig(path, dpi=100)
    return path


def _page(title: str, lines: list[str], table: _Table, pictures: list[bytes | None]) -> str:
    listed = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    rows = "".join(f"<tr><td>{html.escape(name)}<td>{count}<td>{mu:.1f}" for name, count, mu in table)
    shown = "".join(
        f'<img alt="" src="data:image/png;base64,{base64.b64encode(one).decode()}">' for one in pictures if one
    )
    style = "body{font-family:sans-serif;max-width:60rem;margin:2rem auto}img{max-width:100%}td,th{padding:.2em .8em}"
    return (
        f'<!doctype html><html lang="zh"><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{style}</style><h1>{html.escape(title)}</h1><ul>{listed}</ul>"
        f"<table><tr><th>class<th>parcels<th>mu{rows}</table>{shown}</html>\n"
    )
