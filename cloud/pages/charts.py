"""Charts as SVG, drawn by the server: they need no script, print well, and show a gap as a gap.

Points are (ms UTC, value or None). A line is broken where a value is missing, and where two readings are further apart
than `gap_ms`: joining them would invent what nobody measured. Co-ordinates are rounded to a tenth of a pixel.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Gap", "Plot", "gaps", "plot", "strokes"]

Point = tuple[int, float | None]


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without readings, `[start_ms, end_ms]`."""

    start_ms: int
    end_ms: int

    @property
    def length_ms(self) -> int:
        """How long it lasted."""
        return self.end_ms - self.start_ms


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where, and which value or time it stands for."""

    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Plot:
    """What a template needs to draw one series."""

    width: int
    height: int
    left: int
    bottom: int
    paths: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    holes: tuple[tuple[float, float], ...]
    marks: tuple[tuple[float, float], ...] = ()


def gaps(points: Sequence[Point], start_ms: int, end_ms: int, gap_ms: int) -> tuple[Gap, ...]:
    """Times longer than `gap_ms` without a usable value, the edges of the window included."""
    known = [start_ms, *(time for time, value in points if value is not None), end_ms]
    return tuple(Gap(a, b) for a, b in pairwise(known) if b - a > gap_ms)


def strokes(points: Iterable[Point], gap_ms: int) -> list[list[tuple[int, float]]]:
    """The points cut into runs that may be joined by a line."""
    runs: list[list[tuple[int, float]]] = []
    last: int | None = None
    for time, value in points:
        if value is None:
            last = None
            continue
        if last is None or time - last > gap_ms:
            runs.append([])
        runs[-1].append((time, value))
        last = time
    return runs


def plot(
    points: Sequence[Point],
    start_ms: int,
    end_ms: int,
    gap_ms: int,
    *,
    since_ms: int | None = None,
    doubtful: Sequence[tuple[int, float]] = (),
    bare: bool = False,
) -> Plot:
    """Lay out one series in a box; with no usable point the box is empty but sound.

    A series that begins inside the window says so by `since_ms`: what was before is no gap. `doubtful` points get a
    mark of their own. `bare` means small and without axes.
    """
    width, height = (220, 34) if bare else (760, 240)
    left, bottom, top, right = (0, 2, 2, 0) if bare else (48, 26, 10, 10)
    values = [value for _, value in points if value is not None]
    low, high, marks = _scale(min(values, default=0.0), max(values, default=1.0))

    def x(time: float) -> float:
        return round(left + (time - start_ms) / max(1, end_ms - start_ms) * (width - left - right), 1)

    def y(value: float) -> float:
        return round(top + (high - value) / (high - low) * (height - top - bottom), 1)

    runs = strokes(points, gap_ms)
    paths = tuple("M" + "L".join(f"{x(t)},{y(v)}" for t, v in run) for run in runs if len(run) > 1)
    dots = tuple((x(run[0][0]), y(run[0][1])) for run in runs if len(run) == 1)
    holes = tuple(
        (x(gap.start_ms), round(x(gap.end_ms) - x(gap.start_ms), 1))
        for gap in gaps(points, since_ms or start_ms, end_ms, gap_ms)
    )
    across = tuple(Tick(x(time), time) for time in _hours(start_ms, end_ms))
    up = tuple(Tick(y(mark), mark) for mark in marks)
    unsure = tuple((x(time), y(value)) for time, value in doubtful)
    return Plot(width, height, left, height - bottom, paths, dots, across, up, holes, unsure)


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round limits around the values, with three to six marks at round numbers."""
    if high - low < 1e-9:  # noqa: PLR2004 - one value only: give it room
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / 4
    power = 10.0 ** _floor_log10(raw)
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= raw)
    first = int(low // step)
    marks = [round(step * n, 10) for n in range(first, first + 9)]
    last = next(at for at, mark in enumerate(marks) if mark >= high - step * 1e-9)
    return marks[0], marks[last], marks[: last + 1]


def _floor_log10(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


def _hours(start_ms: int, end_ms: int) -> list[int]:
    """Five to nine full hours, in China time, inside the window."""
    hour = 3_600_000
    span = (end_ms - start_ms) / hour
    step = next((n for n in (1, 2, 3, 4, 6, 12, 24) if span / n <= 8), 24) * hour  # noqa: PLR2004 - marks at most
    offset = 8 * hour
    first = -(-(start_ms + offset) // step) * step - offset
    return list(range(first, end_ms + 1, step))
