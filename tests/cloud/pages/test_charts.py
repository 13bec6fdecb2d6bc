"""Charts invent nothing: a gap stays a gap."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cloud.pages.charts import gaps, plot, strokes

MINUTE = 60_000
points_of = st.lists(
    st.tuples(st.integers(0, 10_000).map(lambda n: n * 1000), st.none() | st.floats(-50, 50)), unique_by=lambda p: p[0]
).map(sorted)


@given(points_of)
def test_strokes_hold_every_value_once_and_never_cross_a_gap(points):
    runs = strokes(points, MINUTE)
    assert [point for run in runs for point in run] == [point for point in points if point[1] is not None]
    assert all(b[0] - a[0] <= MINUTE for run in runs for a, b in pairwise(run))


@given(points_of)
def test_gaps_and_readings_together_fill_the_window(points):
    start, end = 0, 10_000_000
    found = gaps(points, start, end, MINUTE)
    for gap in found:
        assert gap.length_ms > MINUTE
        assert not any(gap.start_ms < time < gap.end_ms for time, value in points if value is not None)


@given(points_of)
def test_everything_drawn_lies_inside_the_box(points):
    drawn = plot(points, 0, 10_000_000, MINUTE)
    for path in drawn.paths:
        for pair in path[1:].split("L"):
            x, y = map(float, pair.split(","))
            assert drawn.left <= x <= drawn.width
            assert 0 <= y <= drawn.bottom
    assert 2 <= len(drawn.up) <= 9
    assert all(tick.at >= 0 for tick in drawn.up)


def test_a_missing_value_breaks_the_line():
    assert len(strokes([(0, 1.0), (1000, None), (2000, 1.0)], MINUTE)) == 2


def test_marks_stand_at_round_values():
    drawn = plot([(0, 4.13), (MINUTE, 7.92)], 0, MINUTE, MINUTE)
    assert [tick.value for tick in drawn.up] == [4, 5, 6, 7, 8]


def test_what_was_before_a_series_began_is_no_gap():
    points = [(9 * MINUTE, 1.0), (10 * MINUTE, 2.0)]
    assert len(plot(points, 0, 10 * MINUTE, MINUTE).holes) == 1
    assert plot(points, 0, 10 * MINUTE, MINUTE, since_ms=9 * MINUTE).holes == ()


def test_a_gap_of_a_new_series_stays_a_gap():
    points = [(5 * MINUTE, 1.0), (10 * MINUTE, 2.0)]
    drawn = plot(points, 0, 10 * MINUTE, MINUTE, since_ms=5 * MINUTE, bare=True)
    assert len(drawn.holes) == 1
    assert drawn.paths == ()
    assert len(drawn.dots) == 2
