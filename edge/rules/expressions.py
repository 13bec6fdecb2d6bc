"""Conditions as text -> a checked tree. Nothing here is ever handed to Python's own evaluator.

Grammar, loosest first: ``or``, ``and``, ``not``, comparison, ``+ -``, ``* /``, unary minus, then numbers,
durations (``15s 30min 24h 2d``), names and calls. Every node is either a number or a truth value, known before
anything runs; a duration stands only where a function wants one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge import EdgeError

_TOKEN = re.compile(
    r"\s*(?:(?P<duration>\d+(?:\.\d+)?(?:min|s|h|d)\b)|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[a-z][a-z0-9_]*)|(?P<sign><=|>=|==|!=|[-+*/()<>,]))"
)
_UNIT_MS = {"s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_MAX_NODES = 200
_MAX_DEPTH = 40
_WORDS = frozenset({"and", "or", "not"})

Bounds = tuple[float, float]


class RuleError(EdgeError):
    """A rule or expression is wrong; the message quotes it (``bad_expression``, ``bad_rule``)."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A node. ``op`` is ``number``, ``duration``, ``input``, an operator, or the name of a function.

    ``truth`` tells whether the value is true/false (else a number); ``text`` is its own source.
    """

    op: str
    args: tuple[Expression, ...] = ()
    value: float = 0.0
    name: str = ""
    truth: bool = False
    text: str = ""

    def walk(self) -> list[Expression]:
        """This node and all below it."""
        return [self, *(below for arg in self.args for below in arg.walk())]

    def inputs(self) -> frozenset[str]:
        """Names of the inputs it reads."""
        return frozenset(node.name for node in self.walk() if node.op == "input")


# Function -> kinds of its arguments (x input, n number, c condition, t duration), and what it gives.
_FUNCTIONS = {
    "mean": "xt",
    "min": "xt",
    "max": "xt",
    "rise": "xt",
    "ago": "xt",
    "missing": "x",
    "hours": "ct",
    "count": "ct",
    "between": "tt",
    "month": "",
    "hour": "",
    "age": "",
    "abs": "n",
    "exp": "n",
    "ln": "n",
    "pow10": "n",
    "least": "nn",
    "greatest": "nn",
}
_TRUTHS = frozenset({"between"})


def parse_expression(text: str, names: frozenset[str], define: Mapping[str, Expression] | None = None) -> Expression:
    """Parse ``text``; ``names`` are the inputs it may use, ``define`` named expressions. Raises ``RuleError``."""
    return _Parser(text, names, define or {}).whole()


class _Parser:
    def __init__(self, text: str, names: frozenset[str], define: Mapping[str, Expression]) -> None:
        self._text, self._names, self._define = text, names, define
        self._tokens = self._split()
        self._at = 0
        self._depth = 0

    def _split(self) -> list[tuple[str, str, int]]:
        tokens, at = [], 0
        while self._text[at:].strip():
            found = _TOKEN.match(self._text, at)
            if found is None:
                raise self._error(at, "cannot be read")
            kind = str(found.lastgroup)
            tokens.append((kind, found.group(kind), found.start(kind)))
            at = found.end()
        if len(tokens) > 2 * _MAX_NODES:
            raise self._error(0, "is too long")
        return [*tokens, ("end", "", len(self._text))]

    def _error(self, at: int, what: str) -> RuleError:
        return RuleError("bad_expression", f"{self._text!r}: at {self._text[at : at + 12]!r}: {what}")

    def whole(self) -> Expression:
        node = self._or()
        kind, _, at = self._tokens[self._at]
        if kind != "end":
            raise self._error(at, "not expected here")
        if len(node.walk()) > _MAX_NODES:
            raise self._error(0, "is too long")
        return node

    def _peek(self, *texts: str) -> bool:
        kind, text, _ = self._tokens[self._at]
        return text in texts and kind in {"sign", "name"}

    def _next(self) -> tuple[str, str, int]:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _expect(self, text: str) -> None:
        kind, found, at = self._next()
        if found != text or kind == "end":
            raise self._error(at, f"{text!r} expected")

    def _node(self, op: str, start: int, *args: Expression, truth: bool = False) -> Expression:
        return Expression(op, args, truth=truth, text=self._text[start : self._tokens[self._at][2]].strip())

    def _chain(self, below: Callable[[], Expression], *words: str, truth: bool) -> Expression:
        start = self._tokens[self._at][2]
        node = below()
        while self._peek(*words):
            word = self._next()[1]
            left, right = node, below()
            self._must(left, truth=truth)
            self._must(right, truth=truth)
            node = self._node(word, start, left, right, truth=truth)
        return node

    def _must(self, node: Expression, *, truth: bool) -> None:
        if node.truth != truth or node.op == "duration":
            wanted = "a condition" if truth else "a number"
            raise RuleError("bad_expression", f"{self._text!r}: {node.text!r} is not {wanted}")

    def _or(self) -> Expression:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(0, "is nested too deep")
        node = self._chain(self._and, "or", truth=True)
        self._depth -= 1
        return node

    def _and(self) -> Expression:
        return self._chain(self._not, "and", truth=True)

    def _not(self) -> Expression:
        start, turns = self._tokens[self._at][2], 0
        while self._peek("not"):
            self._next()
            turns += 1
        node = self._comparison()
        if not turns:
            return node
        self._must(node, truth=True)
        for _ in range(turns % 2 or 2):
            node = self._node("not", start, node, truth=True)
        return node

    def _comparison(self) -> Expression:
        start = self._tokens[self._at][2]
        left = self._sum()
        if not self._peek("<", "<=", ">", ">=", "==", "!="):
            return left
        sign = self._next()[1]
        right = self._sum()
        self._must(left, truth=False)
        self._must(right, truth=False)
        return self._node(sign, start, left, right, truth=True)

    def _sum(self) -> Expression:
        return self._chain(self._product, "+", "-", truth=False)

    def _product(self) -> Expression:
        return self._chain(self._signed, "*", "/", truth=False)

    def _signed(self) -> Expression:
        start, turns = self._tokens[self._at][2], 0
        while self._peek("-"):
            self._next()
            turns += 1
        node = self._primary()
        if turns:
            self._must(node, truth=False)
        return self._node("negate", start, node) if turns % 2 else node

    def _primary(self) -> Expression:
        kind, text, at = self._next()
        if kind == "number":
            return Expression("number", value=float(text), text=text)
        if kind == "duration":
            amount = re.match(r"[\d.]+", text)
            number = amount.group() if amount else "0"
            return Expression("duration", value=float(number) * _UNIT_MS[text[len(number) :]], text=text)
        if text == "(" and kind == "sign":
            node = self._or()
            self._expect(")")
            return node
        if kind == "name" and text not in _WORDS:
            return self._call(text, at) if self._peek("(") else self._named(text, at)
        raise self._error(at, "a value is expected here")

    def _named(self, text: str, at: int) -> Expression:
        if text in self._define:
            return self._define[text]
        if text not in self._names:
            known = ", ".join(sorted([*self._names, *self._define])) or "none"
            raise self._error(at, f"no input of that name (there are: {known})")
        return Expression("input", name=text, text=text)

    def _call(self, name: str, start: int) -> Expression:
        if name not in _FUNCTIONS:
            raise self._error(start, f"no such function (there are: {', '.join(_FUNCTIONS)})")
        self._expect("(")
        args: list[Expression] = []
        while not self._peek(")"):
            if args:
                self._expect(",")
            args.append(self._or())
        self._expect(")")
        kinds = _FUNCTIONS[name]
        if len(args) != len(kinds):
            raise self._error(start, f"{name} takes {len(kinds)} values, not {len(args)}")
        for arg, kind in zip(args, kinds, strict=True):
            if kind != _kind_of(arg) and not (kind == "n" and _kind_of(arg) == "x"):
                raise self._error(start, f"{name}: {arg.text!r} does not fit")
        return self._node(name, start, *args, truth=name in _TRUTHS)


def _kind_of(node: Expression) -> str:
    if node.op == "duration":
        return "t"
    if node.truth:
        return "c"
    # A window wants something that changes by samples; a derived quantity of inputs is as good as an input.
    return "x" if node.inputs() and not _has_window(node) else "n"


def _has_window(node: Expression) -> bool:
    return any("t" in _FUNCTIONS.get(below.op, "") or below.op == "missing" for below in node.walk())


def depth_ms(node: Expression) -> int:
    """How far back in time the value of a node can reach, beside the age of a sample."""
    below = max((depth_ms(arg) for arg in node.args), default=0)
    own = int(node.args[1].value) if _FUNCTIONS.get(node.op, "") in {"xt", "ct"} else 0
    return below + own


# --- what can be true at all: interval arithmetic over the physical ranges ---------------------------------------


def outcomes(node: Expression, ranges: Mapping[str, Bounds]) -> frozenset[bool]:
    """Which truth values a condition can take while its inputs stay within their physical ranges.

    An overestimate: a value in the result may still be impossible, one that is absent certainly is.
    """
    if node.op in {"and", "or"}:
        left, right = (outcomes(arg, ranges) for arg in node.args)
        strong = node.op == "or"  # one side that takes this value decides
        found = {strong} if strong in left | right else set()
        return frozenset(found | ({not strong} if (not strong) in left & right else set()))
    if node.op == "not":
        return frozenset(not one for one in outcomes(node.args[0], ranges))
    if node.op == "between":
        return frozenset({True, False})
    low, high = _span("-", _bounds(node.args[0], ranges), _bounds(node.args[1], ranges))
    return frozenset(_COMPARISONS[node.op](low, high))


_COMPARISONS: dict[str, Callable[[float, float], set[bool]]] = {
    "<": lambda low, high: {low < 0, high < 0},
    "<=": lambda low, high: {low <= 0, high <= 0},
    ">": lambda low, high: {low > 0, high > 0},
    ">=": lambda low, high: {low >= 0, high >= 0},
    "==": lambda low, high: {low == 0 == high, low <= 0 <= high},
    "!=": lambda low, high: {not (low == 0 == high), not (low <= 0 <= high)},
}


_ANYTHING: Bounds = (-math.inf, math.inf)
_FIXED: dict[str, Bounds] = {
    "missing": (0.0, math.inf),
    "month": (1.0, 12.0),
    "hour": (0.0, 24.0),
    "age": (-math.inf, math.inf),
}


def _bounds(node: Expression, ranges: Mapping[str, Bounds]) -> Bounds:
    if node.op in {"number", "duration"}:
        return node.value, node.value
    if node.op == "input":
        return ranges.get(node.name, _ANYTHING)
    if node.op == "count":
        return 0.0, math.inf
    if node.op == "hours":
        return 0.0, node.args[1].value / _UNIT_MS["h"]
    if node.op in _FIXED:
        return _FIXED[node.op]
    return _bounds_of(node.op, [_bounds(arg, ranges) for arg in node.args])


def _bounds_of(op: str, spans: list[Bounds]) -> Bounds:
    if op in {"mean", "min", "max", "ago"}:
        return spans[0]
    if op == "rise":
        return spans[0][0] - spans[0][1], spans[0][1] - spans[0][0]
    if op == "negate":
        return -spans[0][1], -spans[0][0]
    return _span(op, *spans) if op in {"+", "-", "*", "/"} else _ANYTHING


def _span(op: str, a: Bounds, b: Bounds) -> Bounds:
    if op == "+":
        return a[0] + b[0], a[1] + b[1]
    if op == "-":
        return a[0] - b[1], a[1] - b[0]
    if op == "/" and b[0] <= 0 <= b[1]:
        return _ANYTHING
    corners = [_corner(op, x, y) for x in a for y in b]
    return _ANYTHING if any(map(math.isnan, corners)) else (min(corners), max(corners))


def _corner(op: str, x: float, y: float) -> float:
    return x * y if op == "*" else x / y
