"""The inner loops, all in this one file: time-major arrays, pixels innermost so that SIMD works over pixels.

Why one file: numba's cache does not notice a change in a kernel imported from elsewhere. Why this
``fastmath``: with ``nnan`` the compiler deletes the tests for missing values, and everything becomes NaN.
Branches are written as selects. Each kernel has a plain numpy oracle in ``tests/remote_sensing``.
"""

# ruff: noqa: C901, PLR0912 - a loop nest is one kernel; cutting it costs the SIMD or the cache

from __future__ import annotations

import numpy as np
from numba import njit
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
BLOCK = 256
NOTHING = -32768
"""The integer that means "no value", as in ``cubes.MISSING``."""

F32 = NDArray[np.float32]


@njit(cache=True, fastmath=FAST, nogil=True)
def normalized_difference(first: NDArray[np.int16], second: NDArray[np.int16]) -> F32:
    """(a - b) / (a + b) of packed bands (T, N) -> float32 (T, N), -1..1; NaN where missing or a + b <= 0."""
    out = np.empty(first.shape, np.float32)
    nothing = np.float32(np.nan)
    for t in range(first.shape[0]):
        for n in range(first.shape[1]):
            a = np.float32(first[t, n])
            b = np.float32(second[t, n])
            total = a + b
            known = (first[t, n] != NOTHING) & (second[t, n] != NOTHING) & (total > np.float32(0))
            value = (a - b) / (total if known else np.float32(1))
            value = min(max(value, np.float32(-1)), np.float32(1))
            out[t, n] = value if known else nothing
    return out


@njit(cache=True, fastmath=FAST, nogil=True)
def _solve_block(gram: F32, right: F32, width: int) -> None:
    """Solve the ridge normal equations of ``width`` pixels in place by Cholesky; ``right`` becomes the answer.

    ``gram`` (TERMS, TERMS, BLOCK) lower triangle; ``right`` (L, TERMS, BLOCK).
    """
    for i in range(TERMS):
        for j in range(i + 1):
            for k in range(j):
                for n in range(width):
                    gram[i, j, n] -= gram[i, k, n] * gram[j, k, n]
            if i == j:
                for n in range(width):
                    gram[i, i, n] = np.sqrt(max(gram[i, i, n], np.float32(1e-9)))
            else:
                for n in range(width):
                    gram[i, j, n] /= gram[j, j, n]
    for layer in range(right.shape[0]):
        for i in range(TERMS):
            for k in range(i):
                for n in range(width):
                    right[layer, i, n] -= gram[i, k, n] * right[layer, k, n]
            for n in range(width):
                right[layer, i, n] /= gram[i, i, n]
        for i in range(TERMS - 1, -1, -1):
            for k in range(i + 1, TERMS):
                for n in range(width):
                    right[layer, i, n] -= gram[k, i, n] * right[layer, k, n]
            for n in range(width):
                right[layer, i, n] /= gram[i, i, n]


@njit(cache=True, fastmath=FAST, nogil=True)
def _fit_block(layers: F32, design: F32, ridge: F32, at: tuple[int, int, int, int], out: F32) -> None:
    """Ridge harmonic fit of one year and block; ``at`` = (first date, end date, first pixel, end pixel)."""
    begin, end, left, stop = at
    width = stop - left
    count = layers.shape[0]
    gram = np.zeros((TERMS, TERMS, BLOCK), np.float32)
    right = np.zeros((count, TERMS, BLOCK), np.float32)
    power = np.zeros((count, BLOCK), np.float32)
    seen = np.zeros(BLOCK, np.float32)
    value = np.zeros(BLOCK, np.float32)
    for t in range(begin, end):
        for n in range(width):
            seen[n] = np.float32(1) if layers[0, t, left + n] == layers[0, t, left + n] else np.float32(0)
        for i in range(TERMS):
            for j in range(i + 1):
                product = design[t, i] * design[t, j]
                for n in range(width):
                    gram[i, j, n] += seen[n] * product
        for layer in range(count):
            for n in range(width):
                here = layers[layer, t, left + n]
                value[n] = here if here == here else np.float32(0)  # noqa: PLR0124 - NaN test
                power[layer, n] += value[n] * value[n]
            for i in range(TERMS):
                factor = design[t, i]
                for n in range(width):
                    right[layer, i, n] += value[n] * factor
    for n in range(width):
        seen[n] = gram[0, 0, n]
    for i in range(TERMS):
        for n in range(width):
            gram[i, i, n] += ridge[i]
    moments = right.copy()
    _solve_block(gram, right, width)
    for layer in range(count):
        base = SHARED + layer * PER_LAYER
        for n in range(width):
            # |y - Xb|^2 = y'y - b'X'y - r b'b for the ridge answer
            rest = power[layer, n]
            for i in range(TERMS):
                answer = right[layer, i, n]
                out[base + i, left + n] = answer
                rest -= answer * (moments[layer, i, n] + ridge[i] * answer)
            out[base + TERMS, left + n] = np.sqrt(max(rest, np.float32(0)) / max(seen[n], np.float32(1)))


@njit(cache=True, fastmath=FAST, nogil=True)
def harmonic_fit(layers: F32, design: F32, borders: NDArray[np.int64], ridge: F32) -> F32:
    """Masked ridge fit alone: float32 (SHARED + L * PER_LAYER, Y, N), of which only terms and rmse are filled.

    For long periods instead of years give ``borders`` = (0, T). Inputs as for ``annual_evidence``.
    """
    years, pixels = borders.shape[0] - 1, layers.shape[2]
    out = np.zeros((SHARED + layers.shape[0] * PER_LAYER, years, pixels), np.float32)
    for left in range(0, pixels, BLOCK):
        stop = min(left + BLOCK, pixels)
        for year in range(years):
            _fit_block(layers, design, ridge, (borders[year], borders[year + 1], left, stop), out[:, year, :])
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


@njit(cache=True, fastmath=FAST, nogil=True)
def _quantile(below: F32, n: int, share: float, total: float) -> np.float32:
    """Quantile of one pixel's cumulative histogram, linear inside the bin."""
    want = share * total
    bin_ = 0
    while bin_ < BINS - 1 and below[bin_, n] < want:
        bin_ += 1
    before = below[bin_ - 1, n] if bin_ > 0 else np.float32(0)
    here = (below[bin_, n] if bin_ < BINS - 1 else total) - before
    part = (want - before) / max(here, np.float32(1e-9))
    return np.float32(LOWEST) + np.float32(BIN) * (bin_ + part)


@njit(cache=True, fastmath=FAST, nogil=True)
def _spread_block(layers: F32, layer: int, at: tuple[int, int, int, int], out: F32) -> None:
    """Quantiles, largest rise and largest fall between clear looks of one layer, year and block.

    The histogram is kept cumulative: adding a look is then sixteen compares over pixels, not a scatter.
    """
    begin, end, left, stop = at
    width = stop - left
    base = SHARED + layer * PER_LAYER + TERMS + 1
    below = np.zeros((BINS, BLOCK), np.float32)
    last = np.full(BLOCK, np.float32(np.nan), np.float32)
    rise = np.zeros(BLOCK, np.float32)
    fall = np.zeros(BLOCK, np.float32)
    total = np.zeros(BLOCK, np.float32)
    for t in range(begin, end):
        for n in range(width):
            value = layers[layer, t, left + n]
            known = value == value  # noqa: PLR0124 - NaN test
            step = value - last[n]
            rise[n] = max(rise[n], step)
            fall[n] = max(fall[n], -step)
            last[n] = value if known else last[n]
            total[n] += np.float32(1) if known else np.float32(0)
        for b in range(BINS - 1):
            edge = np.float32(LOWEST) + np.float32(BIN) * np.float32(b + 1)
            for n in range(width):
                below[b, n] += np.float32(1) if layers[layer, t, left + n] < edge else np.float32(0)
    for n in range(width):
        missing = total[n] == 0
        for place, share in enumerate((0.1, 0.5, 0.9)):
            out[base + place, left + n] = np.nan if missing else _quantile(below, n, share, total[n])
        out[base + 3, left + n] = np.nan if missing else rise[n]
        out[base + 4, left + n] = np.nan if missing else fall[n]


@njit(cache=True, fastmath=FAST, nogil=True)
def _window_block(layers: F32, window: NDArray[np.int64], at: tuple[int, int, int, int], out: F32) -> None:
    """Mean of the clear looks in each window of one year and block; NaN where a window saw nothing."""
    begin, end, left, stop = at
    width = stop - left
    total = np.zeros((layers.shape[0], WINDOWS, BLOCK), np.float32)
    count = np.zeros((WINDOWS, BLOCK), np.float32)
    for t in range(begin, end):
        slot = window[t]
        for n in range(width):
            value = layers[0, t, left + n]
            count[slot, n] += np.float32(1) if value == value else np.float32(0)  # noqa: PLR0124 - NaN test
        for layer in range(layers.shape[0]):
            for n in range(width):
                value = layers[layer, t, left + n]
                total[layer, slot, n] += value if value == value else np.float32(0)  # noqa: PLR0124 - NaN test
    for layer in range(layers.shape[0]):
        base = SHARED + layer * PER_LAYER + PER_LAYER - WINDOWS
        for slot in range(WINDOWS):
            for n in range(width):
                seen = count[slot, n]
                mean = total[layer, slot, n] / max(seen, np.float32(1))
                out[base + slot, left + n] = mean if seen > 0 else np.float32(np.nan)


@njit(cache=True, fastmath=FAST, nogil=True)
def _count_block(layers: F32, wet: int, at: tuple[int, int, int, int], marks: F32, out: F32) -> None:
    """Looks, crop cycles by hysteresis, soil-exposed and flooded looks of one year and block.

    ``marks`` = (low, high, soil): a cycle is complete when greenness, after ``high``, falls under ``low``.
    """
    begin, end, left, stop = at
    up = np.zeros(BLOCK, np.float32)
    for row in range(SHARED):
        for n in range(left, stop):
            out[row, n] = np.float32(0)
    for t in range(begin, end):
        for n in range(left, stop):
            green = layers[0, t, n]
            water = layers[wet, t, n] if wet >= 0 else np.float32(-9)
            known = green == green  # noqa: PLR0124 - NaN test
            bare = green < marks[2]
            flooded = bare & (water > green)
            ended = (up[n - left] > 0) & (green < marks[0])
            out[0, n] += np.float32(1) if known else np.float32(0)
            out[1, n] += np.float32(1) if ended else np.float32(0)
            out[2, n] += np.float32(1) if bare & (not flooded) else np.float32(0)
            out[3, n] += np.float32(1) if flooded else np.float32(0)
            stays = np.float32(0) if ended else up[n - left]
            up[n - left] = np.float32(1) if green > marks[1] else stays


@njit(cache=True, fastmath=FAST, nogil=True)
def annual_evidence(
    layers: F32, calendar: tuple[F32, NDArray[np.int64], NDArray[np.int64]], ridge: F32, marks: F32, wet: int
) -> F32:
    """One agricultural year of looks -> a few numbers, for every year and pixel.

    ``layers`` float32 (L, T, N), greenness first, NaN = no look (missing in one layer is missing in all);
    ``calendar``: design float32 (T, TERMS), window of each date (T,) 0..11, borders (Y + 1,) positions in time;
    ``ridge`` (TERMS,) added to the diagonal; ``marks`` (3,) low, high, soil; ``wet`` place of the wetness layer
    or -1. Returns float32 (SHARED + L * PER_LAYER, Y, N); what nothing was seen of is NaN.
    """
    design, window, borders = calendar
    years = borders.shape[0] - 1
    pixels = layers.shape[2]
    out = np.empty((SHARED + layers.shape[0] * PER_LAYER, years, pixels), np.float32)
    for left in range(0, pixels, BLOCK):
        stop = min(left + BLOCK, pixels)
        for year in range(years):
            at = (borders[year], borders[year + 1], left, stop)
            here = out[:, year, :]
            _fit_block(layers, design, ridge, at, here)
            for layer in range(layers.shape[0]):
                _spread_block(layers, layer, at, here)
            _window_block(layers, window, at, here)
            _count_block(layers, wet, at, marks, here)
    return out


COUNTERS = 6 + BINS
"""Int16 numbers a monitored pixel carries: looks, cycles, soil, flooded, cycle state, last value, histogram."""


@njit(cache=True, fastmath=FAST, nogil=True)
def forest_shares(
    x: F32,
    nodes: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]],
    splits: F32,
    leaves: F32,
    roots: NDArray[np.int32],
) -> F32:
    """Mean class shares (N, C) of a forest of trees for rows (N, F).

    ``nodes``: feature (-1 = leaf), left and right child of every node; ``splits`` threshold: left if x <= it;
    ``leaves`` (nodes, C) shares; ``roots`` (trees,).
    """
    feature, left, right = nodes
    out = np.zeros((x.shape[0], leaves.shape[1]), np.float32)
    for tree in range(roots.shape[0]):
        for n in range(x.shape[0]):
            node = roots[tree]
            while feature[node] >= 0:
                node = left[node] if x[n, feature[node]] <= splits[node] else right[node]
            for c in range(leaves.shape[1]):
                out[n, c] += leaves[node, c]
    return out / np.float32(max(roots.shape[0], 1))


@njit(cache=True, fastmath=FAST, nogil=True)
def update_counters(counters: NDArray[np.int16], scene: F32, marks: F32) -> None:
    """Take one scene (L, N), greenness first and wetness second if there, into the counters (COUNTERS, N).

    The integers equal those of ``annual_evidence`` over the same scenes in the same order.
    """
    for n in range(scene.shape[1]):
        green = scene[0, n]
        known = green == green  # noqa: PLR0124 - NaN test
        water = scene[1, n] if scene.shape[0] > 1 else np.float32(-9)
        bare = green < marks[2]
        flooded = bare & (water > green)
        ended = (counters[4, n] > 0) & (green < marks[0])
        counters[0, n] += np.int16(1 if known else 0)
        counters[1, n] += np.int16(1 if ended else 0)
        counters[2, n] += np.int16(1 if bare & (not flooded) else 0)
        counters[3, n] += np.int16(1 if flooded else 0)
        stays = np.int16(0) if ended else counters[4, n]
        counters[4, n] = np.int16(1) if green > marks[1] else stays
        value = np.int16(round(min(max(green, np.float32(-1)), np.float32(1)) * 10000)) if known else np.int16(0)
        counters[5, n] = value if known else counters[5, n]
    for b in range(BINS):
        low = np.float32(LOWEST) + np.float32(BIN) * np.float32(b)
        high = low + np.float32(BIN)
        for n in range(scene.shape[1]):
            green = scene[0, n]
            above = (green >= low) | (b == 0)
            under = (green < high) | (b == BINS - 1)
            counters[6 + b, n] += np.int16(1 if above & under & (green == green) else 0)  # noqa: PLR0124


@njit(cache=True, fastmath=FAST, nogil=True)
def smooth_states(loglik: F32, moves: F32, start: F32) -> tuple[F32, F32]:
    """Forward-backward over years: posterior and the chain's own transition probabilities given all data.

    ``loglik`` float32 (Y, K, N); ``moves`` (K, K) rows from, columns to, probabilities; ``start`` (K,).
    Returns the posterior (Y, K, N) and ``beta`` (Y, K, N), scaled so that their largest entry per year is 1.
    """
    years, states, pixels = loglik.shape
    post = np.empty((years, states, pixels), np.float32)
    beta = np.empty((years, states, pixels), np.float32)
    seen = np.empty((years, states), np.float32)
    for n in range(pixels):
        for y in range(years):
            best = loglik[y, 0, n]
            for k in range(1, states):
                best = max(best, loglik[y, k, n])
            for k in range(states):
                seen[y, k] = np.exp(loglik[y, k, n] - best)
            total = np.float32(0)
            for k in range(states):
                into = start[k] if y == 0 else np.float32(0)
                if y > 0:
                    for j in range(states):
                        into += post[y - 1, j, n] * moves[j, k]
                post[y, k, n] = into * seen[y, k]
                total += post[y, k, n]
            for k in range(states):
                post[y, k, n] /= max(total, np.float32(1e-30))
        for k in range(states):
            beta[years - 1, k, n] = np.float32(1)
        for y in range(years - 2, -1, -1):
            top = np.float32(0)
            for k in range(states):
                value = np.float32(0)
                for j in range(states):
                    value += moves[k, j] * seen[y + 1, j] * beta[y + 1, j, n]
                beta[y, k, n] = value
                top = max(top, value)
            for k in range(states):
                beta[y, k, n] /= max(top, np.float32(1e-30))
        for y in range(years):
            total = np.float32(0)
            for k in range(states):
                post[y, k, n] *= beta[y, k, n]
                total += post[y, k, n]
            for k in range(states):
                post[y, k, n] /= max(total, np.float32(1e-30))
    return post, beta


@njit(cache=True, fastmath=FAST, nogil=True)
def run_masses(
    loglik: F32, moves: F32, smoothed: tuple[F32, F32], idle: NDArray[np.int64], entry: NDArray[np.int64]
) -> F32:
    """P(a run of idle states begins in year i and still lasts in year j), exactly, from the smoothed chain.

    ``idle``: the states that count as not cultivated; ``entry``: the states a run may come from (a run that
    touches the first year needs no entry). Returns float32 (Y, Y, N), zero for j < i. Sums of it give
    P(at least n years in a row) and the posterior of the onset year.
    """
    post, beta = smoothed
    years, states, pixels = loglik.shape
    count = idle.shape[0]
    out = np.zeros((years, years, pixels), np.float32)
    now = np.zeros(count, np.float32)
    after = np.zeros(count, np.float32)
    weight = np.zeros((years, states), np.float32)
    below = np.zeros((years, states), np.float32)
    for n in range(pixels):
        for y in range(1, years):
            best = loglik[y, 0, n]
            for k in range(1, states):
                best = max(best, loglik[y, k, n])
            for k in range(states):
                weight[y, k] = np.exp(loglik[y, k, n] - best) * beta[y, k, n]
            for j in range(states):
                total = np.float32(0)
                for k in range(states):
                    total += moves[j, k] * weight[y, k]
                below[y, j] = max(total, np.float32(1e-30))
        for i in range(years):
            mass = np.float32(0)
            for a in range(count):
                value = np.float32(0)
                if i == 0:
                    value = post[0, idle[a], n]
                else:
                    for b in range(entry.shape[0]):
                        j = entry[b]
                        value += post[i - 1, j, n] * moves[j, idle[a]] * weight[i, idle[a]] / below[i, j]
                now[a] = value
                mass += value
            out[i, i, n] = mass
            for y in range(i + 1, years):
                mass = np.float32(0)
                for a in range(count):
                    value = np.float32(0)
                    for b in range(count):
                        value += now[b] * moves[idle[b], idle[a]] / below[y, idle[b]]
                    after[a] = value * weight[y, idle[a]]
                    mass += after[a]
                for a in range(count):
                    now[a] = after[a]
                out[i, y, n] = mass
    return out


@njit(cache=True, fastmath=FAST, nogil=True)
def best_path(loglik: F32, moves: F32, start: F32) -> NDArray[np.uint8]:
    """Viterbi: the likeliest sequence of states (Y, N) for ``loglik`` (Y, K, N); ties go to the lower state."""
    years, states, pixels = loglik.shape
    path = np.empty((years, pixels), np.uint8)
    came = np.empty((years, states), np.uint8)
    steps = np.log(np.maximum(moves, np.float32(1e-30)))
    score = np.empty(states, np.float32)
    new = np.empty(states, np.float32)
    for n in range(pixels):
        for k in range(states):
            score[k] = np.log(max(start[k], np.float32(1e-30))) + loglik[0, k, n]
        for y in range(1, years):
            for k in range(states):
                best = score[0] + steps[0, k]
                who = 0
                for j in range(1, states):
                    value = score[j] + steps[j, k]
                    if value > best:
                        best = value
                        who = j
                new[k] = best + loglik[y, k, n]
                came[y, k] = who
            for k in range(states):
                score[k] = new[k]
        who = int(np.argmax(score))
        path[years - 1, n] = who
        for y in range(years - 1, 0, -1):
            who = came[y, who]
            path[y - 1, n] = who
    return path
