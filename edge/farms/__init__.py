"""What each kind of farm measures and when it must worry: data files that gateway and cloud both read.

A farm type is one TOML file beside this module: its series (with the curve the simulator draws), its default
alarm rules with their texts and sources, its actuators and control rules. Adding a farm type is adding a file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from edge import EdgeError
from edge.control.interlock import Actuator, ControlError
from edge.control.loop import Control
from edge.control.table import parse_actuators, parse_controls
from edge.quantities import Quantity, quantity_of
from edge.rules import Input, Rule, RuleError, parse_rule

_FORMAT = "tianmai-farm@1"
_TEXTS = ("zh", "en", "action_zh", "action_en", "source")


class FarmError(EdgeError):
    """A farm file is missing or wrong: ``unknown_farm`` or ``bad_farm``."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How a simulated series behaves; all amounts in the unit of its quantity.

    ``day`` is the amplitude of the daily wave with its top at local hour ``peak`` (negative: its bottom),
    ``wander`` the size of slow random swings, ``noise`` that of each measurement, ``step`` the resolution;
    ``rise_per_h`` makes a counter; between the hours ``lit`` the level is ``lit_value`` instead of ``base``;
    ``responds`` says by how much an actuator at full output moves it, and with which time constant (s).
    """

    base: float
    day: float
    peak: float
    wander: float
    noise: float
    step: float
    rise_per_h: float = 0.0
    lit: tuple[float, float] | None = None
    lit_value: float = 0.0
    responds: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Series:
    """One thing measured: ``name`` is ``sensor/quantity``, read every ``interval_s`` seconds."""

    name: str
    zh: str
    en: str
    interval_s: int
    quantity: Quantity
    simulate: Curve

    @property
    def unit(self) -> str:
        """Of the quantity."""
        return self.quantity.unit


@dataclass(frozen=True, slots=True)
class Farm:
    """A farm type: ``series`` by name and ``rules`` by id, in the order of the file.

    Beside the rules of the file there are ``silent-...`` ones, two for each series, made from its ``[no_data]``.
    """

    name: str
    zh: str
    en: str
    series: Mapping[str, Series]
    rules: Mapping[str, Rule]
    actuators: tuple[Actuator, ...] = ()
    controls: tuple[Control, ...] = ()

    def begun(self, at_ms: int) -> Farm:
        """The same farm with a batch or crop that began then: rules that ask for ``age()`` begin to speak."""
        rules = {name: replace(rule, begun_ms=at_ms) for name, rule in self.rules.items()}
        return replace(self, rules=MappingProxyType(rules))

    @property
    def inputs(self) -> dict[str, Input]:
        """Each series as an input of rules and controls."""
        return _inputs(self.series.values())


def _inputs(series: Iterable[Series]) -> dict[str, Input]:
    return {one.name: Input(one.name, one.unit, one.interval_s * 1000) for one in series}


def farm_names() -> tuple[str, ...]:
    """The farm types there are, in alphabetical order."""
    return tuple(sorted(path.name[:-5] for path in files(__name__).iterdir() if path.name.endswith(".toml")))


@cache
def load_farm(name: str) -> Farm:
    """The farm type ``name``; raises ``FarmError`` with the file and the row that is wrong."""
    if name not in farm_names():
        raise FarmError("unknown_farm", f"no farm type {name!r}; there are: {', '.join(farm_names())}")
    return parse_farm(files(__name__).joinpath(f"{name}.toml").read_text("utf-8"), where=f"{name}.toml")


def parse_farm(text: str, *, where: str) -> Farm:
    """Read the text of a farm file; ``where`` names it in errors."""
    try:
        document = tomllib.loads(text)
        if document["format"] != _FORMAT:
            raise FarmError("bad_farm", f"{where}: format {document['format']!r} is not {_FORMAT}")
        series = [_series(row, where) for row in document["series"]]
        names = (str(document["name"]), str(document["zh"]), str(document["en"]))
        rules = _rules(document, series)
        actuators = parse_actuators(document.get("actuator", []), _inputs(series))
        intervals = {one.name: one.interval_s for one in series}
        controls = parse_controls(document.get("control", []), _inputs(series), intervals)
        if lost := {one.drive for one in controls} - {one.name for one in actuators}:
            raise FarmError("bad_farm", f"{where}: a control drives {min(lost)!r}, which is no actuator")
    except (RuleError, ControlError) as why:
        raise FarmError("bad_farm", f"{where}: {why}") from None
    except tomllib.TOMLDecodeError as why:
        raise FarmError("bad_farm", f"{where}: not TOML: {why}") from None
    except KeyError as why:
        raise FarmError("bad_farm", f"{where}: {why} is missing") from None
    by_name = {one.name: one for one in series}
    if len(by_name) != len(series):
        raise FarmError("bad_farm", f"{where}: a series is named twice")
    return Farm(
        *names, series=MappingProxyType(by_name), rules=MappingProxyType(rules), actuators=actuators, controls=controls
    )


def _rules(document: Mapping[str, Any], series: list[Series]) -> dict[str, Rule]:
    intervals = {one.name: one.interval_s for one in series}
    rows = [*document.get("rule", []), *_silence_rows(document, series)]
    rules = {rule.id: rule for rule in (parse_rule(row, intervals) for row in rows)}
    if len(rules) != len(rows):
        raise RuleError("bad_rule", "a rule id is used twice")
    return rules


def _silence_rows(document: Mapping[str, Any], series: list[Series]) -> list[dict[str, Any]]:
    common = document.get("no_data")
    if common is None:
        return []
    rows = []
    for one in series:
        texts = {key: str(common[key]).format(zh=one.zh, en=one.en) for key in _TEXTS}
        inputs = {"x": one.name}
        word = one.name.replace("/", "-").replace("_", "-").replace(".", "-")
        for severity, tail in (("warning", ""), ("critical", "-long")):
            limit = float(common[f"{severity}_intervals"])
            row = {"id": f"silent-{word}{tail}", "severity": severity, "on": f"missing(x) >= {limit:g}"}
            rows.append({**row, "inputs": inputs, **texts})
    return rows


def _series(row: Mapping[str, Any], where: str) -> Series:
    name = str(row["name"])
    quantity = quantity_of(name)
    if quantity is None:
        raise FarmError("bad_farm", f"{where}: {name}: no such quantity in edge/quantities.py")
    try:
        curve = dict(row["simulate"])
        lit = curve.pop("lit", None)
        responds = {name: (float(gain), float(settle)) for name, (gain, settle) in curve.pop("responds", {}).items()}
        simulate = Curve(**curve, responds=responds, lit=None if lit is None else (float(lit[0]), float(lit[1])))
    except (TypeError, ValueError, AttributeError) as why:
        raise FarmError("bad_farm", f"{where}: {name}: simulate: {why}") from None
    if int(row["interval_s"]) < 1:
        raise FarmError("bad_farm", f"{where}: {name}: interval_s must be at least 1")
    return Series(name, str(row["zh"]), str(row["en"]), int(row["interval_s"]), quantity, simulate)
