"""Actuators and controls as rows of a farm file -> checked objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from edge.control.interlock import Actuator, ControlError
from edge.control.loop import Control
from edge.rules import RuleError, parse_rule
from edge.rules.samples import Input
from edge.rules.table import duration_ms

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,35}")
_PERIOD = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
_TIMES = ("min_on", "min_off", "max_run", "rest", "daily_max")
_ACTUATOR = {"name", "zh", "en", "failsafe", "excludes", "need_fresh", *_TIMES}
_COMMON = {"id", "drive", "value", "force", "zh", "en", "source"}
_RULE = {"inputs", "define", "on", "off", "hold", "clear"}
_GAINS = {"setpoint": 0.0, "kp": 0.0, "ki": 0.0, "low": 0.0, "high": 1.0}
_PI = {"measure", *_GAINS}


def parse_actuators(rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, Input]) -> tuple[Actuator, ...]:
    """Check and build; a missing ``failsafe`` is refused. Raises ``ControlError``."""
    actuators = tuple(_actuator(row, inputs) for row in rows)
    names = {one.name for one in actuators}
    for one in actuators:
        if len(names) != len(actuators) or one.excludes - names:
            raise ControlError("bad_control", f"actuator {one.name}: named twice, or excludes one that is not there")
    return actuators


def _actuator(row: Mapping[str, Any], inputs: Mapping[str, Input]) -> Actuator:
    name = row.get("name")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ControlError("bad_control", f"actuator name {name!r} is not a short lower-case word")
    where = f"actuator {name}"
    _known(row, _ACTUATOR, where)
    if isinstance(row.get("failsafe"), bool) or not isinstance(row.get("failsafe"), int | float):
        raise ControlError("bad_control", f"{where}: failsafe is missing: what shall it do when a sensor is silent?")
    fresh = frozenset(row.get("need_fresh", ()))
    if strange := fresh - inputs.keys():
        raise ControlError("bad_control", f"{where}: need_fresh: no series {min(strange)!r}")
    return Actuator(
        name=name,
        zh=str(row.get("zh", name)),
        en=str(row.get("en", name)),
        failsafe=float(row["failsafe"]),
        excludes=frozenset(row.get("excludes", ())),
        need_fresh=fresh,
        **{f"{key}_ms": duration_ms(row.get(key, "0s")) for key in _TIMES},
    )


def parse_controls(
    rows: Sequence[Mapping[str, Any]], inputs: Mapping[str, Input], intervals_s: Mapping[str, float]
) -> tuple[Control, ...]:
    """Check and build; raises ``ControlError``: also for a rule that can never switch off."""
    controls = tuple(_control(row, inputs, intervals_s) for row in rows)
    if len({one.id for one in controls}) != len(controls):
        raise ControlError("bad_control", "a control id is used twice")
    return controls


def _control(row: Mapping[str, Any], inputs: Mapping[str, Input], intervals_s: Mapping[str, float]) -> Control:
    name, drive = str(row.get("id")), str(row.get("drive"))
    where = f"control {name}"
    value = row.get("value", 1.0)
    if not isinstance(value, int | float) or not 0 < value <= 1:
        raise ControlError("bad_control", f"{where}: value must be above 0 and at most 1")
    make = partial(Control, name, drive, float(value), bool(row.get("force", False)))
    if "on" in row:
        _known(row, _COMMON | _RULE, where)
        texts = {key: str(row.get(key, name)) for key in ("zh", "en", "source")}
        fields = {key: row[key] for key in _RULE if key in row}
        full = {**texts, "action_zh": drive, "action_en": drive, **fields, "id": name, "severity": "warning"}
        try:
            return make(rule=parse_rule(full, intervals_s))
        except RuleError as why:
            raise ControlError("bad_control", f"{where}: {why}") from None
    if "periods" in row:
        _known(row, _COMMON | {"periods"}, where)
        return make(periods=tuple(_period(text, where) for text in row["periods"]))
    _known(row, _COMMON | _PI, where)
    if row.get("measure") not in inputs:
        raise ControlError("bad_control", f"{where}: needs on, periods, or a measure that is a series")
    setpoint, kp, ki, low, high = (float(row.get(key, default)) for key, default in _GAINS.items())
    if not 0 <= low <= high <= 1 or kp == 0:
        raise ControlError("bad_control", f"{where}: kp must not be 0 and 0 <= low <= high <= 1")
    return make(measure=inputs[row["measure"]], setpoint=setpoint, kp=kp, ki=ki, low=low, high=high)


def _period(text: Any, where: str) -> tuple[int, int]:
    found = _PERIOD.fullmatch(str(text))
    if found is None:
        raise ControlError("bad_control", f"{where}: {text!r} is not a period such as 05:00-21:00")
    start_h, start_m, stop_h, stop_m = map(int, found.groups())
    start, stop = (start_h * 60 + start_m) * 60_000, (stop_h * 60 + stop_m) * 60_000
    if stop - start >= 24 * 3_600_000:
        raise ControlError("bad_control", f"{where}: {text!r} never switches off")
    return start, stop


def _known(row: Mapping[str, Any], keys: set[str], where: str) -> None:
    if strange := row.keys() - keys:
        raise ControlError("bad_control", f"{where}: unknown key {min(strange)!r}")
