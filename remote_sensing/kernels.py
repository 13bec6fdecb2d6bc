"""The inner loops, all in this one file: time-major arrays, pixels innermost so that SIMD works over pixels.

Why one file: numba's cache does not notice a change in a kernel imported from elsewhere. Why this
``fastmath``: with ``nnan`` the compiler deletes the tests for missing values, and everything becomes NaN.
Branches are written as selects. Each kernel has a plain numpy oracle in ``tests/remote_sensing``.

Pixels go in blocks of ``LANES``; what a block carries lies in flat scratch arrays of rows ``ROW`` apart. ``ROW`` is
not a power of two: rows a multiple of 4096 bytes apart would stall every load behind a store (measured: 3 x).
"""

# ruff: noqa: C901, PLR0912, PLR0915 - a loop nest is one kernel; cutting it costs the SIMD or the cache

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

FAST = {"reassoc", "contract", "arcp", "nsz"}

TERMS = 7
"""Harmonic terms a year: constant, and cosine and sine of 1, 2 and 3 cycles a year."""
BINS = 16
"""Bins of the mergeable histogram, over -0.2..1.0."""
LOWEST, BIN = -0.2, 0.075
"""Lower end of the histogram and width of its bins, in the unit of the layers."""
WINDOWS = 12
"""Windows of a year with their own mean: about a month each."""
PER_LAYER = 25
"""Numbers per layer and year: ``TERMS`` coefficients, rmse, low, middle, high, rise, fall, and the windows."""
SHARED = 4
"""Numbers per year beside the layers: clear looks, crop cycles, soil-exposed looks, flooded looks."""
LANES = 256
"""Pixels of a block: wide enough for memory to be read in long runs, narrow enough for the sums to stay near."""
ROW = LANES + 16
MOMENTS = 13
"""Sums that the whole Gram matrix of a year is made of: looks, and cosine and sine of 1..6 cycles over them."""
NOTHING = -32768
"""The integer that means "no value", as in ``cubes.MISSING``."""

F32 = NDArray[np.float32]
Into = tuple[F32, int, int]
"""Where the evidence of a block goes: an array (rows, Y, N), place of the year, first pixel."""
Made = tuple[NDArray[np.int64], F32]
"""How layers are made of bands: (L, 2) which bands, and (L, 2) step and shift.

One band, the second -1, times the step plus the shift; or the normalised difference of two.
"""
_NAN, _ZERO, _HALF, _ONE = np.float32(np.nan), np.float32(0), np.float32(0.5), np.float32(1)
_TINY, _MOST = np.float32(1e-9), np.float32(np.inf)


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", inline="always")
def _difference(first: int, second: int) -> np.float32:
    """(a - b) / (a + b) of two packed numbers, -1..1; NaN where one is missing or a + b <= 0."""
    a, b = np.float32(first), np.float32(second)
    total = a + b
    known = (first != NOTHING) & (second != NOTHING) & (total > np.float32(0))
    value = (a - b) / (total if known else np.float32(1))
    value = min(max(value, np.float32(-1)), np.float32(1))
    return value if known else np.float32(np.nan)


@njit(cache=True, fastmath=FAST, nogil=True)
def normalized_difference(first: NDArray[np.int16], second: NDArray[np.int16], out: F32) -> None:
    """(a - b) / (a + b) of packed bands (T, N) into float32 ``out`` (T, N), -1..1; NaN where missing or a + b <= 0."""
    for t in range(first.shape[0]):
        one, other, to = first[t], second[t], out[t]
        for n in range(one.shape[0]):
            to[n] = _difference(one[n], other[n])


@njit(cache=True, fastmath=FAST, nogil=True)
def scaled(band: NDArray[np.int16], step: float, out: F32) -> None:
    """A packed band (T, N) times ``step`` into float32 ``out`` (T, N); NaN where missing."""
    by = np.float32(step)
    for t in range(band.shape[0]):
        row, to = band[t], out[t]
        for n in range(row.shape[0]):
            to[n] = np.float32(row[n]) * by if row[n] != NOTHING else _NAN


@njit(cache=True, fastmath=FAST, nogil=True)
def keep_clear(layers: F32, clear: NDArray[np.bool_]) -> None:
    """Set NaN, in place, where a look (T, N) is not clear or any of the layers (L, T, N) has nothing there."""
    known = np.empty(clear.shape[1], np.bool_)
    for t in range(clear.shape[0]):
        seen = clear[t]
        for n in range(known.shape[0]):
            known[n] = seen[n]
        for layer in range(layers.shape[0]):
            row = layers[layer, t]
            for n in range(known.shape[0]):
                known[n] = known[n] & (row[n] == row[n])
        for layer in range(layers.shape[0]):
            row = layers[layer, t]
            for n in range(known.shape[0]):
                row[n] = row[n] if known[n] else _NAN


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def less_median(values: F32, fewest: int, out: NDArray[np.int16]) -> None:
    """Values (N,), NaN = missing, less the median of them all, packed in steps of 1e-4 into ``out`` (N,).

    The median is that of the packed values, counted, not sorted: within half a step of the exact one. All is missing
    where fewer than ``fewest`` values are there, and so is what does not fit.
    """
    counts = np.zeros(1 << 16, np.int32)
    packed, many, nothing = np.empty(values.shape[0], np.int32), np.float32(10000), np.float32(NOTHING)
    least, most = np.float32(-32767), np.float32(32767)
    for n in range(values.shape[0]):
        step = min(max(np.rint(values[n] * many), least), most)
        packed[n] = np.int32(step if values[n] == values[n] else nothing)
    for n in range(values.shape[0]):
        counts[packed[n] - NOTHING] += 1
    seen = values.shape[0] - counts[0]
    below, lower, upper = 0, 0, 0
    for place in range(1, counts.shape[0]):
        upto = below + counts[place]
        lower = place if below <= (seen - 1) // 2 < upto else lower
        if below <= seen // 2 < upto:
            upper = place
            break
        below = upto
    middle = _HALF * np.float32(lower + upper + 2 * NOTHING)
    for n in range(values.shape[0]):
        step = np.rint(values[n] * many - middle)
        fits = (seen >= fewest) & (step >= least) & (step <= most)
        out[n] = np.int16(step if fits else nothing)


_lowered: Any = intrinsic  # typed as what it is called with inside numba, not as what kernels call
_building: Any = cgutils


class _Vectors:
    """What numba cannot say: numbers side by side in registers, whatever loop they go through.

    LLVM makes vectors of innermost loops only, and of none that stores where it may be about to load. Its own types
    of more lanes than the machine has are cut into what there is.
    """

    word, pair, real = ir.IntType(32), ir.IntType(64), ir.FloatType()

    def __init__(self, lanes: int, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.lanes, self.builder = lanes, builder
        kinds = (self.word, self.pair, self.real, ir.IntType(1))
        self.words, self.pairs, self.reals, self.bits = (ir.VectorType(kind, lanes) for kind in kinds)
        self.arrays: list[Any] = [
            context.make_array(kind)(context, builder, given) if isinstance(kind, types.Array) else None
            for kind, given in zip(signature.args, args, strict=True)
        ]
        self.data = [array and array.data for array in self.arrays]

    def size(self, array: int, axis: int) -> Any:
        """Length of an array's axis."""
        return self.builder.extract_value(self.arrays[array].shape, axis)

    def same(self, value: Any, kind: Any) -> Any:
        """One number in every lane."""
        if not isinstance(value, ir.Value):
            return ir.Constant(kind, [value] * self.lanes)
        none = ir.Constant(kind, ir.Undefined)
        held = self.builder.insert_element(none, value, self.word(0))
        return self.builder.shuffle_vector(held, none, ir.Constant(self.words, [0] * self.lanes))

    def at(self, base: Any, place: Any, kind: Any) -> Any:
        """Where the numbers from ``base[place]`` on lie, one a lane."""
        begins = self.builder.gep(base, [place], source_etype=kind.element)
        return self.builder.bitcast(begins, kind.as_pointer())

    def row(self, base: Any, number: Any, kind: Any) -> Any:
        """Where row ``number`` of rows as long as there are lanes lies."""
        return self.at(base, self.builder.mul(number, self.pair(self.lanes)), kind)

    def add_product(self, total: Any, one: Any, other: Any) -> Any:
        """``total`` + one x other, in one step where the machine can."""
        quick = ("contract", "nsz")
        return self.builder.fadd(total, self.builder.fmul(one, other, flags=quick), flags=quick)

    @contextmanager
    def dates(self, begin: Any, end: Any, held: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
        """A loop that carries ``held`` in registers: yields the date and the list of them, to be replaced by new ones.

        After it the list that was given holds what they have become.
        """
        builder, before = self.builder, self.builder.block
        test, turn, done = (builder.append_basic_block() for _ in range(3))
        builder.branch(test)
        builder.position_at_end(test)
        date, carried = builder.phi(self.pair), [builder.phi(one.type) for one in held]
        builder.cbranch(builder.icmp_signed("<", date, end), turn, done)
        builder.position_at_end(turn)
        now = list(carried)
        yield date, now
        date.add_incoming(begin, before)
        date.add_incoming(builder.add(date, self.pair(1)), builder.block)
        for one, first, after in zip(carried, held, now, strict=True):
            one.add_incoming(first, before)
            one.add_incoming(after, builder.block)
        builder.branch(test)
        builder.position_at_end(done)
        held[:] = carried

    def upper(self, node: Any) -> Any:
        """The number whose bits are the upper half of a node."""
        return self.builder.bitcast(self.builder.trunc(self.builder.lshr(node, self.pair(32)), self.word), self.real)

    def part(self, node: Any, shift: int, bits: int) -> Any:
        """Some bits of a node."""
        return self.builder.and_(self.builder.lshr(node, self.pair(shift)), self.pair((1 << bits) - 1))


GROUP = 16
"""Pixels whose sums stay in registers for a whole year: one vector of AVX-512."""


def _looks_of(v: _Vectors, date: Any, left: Any) -> tuple[Any, Any]:
    """The looks of a group on a date of a layer (T, N), the first array, and which there are."""
    place = v.builder.add(v.builder.mul(date, v.size(0, 1)), left)
    look = v.builder.load(v.at(v.data[0], place, v.reals), align=4)
    return look, v.builder.fcmp_ordered("ord", look, look)


def _fit_group(first: int) -> Any:
    """Sums of the fit from moment ``first`` on: 0 with the ``MOMENTS``, ``MOMENTS`` without, which layers share."""

    def lowered(_: Any, layer: Any, table: Any, span: Any, left: Any, acc: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            v = _Vectors(GROUP, context, builder, signature, args)
            begin, end = (builder.extract_value(args[2], n) for n in (0, 1))
            nothing = v.same(0.0, v.reals)
            held = [nothing] * (MOMENTS - first + TERMS + 1)
            with v.dates(begin, end, held) as (date, now):
                look, known = _looks_of(v, date, args[3])
                value = builder.select(known, look, nothing)
                row = builder.mul(date, v.size(1, 1))
                for k in range(max(MOMENTS - first, TERMS)):
                    term = v.same(builder.load(builder.gep(v.data[1], [builder.add(row, v.pair(k))])), v.reals)
                    if k < MOMENTS - first:
                        now[k] = builder.select(known, builder.fadd(now[k], term), now[k])
                    if k < TERMS:
                        now[MOMENTS - first + k] = v.add_product(now[MOMENTS - first + k], value, term)
                now[-1] = v.add_product(now[-1], value, value)
            for k, total in enumerate(held):
                builder.store(total, v.at(v.data[4], v.pair(k * ROW), v.reals), align=4)
            return context.get_dummy_value()

        return types.void(layer, table, span, left, acc), generate

    return _lowered(lowered)


_fit_first, _fit_other = _fit_group(0), _fit_group(MOMENTS)


@_lowered  # type: ignore[untyped-decorator]
def _spread_group(_: Any, layer: Any, span: Any, left: Any, spread: Any) -> Any:
    """A group's histogram, kept cumulative, and its last value, largest rise and largest fall over the dates ``span``.

    Adding a look is fifteen compares, not a scatter.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = _Vectors(GROUP, context, builder, signature, args)
        begin, end = (builder.extract_value(args[1], n) for n in (0, 1))
        nothing, one = v.same(0.0, v.reals), v.same(1.0, v.reals)
        held = [nothing] * (BINS - 1) + [v.same(float("nan"), v.reals), nothing, nothing]
        with v.dates(begin, end, held) as (date, now):
            look, known = _looks_of(v, date, args[2])
            for b in range(BINS - 1):
                edge = float(np.float32(LOWEST) + np.float32(BIN) * np.float32(b + 1))
                under = builder.fcmp_ordered("<", look, v.same(edge, v.reals))
                now[b] = builder.select(under, builder.fadd(now[b], one), now[b])
            last, rise, fall = now[-3:]
            step, back = builder.fsub(look, last), builder.fsub(last, look)
            now[-3] = builder.select(known, look, last)
            now[-2] = builder.select(builder.fcmp_ordered(">", step, rise), step, rise)
            now[-1] = builder.select(builder.fcmp_ordered(">", back, fall), back, fall)
        for k, total in enumerate(held):
            builder.store(total, v.at(v.data[3], v.pair(k * ROW), v.reals), align=4)
        return context.get_dummy_value()

    return types.void(layer, span, left, spread), generate


def _median_group(keep: int) -> Any:
    """A group's median over the dates ``span`` of a layer, which hold at most 2 ``keep`` - 1: NaN where there is none.

    The lower half of the looks stays in registers, ascending; a new one goes down the row of them.
    """

    def lowered(_: Any, layer: Any, span: Any, left: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            v = _Vectors(GROUP, context, builder, signature, args)
            begin, end = (builder.extract_value(args[1], n) for n in (0, 1))
            nothing, one, half = (v.same(number, v.reals) for number in (0.0, 1.0, 0.5))
            held = [v.same(float("inf"), v.reals)] * keep + [nothing]
            with v.dates(begin, end, held) as (date, now):
                look, known = _looks_of(v, date, args[2])
                moving = builder.select(known, look, v.same(float("inf"), v.reals))
                for k in range(keep):
                    less = builder.fcmp_ordered("<", moving, now[k])
                    now[k], moving = builder.select(less, moving, now[k]), builder.select(less, now[k], moving)
                now[-1] = builder.select(known, builder.fadd(now[-1], one), now[-1])
            looks = held[-1]
            middle = builder.select(builder.fcmp_ordered(">", looks, nothing), nothing, v.same(float("nan"), v.reals))
            for k in range(keep):
                # of c looks the two middle ones are those of rank (c - 1) // 2 and c // 2, often the same
                twice = builder.fcmp_ordered("==", looks, v.same(float(2 * k + 1), v.reals))
                for even in (2 * k, 2 * k + 2):
                    part = builder.fcmp_ordered("==", looks, v.same(float(even), v.reals))
                    share = builder.select(builder.or_(part, twice), builder.fmul(half, held[k]), nothing)
                    middle = builder.fadd(middle, share)
            builder.store(middle, v.at(v.data[3], v.pair(0), v.reals), align=4)
            return context.get_dummy_value()

        return types.void(layer, span, left, out), generate

    return _lowered(lowered)


KEPT = (4, 8, 16)
"""Looks kept of a window: the median of a month of a look a day, 31 of them, is the sixteenth."""
_median_few, _median_some, _median_most = (_median_group(keep) for keep in KEPT)


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _laid_near(layers: F32, at: tuple[int, int, int, int], near: F32) -> None:
    """A block's dates one after the other, read in long runs; a short block ends in NaN."""
    begin, end, left, stop = at
    for layer in range(layers.shape[0]):
        for t in range(begin, end):
            row, to = layers[layer, t, left:stop], near[layer, t]
            for n in range(stop - left):
                to[n] = row[n]
            for n in range(stop - left, LANES):
                to[n] = _NAN


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _laid_made(
    bands: NDArray[np.int16], made: Made, clear: NDArray[np.bool_], at: tuple[int, int, int, int], near: F32
) -> None:
    """A block's layers, made of ``bands``, one date after the other; NaN where unclear or missing in any of them.

    NaN spreads by being added, 0 changes nothing; a short block ends in NaN.
    """
    begin, end, left, stop = at
    of, step = made
    nothing = np.empty(LANES, np.float32)
    for t in range(begin, end):
        seen = clear[t, left:stop]
        for n in range(stop - left):
            nothing[n] = _ZERO if seen[n] else _NAN
        for n in range(stop - left, LANES):
            nothing[n] = _NAN
        for layer in range(of.shape[0]):
            first, to = bands[of[layer, 0], t, left:stop], near[layer, t]
            if of[layer, 1] < 0:
                by, more = step[layer, 0], step[layer, 1]
                for n in range(stop - left):
                    to[n] = np.float32(first[n]) * by + more if first[n] != NOTHING else _NAN
            else:
                second = bands[of[layer, 1], t, left:stop]
                for n in range(stop - left):
                    to[n] = _difference(first[n], second[n])
            for n in range(stop - left):
                nothing[n] += to[n] * _ZERO
        for layer in range(of.shape[0]):
            to = near[layer, t]
            for n in range(stop - left):
                to[n] += nothing[n]
            for n in range(stop - left, LANES):
                to[n] = _NAN


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _fit_block(layers: F32, table: F32, at: tuple[int, int, int, int], shift: int, acc: F32) -> None:
    """The sums of a year's fit of a block: ``MOMENTS`` rows of ``acc``, then ``TERMS`` and power a layer."""
    begin, end, left, stop = at
    for n in range(0, stop - left, GROUP):
        for layer in range(layers.shape[0]):
            here = layers[layer]
            if layer == 0:
                _fit_first(here, table, (begin, end), left - shift + n, acc[n:])
            else:
                first = (MOMENTS + layer * (TERMS + 1)) * ROW
                _fit_other(here, table, (begin, end), left - shift + n, acc[first + n :])


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _spread_block(layers: F32, at: tuple[int, int, int, int], shift: int, spread: F32) -> None:
    """Histogram, last value, rise and fall of a block's year, ``SPREAD`` rows a layer."""
    begin, end, left, stop = at
    for n in range(0, stop - left, GROUP):
        for layer in range(layers.shape[0]):
            _spread_group(layers[layer], (begin, end), left - shift + n, spread[layer * SPREAD * ROW + n :])


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _moments_of(design: F32) -> F32:
    """Harmonic design (T, TERMS) -> 1, cosine and sine of 1..6 cycles (T, MOMENTS), by the sums of angles."""
    out = np.empty((design.shape[0], MOMENTS), np.float32)
    for t in range(design.shape[0]):
        c2, s2, c3, s3 = design[t, 3], design[t, 4], design[t, 5], design[t, 6]
        for i in range(TERMS):
            out[t, i] = design[t, i]
        out[t, 7], out[t, 8] = c2 * c2 - s2 * s2, c2 * s2 + s2 * c2
        out[t, 9], out[t, 10] = c2 * c3 - s2 * s3, s2 * c3 + c2 * s3
        out[t, 11], out[t, 12] = c3 * c3 - s3 * s3, c3 * s3 + s3 * c3
    return out


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _factor(acc: F32, ridge: F32, low: F32) -> None:
    """L and 1/D of the ridge Gram matrix LDL' of every lane, from its ``MOMENTS`` sums; straight-line over lanes.

    cos a cos b = (cos(a-b) + cos(a+b)) / 2 and its sisters make 28 entries of 13 sums. ``low``: 7 rows 1/D, then the
    21 rows of L below its diagonal, row by row.
    """
    r0, r1, r2, r3, r4, r5, r6 = ridge[0], ridge[1], ridge[2], ridge[3], ridge[4], ridge[5], ridge[6]
    for n in range(LANES):
        m0 = acc[n]
        c1, s1 = acc[ROW + n], acc[2 * ROW + n]
        c2, s2 = acc[3 * ROW + n], acc[4 * ROW + n]
        c3, s3 = acc[5 * ROW + n], acc[6 * ROW + n]
        c4, s4 = acc[7 * ROW + n], acc[8 * ROW + n]
        c5, s5 = acc[9 * ROW + n], acc[10 * ROW + n]
        c6, s6 = acc[11 * ROW + n], acc[12 * ROW + n]
        g00 = m0 + r0
        g10, g20, g30, g40, g50, g60 = c1, s1, c2, s2, c3, s3
        g11 = _HALF * (m0 + c2) + r1
        g21 = _HALF * s2
        g31 = _HALF * (c1 + c3)
        g41 = _HALF * (s3 + s1)
        g51 = _HALF * (c2 + c4)
        g61 = _HALF * (s4 + s2)
        g22 = _HALF * (m0 - c2) + r2
        g32 = _HALF * (s3 - s1)
        g42 = _HALF * (c1 - c3)
        g52 = _HALF * (s4 - s2)
        g62 = _HALF * (c2 - c4)
        g33 = _HALF * (m0 + c4) + r3
        g43 = _HALF * s4
        g53 = _HALF * (c1 + c5)
        g63 = _HALF * (s5 + s1)
        g44 = _HALF * (m0 - c4) + r4
        g54 = _HALF * (s5 - s1)
        g64 = _HALF * (c1 - c5)
        g55 = _HALF * (m0 + c6) + r5
        g65 = _HALF * s6
        g66 = _HALF * (m0 - c6) + r6
        e0 = _ONE / max(g00, _TINY)
        l10 = g10 * e0
        l20 = g20 * e0
        l30 = g30 * e0
        l40 = g40 * e0
        l50 = g50 * e0
        l60 = g60 * e0
        e1 = _ONE / max(g11 - g10 * l10, _TINY)
        h21 = g21 - g20 * l10
        h31 = g31 - g30 * l10
        h41 = g41 - g40 * l10
        h51 = g51 - g50 * l10
        h61 = g61 - g60 * l10
        l21, l31, l41, l51, l61 = h21 * e1, h31 * e1, h41 * e1, h51 * e1, h61 * e1
        e2 = _ONE / max(g22 - g20 * l20 - h21 * l21, _TINY)
        h32 = g32 - g30 * l20 - h31 * l21
        h42 = g42 - g40 * l20 - h41 * l21
        h52 = g52 - g50 * l20 - h51 * l21
        h62 = g62 - g60 * l20 - h61 * l21
        l32, l42, l52, l62 = h32 * e2, h42 * e2, h52 * e2, h62 * e2
        e3 = _ONE / max(g33 - g30 * l30 - h31 * l31 - h32 * l32, _TINY)
        h43 = g43 - g40 * l30 - h41 * l31 - h42 * l32
        h53 = g53 - g50 * l30 - h51 * l31 - h52 * l32
        h63 = g63 - g60 * l30 - h61 * l31 - h62 * l32
        l43, l53, l63 = h43 * e3, h53 * e3, h63 * e3
        e4 = _ONE / max(g44 - g40 * l40 - h41 * l41 - h42 * l42 - h43 * l43, _TINY)
        h54 = g54 - g50 * l40 - h51 * l41 - h52 * l42 - h53 * l43
        h64 = g64 - g60 * l40 - h61 * l41 - h62 * l42 - h63 * l43
        l54, l64 = h54 * e4, h64 * e4
        e5 = _ONE / max(g55 - g50 * l50 - h51 * l51 - h52 * l52 - h53 * l53 - h54 * l54, _TINY)
        h65 = g65 - g60 * l50 - h61 * l51 - h62 * l52 - h63 * l53 - h64 * l54
        l65 = h65 * e5
        e6 = _ONE / max(g66 - g60 * l60 - h61 * l61 - h62 * l62 - h63 * l63 - h64 * l64 - h65 * l65, _TINY)
        low[n] = e0
        low[ROW + n] = e1
        low[2 * ROW + n] = e2
        low[3 * ROW + n] = e3
        low[4 * ROW + n] = e4
        low[5 * ROW + n] = e5
        low[6 * ROW + n] = e6
        low[7 * ROW + n] = l10
        low[8 * ROW + n] = l20
        low[9 * ROW + n] = l21
        low[10 * ROW + n] = l30
        low[11 * ROW + n] = l31
        low[12 * ROW + n] = l32
        low[13 * ROW + n] = l40
        low[14 * ROW + n] = l41
        low[15 * ROW + n] = l42
        low[16 * ROW + n] = l43
        low[17 * ROW + n] = l50
        low[18 * ROW + n] = l51
        low[19 * ROW + n] = l52
        low[20 * ROW + n] = l53
        low[21 * ROW + n] = l54
        low[22 * ROW + n] = l60
        low[23 * ROW + n] = l61
        low[24 * ROW + n] = l62
        low[25 * ROW + n] = l63
        low[26 * ROW + n] = l64
        low[27 * ROW + n] = l65


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _solve(low: F32, acc: F32, first: int, ridge: F32, beta: F32) -> None:
    """Terms and rmse (8 rows of ``beta``) of one layer, whose right side and power are rows ``first``.. of ``acc``.

    The rmse needs no second pass: |y - Xb|^2 = y'y - b'X'y - r b'b for the ridge answer.
    """
    at = first * ROW
    r0, r1, r2, r3, r4, r5, r6 = ridge[0], ridge[1], ridge[2], ridge[3], ridge[4], ridge[5], ridge[6]
    for n in range(LANES):
        y0, y1, y2, y3 = acc[at + n], acc[at + ROW + n], acc[at + 2 * ROW + n], acc[at + 3 * ROW + n]
        y4, y5, y6 = acc[at + 4 * ROW + n], acc[at + 5 * ROW + n], acc[at + 6 * ROW + n]
        l10 = low[7 * ROW + n]
        l20 = low[8 * ROW + n]
        l21 = low[9 * ROW + n]
        l30 = low[10 * ROW + n]
        l31 = low[11 * ROW + n]
        l32 = low[12 * ROW + n]
        l40 = low[13 * ROW + n]
        l41 = low[14 * ROW + n]
        l42 = low[15 * ROW + n]
        l43 = low[16 * ROW + n]
        l50 = low[17 * ROW + n]
        l51 = low[18 * ROW + n]
        l52 = low[19 * ROW + n]
        l53 = low[20 * ROW + n]
        l54 = low[21 * ROW + n]
        l60 = low[22 * ROW + n]
        l61 = low[23 * ROW + n]
        l62 = low[24 * ROW + n]
        l63 = low[25 * ROW + n]
        l64 = low[26 * ROW + n]
        l65 = low[27 * ROW + n]
        z1 = y1 - l10 * y0
        z2 = y2 - l20 * y0 - l21 * z1
        z3 = y3 - l30 * y0 - l31 * z1 - l32 * z2
        z4 = y4 - l40 * y0 - l41 * z1 - l42 * z2 - l43 * z3
        z5 = y5 - l50 * y0 - l51 * z1 - l52 * z2 - l53 * z3 - l54 * z4
        z6 = y6 - l60 * y0 - l61 * z1 - l62 * z2 - l63 * z3 - l64 * z4 - l65 * z5
        x6 = z6 * low[6 * ROW + n]
        x5 = z5 * low[5 * ROW + n] - l65 * x6
        x4 = z4 * low[4 * ROW + n] - l54 * x5 - l64 * x6
        x3 = z3 * low[3 * ROW + n] - l43 * x4 - l53 * x5 - l63 * x6
        x2 = z2 * low[2 * ROW + n] - l32 * x3 - l42 * x4 - l52 * x5 - l62 * x6
        x1 = z1 * low[ROW + n] - l21 * x2 - l31 * x3 - l41 * x4 - l51 * x5 - l61 * x6
        x0 = y0 * low[n] - l10 * x1 - l20 * x2 - l30 * x3 - l40 * x4 - l50 * x5 - l60 * x6
        rest = (
            acc[at + 7 * ROW + n]
            - x0 * (y0 + r0 * x0)
            - x1 * (y1 + r1 * x1)
            - x2 * (y2 + r2 * x2)
            - x3 * (y3 + r3 * x3)
            - x4 * (y4 + r4 * x4)
            - x5 * (y5 + r5 * x5)
            - x6 * (y6 + r6 * x6)
        )
        beta[n] = x0
        beta[ROW + n] = x1
        beta[2 * ROW + n] = x2
        beta[3 * ROW + n] = x3
        beta[4 * ROW + n] = x4
        beta[5 * ROW + n] = x5
        beta[6 * ROW + n] = x6
        beta[7 * ROW + n] = np.sqrt(max(rest, _ZERO) / max(acc[n], _ONE))


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _fit_year(acc: F32, ridge: F32, scratch: tuple[F32, F32], width: int, into: Into) -> None:
    """The sums of one year and block -> terms and rmse of every layer."""
    low, beta = scratch
    out, year, left = into
    layers = (out.shape[0] - SHARED) // PER_LAYER
    _factor(acc, ridge, low)
    for layer in range(layers):
        _solve(low, acc, MOMENTS + layer * (TERMS + 1), ridge, beta)
        for i in range(TERMS + 1):
            row, found = out[SHARED + layer * PER_LAYER + i, year, left : left + width], beta[i * ROW : (i + 1) * ROW]
            for n in range(width):
                row[n] = found[n]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def harmonic_fit(layers: F32, design: F32, borders: NDArray[np.int64], ridge: F32) -> F32:
    """Masked ridge fit alone: float32 (SHARED + L * PER_LAYER, Y, N), of which only terms and rmse are filled.

    For long periods instead of years give ``borders`` = (0, T). Inputs as for ``annual_evidence``.
    """
    years, pixels, count = borders.shape[0] - 1, layers.shape[2], layers.shape[0]
    out = np.zeros((SHARED + count * PER_LAYER, years, pixels), np.float32)
    table = _moments_of(design)
    acc = np.zeros((MOMENTS + count * (TERMS + 1)) * ROW, np.float32)
    near = np.empty((count, layers.shape[1], ROW), np.float32)
    scratch = (np.zeros(28 * ROW, np.float32), np.zeros((TERMS + 1) * ROW, np.float32))
    for left in range(0, pixels, LANES):
        stop = min(left + LANES, pixels)
        for year in range(years):
            at = (borders[year], borders[year + 1], left, stop)
            _laid_near(layers, at, near)
            _fit_block(near, table, at, left, acc)
            _fit_year(acc, ridge, scratch, stop - left, (out, year, left))
    return out


@njit(cache=True, fastmath=FAST, nogil=True)
def stream_pass(values: F32) -> F32:
    """Count, sum, least and largest (4, N) of (T, N), NaN = missing: the plainest pass, the yardstick of speed."""
    dates, pixels = values.shape
    out = np.zeros((4, pixels), np.float32)
    for n in range(pixels):
        out[2, n] = np.float32(1e30)
        out[3, n] = np.float32(-1e30)
    for t in range(dates):
        for n in range(pixels):
            value = values[t, n]
            known = value == value  # noqa: PLR0124 - NaN test
            out[0, n] += np.float32(1) if known else np.float32(0)
            out[1, n] += value if known else np.float32(0)
            out[2, n] = min(out[2, n], value)
            out[3, n] = max(out[3, n], value)
    return out


SPREAD = BINS + 5
"""Rows of scratch a layer: ``BINS`` - 1 of the histogram, last value, rise, fall, and three to find a quantile."""


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _spread_year(spread: F32, looks: F32, base: int, width: int, into: Into) -> None:
    """Low, middle, high (quantiles, linear inside their bin), rise and fall of one layer's year."""
    out, year, left = into
    found = spread[(BINS + 2) * ROW : (BINS + 5) * ROW]  # looks below the quantile's bin, up to its end, its number
    for place, share in enumerate((0.1, 0.5, 0.9)):
        part = np.float32(share)
        for n in range(LANES):
            found[n], found[ROW + n], found[2 * ROW + n] = _ZERO, looks[n], _ZERO
        for b in range(BINS - 1):
            below = spread[b * ROW : (b + 1) * ROW]
            for n in range(LANES):
                less = below[n] < part * looks[n]
                upto = below[n] if below[n] < found[ROW + n] else found[ROW + n]  # noqa: FURB136 - min() breaks the SIMD
                found[n] = below[n] if less else found[n]
                found[ROW + n] = found[ROW + n] if less else upto
                found[2 * ROW + n] += _ONE if less else _ZERO
        row = out[base + place, year, left : left + width]
        for n in range(width):
            inside = (part * looks[n] - found[n]) / max(found[ROW + n] - found[n], _TINY)
            level = np.float32(LOWEST) + np.float32(BIN) * (found[2 * ROW + n] + inside)
            row[n] = level if looks[n] > _ZERO else _NAN
    for place in range(2):
        row, most = (
            out[base + 3 + place, year, left : left + width],
            spread[(BINS + place) * ROW : (BINS + place + 1) * ROW],
        )
        for n in range(width):
            row[n] = most[n] if looks[n] > _ZERO else _NAN


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _median_any(layer: F32, span: tuple[int, int], width: int, out: F32) -> None:
    """Medians of more dates than ``_median_group`` keeps, pixel by pixel: several looks a day, which is rare."""
    seen = np.empty(span[1] - span[0], np.float32)
    for n in range(width):
        looks = 0
        for t in range(span[0], span[1]):
            if layer[t, n] == layer[t, n]:
                seen[looks] = layer[t, n]
                looks += 1
        out[n] = np.median(seen[:looks]) if looks else _NAN


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _window_block(near: F32, span: tuple[int, int], slot: int, width: int, middle: F32, into: Into) -> None:
    """Medians of a block's looks on the dates ``span``, one window's, of all layers; ``middle``: a row of scratch."""
    out, year, left = into
    dates = span[1] - span[0]
    for layer in range(near.shape[0]):
        here = near[layer]
        if dates >= 2 * KEPT[2]:
            _median_any(here, span, width, middle)
        else:
            for n in range(0, width, GROUP):
                if dates < 2 * KEPT[0]:
                    _median_few(here, span, n, middle[n:])
                elif dates < 2 * KEPT[1]:
                    _median_some(here, span, n, middle[n:])
                else:
                    _median_most(here, span, n, middle[n:])
        row = out[SHARED + (layer + 1) * PER_LAYER - WINDOWS + slot, year, left : left + width]
        for n in range(width):
            row[n] = middle[n]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _count_date(green: F32, water: F32, wet: bool, marks: F32, tally: F32) -> None:  # noqa: FBT001 - a kernel
    """One date into the crop cycles (by hysteresis), soil-exposed and flooded looks; rows of ``tally`` in this order.

    ``marks`` = (low, high, soil): a cycle is complete when greenness, after ``high``, falls under ``low``; the last
    row says whether it has been up. No look is under or over anything, for it is NaN.
    """
    low, high, soil = marks[0], marks[1], marks[2]
    for n in range(LANES):
        bare = green[n] < soil
        flooded = bare & wet & (water[n] > green[n])
        ended = (tally[3 * ROW + n] > _ZERO) & (green[n] < low)
        tally[n] += _ONE if ended else _ZERO
        tally[ROW + n] += _ONE if bare & (not flooded) else _ZERO
        tally[2 * ROW + n] += _ONE if flooded else _ZERO
        stays = _ZERO if ended else tally[3 * ROW + n]
        tally[3 * ROW + n] = _ONE if green[n] > high else stays


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def annual_evidence(  # noqa: PLR0913, PLR0917 - what was seen, when, and how it is read
    bands: NDArray[np.int16],
    made: Made,
    clear: NDArray[np.bool_],
    calendar: tuple[F32, NDArray[np.int64], NDArray[np.int64]],
    ridge: F32,
    marks: F32,
    wet: int,
    into: Into,
) -> None:
    """One agricultural year of looks -> a few numbers, for every year and pixel.

    ``bands`` int16 (B, T, N) and how each layer is ``made`` of them, greenness first; a look is what is ``clear``
    (T, N) and there in all layers; ``calendar``: harmonic design float32 (T, TERMS), window of each date (T,) 0..11
    ascending within a year, borders (Y + 1,) positions in time; ``ridge`` (TERMS,) added to the diagonal; ``marks``
    (3,) low, high, soil; ``wet`` place of the wetness layer or -1. Fills ``into``, a float32 (SHARED + L * PER_LAYER,
    years, pixels) from a year and a pixel on; what nothing was seen of is NaN.
    """
    design, window, borders = calendar
    out, year_0, left_0 = into
    years, pixels, count = borders.shape[0] - 1, bands.shape[2], made[0].shape[0]
    table = _moments_of(design)
    acc = np.zeros((MOMENTS + count * (TERMS + 1)) * ROW, np.float32)
    near = np.empty((count, bands.shape[1], ROW), np.float32)
    spread = np.zeros(count * SPREAD * ROW, np.float32)
    middle = np.zeros(ROW, np.float32)
    tally = np.zeros(SHARED * ROW, np.float32)
    scratch = (np.zeros(28 * ROW, np.float32), np.zeros((TERMS + 1) * ROW, np.float32))
    for left in range(0, pixels, LANES):
        stop = min(left + LANES, pixels)
        for year in range(years):
            at = (borders[year], borders[year + 1], left, stop)
            to = (out, year_0 + year, left_0 + left)
            tally[:] = _ZERO
            for layer in range(count):
                end = SHARED + (layer + 1) * PER_LAYER
                out[end - WINDOWS : end, to[1], to[2] : to[2] + stop - left] = _NAN
            _laid_made(bands, made, clear, at, near)
            _fit_block(near, table, at, left, acc)
            _spread_block(near, at, left, spread)
            opened = at[0]
            for t in range(at[0], at[1]):
                _count_date(near[0, t], near[max(wet, 0), t], wet >= 0, marks, tally)
                if t + 1 == at[1] or window[t + 1] != window[t]:
                    _window_block(near, (opened, t + 1), window[t], stop - left, middle, to)
                    opened = t + 1
            _fit_year(acc, ridge, scratch, stop - left, to)
            for layer in range(count):
                base = SHARED + layer * PER_LAYER
                mine = spread[layer * SPREAD * ROW : (layer + 1) * SPREAD * ROW]
                _spread_year(mine, acc[:ROW], base + TERMS + 1, stop - left, to)
            for row in range(SHARED):
                counted = out[row, to[1], to[2] : to[2] + stop - left]
                held = acc[:ROW] if row == 0 else tally[(row - 1) * ROW : row * ROW]
                for n in range(stop - left):
                    counted[n] = held[n]


WIDE = 512
"""Pixels of a block of the kernels of chain and monitor."""
COUNTERS = 6 + BINS
"""Int16 numbers a monitored pixel carries: looks, cycles, soil, flooded, cycle state, last value, histogram."""


BLOCK = 64
"""Columns that go through a tree side by side, a bit each in one word: LLVM cuts them into what the machine has."""
SMALL = 255
"""Nodes up to which a tree counts as small."""
Nodes = NDArray[np.uint64]


@_lowered  # type: ignore[untyped-decorator]
def _sift(_: Any, nodes: Any, leaves: Any, x: Any, total: Any) -> Any:
    """``BLOCK`` columns, a bit each, through one small tree: what its leaves say is added to ``total``.

    ``nodes`` uint64, parents first, without the leaves: threshold's bits, 16 bits feature, 8 bits place in the tree,
    8 bits place of the first child; a column goes there if it is not above the threshold, else to the place behind.
    ``leaves`` uint64: the bits of what it says, its place. ``x``: the features of the block, ``BLOCK`` numbers each.
    Every split is asked of every column, which costs less than finding out which are needed; only bits go to memory.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        v = _Vectors(BLOCK, context, builder, signature, args)
        spots = _building.alloca_once(builder, v.pair, size=SMALL + 1)
        builder.store(v.pair((1 << BLOCK) - 1), spots)
        with _building.for_range(builder, v.size(0, 0)) as loop:
            node = builder.load(builder.gep(v.data[0], [loop.index]))
            looked = builder.load(v.row(v.data[2], v.part(node, 16, 16), v.reals), align=4)
            over = builder.bitcast(builder.fcmp_ordered(">", looked, v.same(v.upper(node), v.reals)), v.pair)
            here, first = builder.load(builder.gep(spots, [v.part(node, 8, 8)])), v.part(node, 0, 8)
            builder.store(builder.and_(here, builder.not_(over)), builder.gep(spots, [first]))
            builder.store(builder.and_(here, over), builder.gep(spots, [builder.add(first, v.pair(1))]))
        sums = v.row(v.data[3], v.pair(0), v.reals)
        held = _building.alloca_once_value(builder, builder.load(sums, align=4))
        with _building.for_range(builder, v.size(1, 0)) as loop:
            leaf = builder.load(builder.gep(v.data[1], [loop.index]))
            here = builder.bitcast(builder.load(builder.gep(spots, [v.part(leaf, 0, 8)])), v.bits)
            added = builder.select(here, v.same(v.upper(leaf), v.reals), v.same(0.0, v.reals))
            builder.store(builder.fadd(builder.load(held), added), held)
        builder.store(builder.load(held), sums, align=4)
        return context.get_dummy_value()

    return types.void(nodes, leaves, x, total), generate


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _lay_ready(x: F32, first: int, width: int, block: F32) -> None:
    """Columns ``first``.. of ``x`` (F, N) as rows of ``BLOCK``."""
    for f in range(x.shape[0]):
        row, to = x[f, first : first + width], block[f * BLOCK : (f + 1) * BLOCK]
        for n in range(width):
            to[n] = row[n]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def sifted(
    x: F32,
    span: tuple[int, int],
    nodes: Nodes,
    leaves: Nodes,
    starts: NDArray[np.int64],
    about: NDArray[np.int64],
) -> F32:
    """What small trees, each about one class, say of the columns ``span`` of ``x`` (F, N), added up: float32 (C, n).

    ``nodes`` and ``leaves`` see ``_sift``, tree after tree; ``starts`` (2, trees + 1) where each tree's begin;
    ``about`` (trees + 1,) the class of each tree, then how many classes there are. NaN is above no threshold.
    """
    trees, classes = about.shape[0] - 1, about[-1]
    begin, end = span
    out = np.zeros((classes, end - begin), np.float32)
    block = np.zeros(x.shape[0] * BLOCK, np.float32)
    total = np.zeros(classes * BLOCK, np.float32)
    for first in range(0, end - begin, BLOCK):
        width = min(BLOCK, end - begin - first)
        _lay_ready(x, begin + first, width, block)
        total[:] = _ZERO
        for tree in range(trees):
            some = nodes[starts[0, tree] : starts[0, tree + 1]]
            ends = leaves[starts[1, tree] : starts[1, tree + 1]]
            _sift(some, ends, block, total[about[tree] * BLOCK :])
        for c in range(classes):
            row, come = out[c, first : first + width], total[c * BLOCK :]
            for n in range(width):
                row[n] = come[n]
    return out


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def bend(hidden: F32, bias: F32) -> None:
    """max(hidden + bias, 0) in place; ``hidden`` (H, N), ``bias`` (H,)."""
    for h in range(hidden.shape[0]):
        row, add = hidden[h], bias[h]
        for n in range(row.shape[0]):
            value = row[n] + add
            row[n] = value if value > _ZERO else _ZERO  # noqa: FURB136 - max() breaks the SIMD


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def less_best(scores: F32, bias: F32) -> None:
    """Scores (E, C, N) + bias (E, C), less the best of their column, in place: what exp can take."""
    best = np.empty(scores.shape[2], np.float32)
    for net in range(scores.shape[0]):
        for c in range(scores.shape[1]):
            row, add = scores[net, c], bias[net, c]
            for n in range(best.shape[0]):
                value = row[n] + add
                row[n] = value
                best[n] = value if (c == 0) | (value > best[n]) else best[n]
        for c in range(scores.shape[1]):
            row = scores[net, c]
            for n in range(best.shape[0]):
                row[n] -= best[n]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def mean_share(weights: F32, out: F32) -> None:
    """Mean over the first axis of weights (E, C, N) divided by their column's sum -> ``out`` (C, N)."""
    by = np.empty(weights.shape[2], np.float32)
    out[:] = _ZERO
    for net in range(weights.shape[0]):
        by[:] = _ZERO
        for c in range(weights.shape[1]):
            row = weights[net, c]
            for n in range(by.shape[0]):
                by[n] += row[n]
        for n in range(by.shape[0]):
            by[n] = _ONE / (by[n] * np.float32(weights.shape[0]))
        for c in range(weights.shape[1]):
            row, to = weights[net, c], out[c]
            for n in range(by.shape[0]):
                to[n] += row[n] * by[n]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def standardise(features: F32, begin: int, centre: F32, by: F32, clip: float, out: F32) -> None:
    """(features - centre) * by, cut to +-clip, 0 where there is nothing.

    ``features`` (F, N), of which the columns from ``begin`` on go into ``out`` (F, n); ``centre`` and ``by`` (F,).
    """
    most = np.float32(clip)
    for f in range(features.shape[0]):
        row, to = features[f, begin : begin + out.shape[1]], out[f]
        middle, times = centre[f], by[f]
        for n in range(row.shape[0]):
            value = (row[n] - middle) * times
            value = most if value > most else value  # noqa: FURB136 - NaN stays NaN
            value = -most if value < -most else value  # noqa: FURB136 - as above
            to[n] = value if value == value else _ZERO  # noqa: PLR0124 - NaN test


@njit(cache=True, fastmath=FAST, nogil=True)
def update_counters(counters: NDArray[np.int16], scene: F32, marks: F32) -> None:
    """Take one scene (L, N), greenness first and wetness second if there, into the counters (COUNTERS, N).

    The integers equal those of ``annual_evidence`` over the same scenes in the same order.
    """
    low, high, bare = marks[0], marks[1], marks[2]
    bins = np.empty(WIDE, np.int16)
    for left in range(0, scene.shape[1], WIDE):
        stop = min(left + WIDE, scene.shape[1])
        green, water = scene[0, left:stop], scene[scene.shape[0] - 1, left:stop]
        _count_look(green, counters[0, left:stop], counters[5, left:stop])
        _count_cycle(green, low, high, counters[1, left:stop], counters[4, left:stop])
        _count_bare(green, water, scene.shape[0] > 1, bare, counters[2, left:stop], counters[3, left:stop])
        for n in range(stop - left):
            bins[n] = np.int16(0) if green[n] == green[n] else np.int16(-1)
        for b in range(1, BINS):
            edge = np.float32(LOWEST) + np.float32(BIN) * np.float32(b)
            for n in range(stop - left):
                bins[n] += np.int16(1 if green[n] >= edge else 0)
        for b in range(BINS):
            row, here = counters[6 + b, left:stop], np.int16(b)
            for n in range(stop - left):
                row[n] += np.int16(1 if bins[n] == here else 0)


@njit(cache=True, fastmath=FAST, nogil=True)
def _count_look(green: F32, looks: NDArray[np.int16], last: NDArray[np.int16]) -> None:
    """One more look, and the last value; few arrays a loop, or LLVM gives their overlaps up."""
    for n in range(green.shape[0]):
        known = green[n] == green[n]
        held = min(max(green[n] if known else _ZERO, np.float32(-1)), _ONE)
        packed = np.int16(np.int32(np.floor(held * np.float32(10000) + _HALF)))
        looks[n] += np.int16(1 if known else 0)
        last[n] = packed if known else last[n]


@njit(cache=True, fastmath=FAST, nogil=True)
def _count_cycle(green: F32, low: float, high: float, cycles: NDArray[np.int16], up: NDArray[np.int16]) -> None:
    """Cycles by hysteresis, see ``_count_date``."""
    for n in range(green.shape[0]):
        was = up[n]
        ended = (was > 0) & (green[n] < low)
        cycles[n] += np.int16(1 if ended else 0)
        stays = np.int16(0) if ended else was
        up[n] = np.int16(1) if green[n] > high else stays


@njit(cache=True, fastmath=FAST, nogil=True)
def _count_bare(
    green: F32,
    water: F32,
    wet: bool,  # noqa: FBT001 - a kernel
    mark: float,
    soil: NDArray[np.int16],
    floods: NDArray[np.int16],
) -> None:
    """Looks at bare soil, and at soil under water."""
    for n in range(green.shape[0]):
        bare = green[n] < mark
        flooded = bare & wet & (water[n] > green[n])
        soil[n] += np.int16(1 if bare & (not flooded) else 0)
        floods[n] += np.int16(1 if flooded else 0)


@njit(cache=True, nogil=True)
def count_around(flags: NDArray[np.uint8], near: int) -> NDArray[np.int32]:
    """How many of ``flags`` (K, rows, columns; 0 or 1) lie within ``near`` rows and columns of every pixel, itself too.

    Running sums: the cost does not grow with ``near``. Pixels outside count as nothing.
    """
    layers, rows, columns = flags.shape
    out = np.empty((layers, rows, columns), np.int32)
    for k in range(layers):
        column = np.zeros(columns, np.int32)
        for r in range(min(near, rows)):
            for c in range(columns):
                column[c] += flags[k, r, c]
        for r in range(rows):
            if r + near < rows:
                for c in range(columns):
                    column[c] += flags[k, r + near, c]
            if r - near - 1 >= 0:
                for c in range(columns):
                    column[c] -= flags[k, r - near - 1, c]
            total = np.int32(0)
            for c in range(min(near, columns)):
                total += column[c]
            for c in range(columns):
                total += column[c + near] if c + near < columns else np.int32(0)
                total -= column[c - near - 1] if c - near - 1 >= 0 else np.int32(0)
                out[k, r, c] = total
    return out


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _copied(row: F32, to: F32) -> None:
    for n in range(row.shape[0]):
        to[n] = row[n]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _mixed(weights: F32, rows: F32, year: int, at: tuple[int, int], out: F32) -> None:
    """``out`` (n,) = sum of weights[j] * rows[year, j, at]; weights of nothing cost nothing.

    Rows are cut out one by one: of a slice of several numba does not know that its numbers lie side by side.
    """
    left, stop = at
    for n in range(out.shape[0]):
        out[n] = _ZERO
    for j in range(weights.shape[0]):
        weight = weights[j]
        if weight != _ZERO:
            row = rows[year, j, left:stop]
            for n in range(out.shape[0]):
                out[n] += weight * row[n]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _times(first: F32, second: F32, out: F32) -> None:
    for n in range(out.shape[0]):
        out[n] = first[n] * second[n]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _share(total: F32) -> None:
    """1 / total in place, safe for nothing."""
    least = np.float32(1e-30)
    for n in range(total.shape[0]):
        total[n] = _ONE / (total[n] if total[n] > least else least)  # noqa: FURB136 - max() breaks the SIMD


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def smooth_states(likely: F32, moves: F32, start: F32) -> tuple[F32, F32]:
    """Forward-backward over years: posterior and the chain's own transition probabilities given all data.

    ``likely`` float32 (Y, K, N): P(year's evidence | state), the largest of a year and pixel 1; ``moves`` (K, K) rows
    from, columns to, probabilities; ``start`` (K,). Returns the posterior (Y, K, N) and ``beta`` (Y, K, N), scaled so
    that their largest entry per year is 1.
    """
    years, states, pixels = likely.shape
    post = np.empty((years, states, pixels), np.float32)
    beta = np.empty((years, states, pixels), np.float32)
    into = np.ascontiguousarray(moves.T)
    total, before = np.empty(WIDE, np.float32), np.empty((1, states, WIDE), np.float32)
    for left in range(0, pixels, WIDE):
        stop = min(left + WIDE, pixels)
        width = stop - left
        sums = total[:width]
        for y in range(years):
            sums[:] = _ZERO
            for k in range(states):
                row = post[y, k, left:stop]
                if y == 0:
                    row[:] = start[k]
                else:
                    _mixed(into[k], post, y - 1, (left, stop), row)
                _times(row, likely[y, k, left:stop], row)
                for n in range(width):
                    sums[n] += row[n]
            _share(sums)
            for k in range(states):
                _times(post[y, k, left:stop], sums, post[y, k, left:stop])
        for k in range(states):
            beta[years - 1, k, left:stop] = _ONE
        for y in range(years - 2, -1, -1):
            for j in range(states):
                _times(likely[y + 1, j, left:stop], beta[y + 1, j, left:stop], before[0, j, :width])
            sums[:] = _ZERO
            for k in range(states):
                row = beta[y, k, left:stop]
                _mixed(moves[k], before, 0, (0, width), row)
                for n in range(width):
                    sums[n] = row[n] if row[n] > sums[n] else sums[n]  # noqa: FURB136 - max() breaks the SIMD
            _share(sums)
            for k in range(states):
                _times(beta[y, k, left:stop], sums, beta[y, k, left:stop])
        for y in range(years):
            sums[:] = _ZERO
            for k in range(states):
                row = post[y, k, left:stop]
                _times(row, beta[y, k, left:stop], row)
                for n in range(width):
                    sums[n] += row[n]
            _share(sums)
            for k in range(states):
                _times(post[y, k, left:stop], sums, post[y, k, left:stop])
    return post, beta


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def run_masses(
    likely: F32, moves: F32, smoothed: tuple[F32, F32], idle: NDArray[np.int64], entry: NDArray[np.int64]
) -> F32:
    """P(a run of idle states begins in year i and still lasts in year j), exactly, from the smoothed chain.

    ``likely`` as for ``smooth_states``; ``idle``: the states that count as not cultivated; ``entry``: the states a
    run may come from (a run that touches the first year needs no entry). Returns float32 (Y, Y, N), zero for j < i.
    Sums of it give P(at least n years in a row) and the posterior of the onset year.
    """
    post, beta = smoothed
    years, states, pixels = likely.shape
    count = idle.shape[0]
    out = np.zeros((years, years, pixels), np.float32)
    weight = np.empty((years, states, WIDE), np.float32)
    below = np.empty((years, states, WIDE), np.float32)
    now, after = np.empty((count, WIDE), np.float32), np.empty((count, WIDE), np.float32)
    for left in range(0, pixels, WIDE):
        stop = min(left + WIDE, pixels)
        width = stop - left
        for y in range(1, years):
            for k in range(states):
                _times(likely[y, k, left:stop], beta[y, k, left:stop], weight[y, k, :width])
            for j in range(states):
                _mixed(moves[j], weight, y, (0, width), below[y, j, :width])
                _share(below[y, j, :width])
        for i in range(years):
            mass = out[i, i, left:stop]
            for a in range(count):
                value = now[a, :width]
                if i == 0:
                    _copied(post[0, idle[a], left:stop], value)
                else:
                    value[:] = _ZERO
                    held = weight[i, idle[a], :width]
                    for b in range(entry.shape[0]):
                        j = entry[b]
                        came, share, move = post[i - 1, j, left:stop], below[i, j, :width], moves[j, idle[a]]
                        for n in range(width):
                            value[n] += came[n] * move * share[n] * held[n]
                for n in range(width):
                    mass[n] += value[n]
            for y in range(i + 1, years):
                mass = out[i, y, left:stop]
                for b in range(count):
                    _times(now[b, :width], below[y, idle[b], :width], now[b, :width])
                for a in range(count):
                    value, held = after[a, :width], weight[y, idle[a], :width]
                    value[:] = _ZERO
                    for b in range(count):
                        move, came = moves[idle[b], idle[a]], now[b, :width]
                        if move != _ZERO:
                            for n in range(width):
                                value[n] += came[n] * move
                    for n in range(width):
                        value[n] *= held[n]
                        mass[n] += value[n]
                for a in range(count):
                    _copied(after[a, :width], now[a, :width])
    return out


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def best_path(loglik: F32, moves: F32, start: F32) -> NDArray[np.uint8]:
    """Viterbi: the likeliest sequence of states (Y, N) for ``loglik`` (Y, K, N); ties go to the lower state."""
    years, states, pixels = loglik.shape
    path = np.empty((years, pixels), np.uint8)
    came = np.empty((years, states, WIDE), np.uint8)
    steps = np.log(np.maximum(moves, np.float32(1e-30)))
    first = np.log(np.maximum(start, np.float32(1e-30)))
    score, new = np.empty((states, WIDE), np.float32), np.empty((states, WIDE), np.float32)
    for left in range(0, pixels, WIDE):
        stop = min(left + WIDE, pixels)
        width = stop - left
        for k in range(states):
            row, seen = score[k], loglik[0, k, left:stop]
            for n in range(width):
                row[n] = first[k] + seen[n]
        for y in range(1, years):
            for k in range(states):
                best, who = new[k], came[y, k]
                for j in range(states):
                    row, step = score[j], steps[j, k]
                    if j == 0:
                        for n in range(width):
                            best[n] = row[n] + step
                            who[n] = np.uint8(0)
                    else:
                        for n in range(width):
                            better = row[n] + step > best[n]
                            who[n] = np.uint8(j) if better else who[n]
                            best[n] = row[n] + step if better else best[n]
                seen = loglik[y, k, left:stop]
                for n in range(width):
                    best[n] += seen[n]
            score, new = new, score
        for n in range(width):
            who_last = 0
            for k in range(1, states):
                who_last = k if score[k, n] > score[who_last, n] else who_last
            path[years - 1, left + n] = who_last
            for y in range(years - 1, 0, -1):
                who_last = int(came[y, who_last, n])
                path[y - 1, left + n] = who_last
    return path
