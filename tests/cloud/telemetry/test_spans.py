from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cloud.telemetry.spans import Spans

RANGES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda p: (p[0], p[0] + p[1])), max_size=15)


@given(added=RANGES)
def test_it_agrees_with_a_plain_set_of_numbers(added):
    spans = Spans(*added)
    numbers = {n for first, last in added for n in range(first, last + 1)}
    assert {n for n in range(60) if n in spans} == numbers
    assert {n for first, last in spans.ranges() for n in range(first, last + 1)} == numbers
    assert spans.watermark == next(n for n in range(60) if n + 1 not in numbers)
    assert spans.highest == max(numbers, default=0)
    missing = {n for first, last in spans.gaps() for n in range(first, last + 1)}
    assert missing == set(range(1, spans.highest)) - numbers


@given(added=RANGES)
def test_its_ranges_are_sorted_and_never_touch(added):
    ranges = Spans(*added).ranges()
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))


def test_a_copy_does_not_follow_its_original():
    spans = Spans((1, 2))
    twin = spans.copy()
    spans.add(3)
    assert twin.ranges() == [(1, 2)]
