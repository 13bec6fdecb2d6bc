"""A rule as a row of a TOML file (or a form in the cloud) -> a checked :class:`Rule`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edge.quantities import quantity_of
from edge.rules.expressions import Expression, RuleError, parse_expression
from edge.rules.machine import CHINA_MS, Rule
from edge.rules.samples import Input

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
_ALIAS = re.compile(r"[a-z][a-z0-9_]{0,23}")
_SEVERITIES = ("warning", "critical")
_TEXTS = ("zh", "en", "action_zh", "action_en", "source")
_KEYS = {"id", "severity", "inputs", "define", "on", "off", "hold", "clear", *_TEXTS}


def parse_rule(row: Mapping[str, Any], intervals_s: Mapping[str, float], *, offset_ms: int = CHINA_MS) -> Rule:
    """Check and build a rule.

    Keys: ``id``, ``severity``, ``inputs`` (short name -> series), ``define`` (name -> expression, in order), ``on``,
    ``off``, ``hold`` and ``clear`` (durations such as ``"10min"``), and the texts. ``intervals_s`` tells how often
    each series is due; every input must be in it. Raises ``RuleError`` naming rule and key.
    """
    name = row.get("id")
    if not isinstance(name, str) or _ID.fullmatch(name) is None:
        raise RuleError("bad_rule", f"rule id {name!r} is not a short lower-case word")
    try:
        return _build(name, row, intervals_s, offset_ms)
    except RuleError as why:
        prefix = "" if f"rule {name}" in why.detail else f"rule {name}: "
        raise RuleError(why.code, f"{prefix}{why}") from None


def _build(name: str, row: Mapping[str, Any], intervals_s: Mapping[str, float], offset_ms: int) -> Rule:
    if unknown := row.keys() - _KEYS:
        raise RuleError("bad_rule", f"unknown key {min(unknown)!r}")
    if row.get("severity") not in _SEVERITIES:
        raise RuleError("bad_rule", f"severity must be one of {', '.join(_SEVERITIES)}")
    inputs = {alias: _input(alias, series, intervals_s) for alias, series in _texts(row, "inputs").items()}
    define: dict[str, Expression] = {}
    for alias, text in _texts(row, "define").items():
        define[alias] = parse_expression(text, frozenset(inputs), define)
    off = row.get("off")
    return Rule(
        id=name,
        severity=row["severity"],
        inputs=inputs,
        on=parse_expression(_text(row, "on"), frozenset(inputs), define),
        off=None if off is None else parse_expression(_text(row, "off"), frozenset(inputs), define),
        hold_ms=duration_ms(row.get("hold", "0s")),
        clear_ms=duration_ms(row.get("clear", "0s")),
        texts={key: _text(row, key) for key in _TEXTS},
        ranges={alias: _range(one.series) for alias, one in inputs.items()},
        offset_ms=offset_ms,
    )


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RuleError("bad_rule", f"{key} must be a text")
    return value


def _texts(row: Mapping[str, Any], key: str) -> Mapping[str, str]:
    table = row.get(key, {})
    good = isinstance(table, Mapping) and all(
        isinstance(alias, str) and _ALIAS.fullmatch(alias) and isinstance(text, str) for alias, text in table.items()
    )
    if not good:
        raise RuleError("bad_rule", f"{key} must be a table of short names and texts")
    found: Mapping[str, str] = table
    return found


def _input(alias: str, series: str, intervals_s: Mapping[str, float]) -> Input:
    quantity = quantity_of(series)
    if series not in intervals_s or quantity is None:
        raise RuleError("bad_rule", f"input {alias}: no series {series!r}")
    return Input(series, quantity.unit, round(intervals_s[series] * 1000))


def _range(series: str) -> tuple[float, float]:
    quantity = quantity_of(series)
    return (quantity.low, quantity.high) if quantity else (float("-inf"), float("inf"))


def duration_ms(text: Any) -> int:
    """``"90s"``, ``"10min"``, ``"2h"``, ``"1d"`` -> milliseconds; raises ``RuleError``."""
    if isinstance(text, str):
        node = parse_expression(text, frozenset())
        if node.op == "duration":
            return round(node.value)
    raise RuleError("bad_rule", f"{text!r} is not a duration such as '10min'")
