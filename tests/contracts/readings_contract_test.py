"""The promises of `ReadingsStore`, kept by each adapter."""

import json
import math
import subprocess
import sys
from dataclasses import fields
from itertools import count

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from influx import Influx

from cloud.database import open_database
from cloud.problems import Invalid
from cloud.telemetry.duckdb_readings import DuckReadings
from cloud.telemetry.memory_readings import MemoryReadings
from cloud.telemetry.opening import open_readings
from cloud.telemetry.store import Arrival, PackKey, Points, StoreUnavailable, columns

T0 = 1_700_000_000_000
ALL_TIME = (0, 4_102_444_800_000)
_numbers = count(1)
# One property for all adapters: hypothesis sees it run by several classes and with a store that outlives an example.
_INHERITED = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)


def ids(*series):
    return np.array(series, dtype=np.int64)


def points(*rows):
    """Rows of (series, seconds after T0, value[, quality])."""
    full = [(s, T0 + round(t * 1000), math.nan if v is None else v, *(q or (0,))) for s, t, v, *q in rows]
    return Points(*columns(*zip(*full, strict=True))) if full else Points.none()


def pack(seq, *rows, gateway="gw", epoch="aaaaaaaa", digest=b"12345678", skips=None, received=T0, sender=""):
    key = None if seq is None else PackKey(gateway, epoch, seq)
    return Arrival(key, points(*rows), digest, skips, received, sender)


def covered(store, after, upto):
    """What is said of these positions, as (gateway, first, last) in seconds after T0."""
    return [(gateway, (low - T0) / 1000, (high - T0) / 1000) for gateway, low, high in store.stored(after, upto)]


def rows(found):
    values = [None if math.isnan(v) else v for v in found.value.tolist()]
    seconds = ((found.time_ms - T0) / 1000).tolist()
    return list(zip(found.series.tolist(), seconds, values, found.quality.tolist(), strict=True))


def ranges(ledger):
    return {epoch: spans.ranges() for epoch, spans in ledger.items()}


def same(found, wanted):
    for one in fields(wanted):
        np.testing.assert_allclose(getattr(found, one.name), getattr(wanted, one.name), rtol=0, atol=1e-9)


class ReadingsContract:
    exact = True  # it knows what was there before: equal second values, different ones, and how many

    def open(self, place):
        raise AssertionError("each adapter says how it is opened")

    @pytest.fixture
    def store(self, tmp_path):
        store = self.open(tmp_path)
        yield store
        store.close()

    def count(self, done, stored, absorbed, conflicts=0):
        assert not self.exact or (done.stored, done.absorbed, done.conflicts) == (stored, absorbed, conflicts)

    def all(self, store, *series):
        return rows(store.range(ids(*series), *ALL_TIME))

    def test_what_was_appended_is_read_back_by_series_and_time(self, store):
        done = store.append([pack(1, (2, 5, 1.5), (1, 9, 2.5)), pack(2, (1, 3, -1.0, 1))])
        self.count(done, stored=3, absorbed=0)
        assert self.all(store, 1, 2) == [(1, 3.0, -1.0, 1), (1, 9.0, 2.5, 0), (2, 5.0, 1.5, 0)]
        assert self.all(store, 3) == []

    def test_a_pack_sent_again_adds_nothing(self, store):
        first = pack(1, (1, 0, 1.0), (1, 1, 2.0))
        store.append([first])
        done = store.append([first, first])
        assert (done.stored, done.absorbed, done.known) == (0, 4, {first.key})
        assert not done.reused
        assert len(self.all(store, 1)) == 2

    def test_a_pack_twice_in_one_batch_is_stored_once(self, store):
        first = pack(1, (1, 0, 1.0))
        again = pack(1, (1, 0, 1.0))
        assert store.append([first, again]).stored == 1
        assert len(self.all(store, 1)) == 1

    def test_a_number_used_again_for_other_content_is_told_and_not_stored(self, store):
        store.append([pack(1, (1, 0, 1.0), digest=b"original")])
        done = store.append([pack(1, (1, 5, 9.0), digest=b"impostor"), pack(2, (1, 6, 2.0))])
        assert done.reused == {PackKey("gw", "aaaaaaaa", 1)}
        assert self.all(store, 1) == [(1, 0.0, 1.0, 0), (1, 6.0, 2.0, 0)]

    def test_an_equal_second_value_is_absorbed(self, store):
        store.append([pack(1, (1, 0, 1.0), (1, 1, None, 4))])
        done = store.append([pack(2, (1, 0, 1.0), (1, 1, None, 4), (1, 2, 3.0), (1, 2, 3.0))])
        self.count(done, stored=1, absorbed=3)
        assert self.all(store, 1) == [(1, 0.0, 1.0, 0), (1, 1.0, None, 4), (1, 2.0, 3.0, 0)]

    def test_the_first_value_wins_and_another_is_recorded_once(self, store):
        if not store.capabilities.first_write_wins:
            pytest.skip("this store overwrites, as its capabilities say")
        store.append([pack(1, (1, 0, 1.0))])
        done = store.append([pack(2, (1, 0, 2.0), received=T0 + 7), pack(3, (1, 4, 5.0), (1, 4, 6.0))])
        assert (done.stored, done.absorbed, done.conflicts) == (1, 0, 2)
        store.append([pack(None, (1, 0, 2.0))])
        assert self.all(store, 1) == [(1, 0.0, 1.0, 0), (1, 4.0, 5.0, 0)]
        listed = {(one.series, one.time_ms - T0, one.kept, one.refused) for one in store.conflicts()}
        assert listed == {(1, 0, 1.0, 2.0), (1, 4000, 5.0, 6.0)}
        assert store.health().conflicts == 2

    def test_a_value_where_none_was_is_a_conflict_too(self, store):
        if not store.capabilities.first_write_wins:
            pytest.skip("this store overwrites, as its capabilities say")
        store.append([pack(1, (1, 0, None, 7))])
        assert store.append([pack(2, (1, 0, 2.0))]).conflicts == 1
        assert self.all(store, 1) == [(1, 0.0, None, 7)]

    def test_messages_without_a_number_are_stored_and_repeats_absorbed(self, store):
        assert store.append([pack(None, (1, 0, 1.0))]).stored == 1
        self.count(store.append([pack(None, (1, 0, 1.0))]), stored=0, absorbed=1)
        assert self.all(store, 1) == [(1, 0.0, 1.0, 0)]
        assert store.ledger("gw") == {}

    def test_late_data_are_stored_and_do_not_become_the_newest(self, store):
        store.append([pack(1, (1, 100, 1.0))])
        self.count(store.append([pack(2, (1, 50, 2.0), (1, 100, 1.0))]), stored=1, absorbed=1)
        assert self.all(store, 1) == [(1, 50.0, 2.0, 0), (1, 100.0, 1.0, 0)]
        assert rows(store.last(ids(1))) == [(1, 100.0, 1.0, 0)]

    def test_last_answers_in_the_order_asked_and_leaves_out_the_silent(self, store):
        store.append([pack(1, (5, 1, 1.0), (7, 2, 2.0), (5, 3, 4.0))])
        assert rows(store.last(ids(7, 6, 5, 99_999))) == [(7, 2.0, 2.0, 0), (5, 3.0, 4.0, 0)]

    def test_ranges_are_half_open_and_can_be_limited(self, store):
        store.append([pack(1, *((1, t, float(t)) for t in range(5)))])
        found = store.range(ids(1), T0 + 1000, T0 + 4000)
        assert [t for _, t, _, _ in rows(found)] == [1.0, 2.0, 3.0]
        assert len(store.range(ids(1), *ALL_TIME, limit=2)) == 2

    def test_buckets_are_counted_from_the_start_asked_for(self, store):
        store.append([pack(1, (1, 7, 1.0), (1, 8, 3.0), (1, 16, 5.0), (1, 17, 9.0), (1, 12, 100.0, 5))])
        found = store.downsample(1, T0 + 7000, T0 + 17_000, 5000)
        assert ((found.start_ms - T0) / 1000).tolist() == [7.0, 12.0]
        assert found.n.tolist() == [2, 1]
        assert found.mean.tolist() == [2.0, 5.0]
        assert (found.low.tolist(), found.high.tolist()) == ([1.0, 5.0], [3.0, 5.0])
        assert (found.first.tolist(), found.last.tolist()) == ([1.0, 5.0], [3.0, 5.0])

    def test_series_are_grouped_by_label_over_a_half_open_time(self, store):
        store.append([pack(1, (1, 0, 1.0), (2, 0, 2.0), (3, 0, 10.0), (3, 60, 99.0), (4, 0, None, 4))])
        found = store.group(ids(1, 2, 3, 4), ids(7, 7, 8, 9), T0, T0 + 60_000)
        assert found.label.tolist() == [7, 8]
        assert (found.n.tolist(), found.total.tolist()) == ([2, 1], [3.0, 10.0])
        assert (found.low.tolist(), found.high.tolist()) == ([1.0, 10.0], [2.0, 10.0])

    @settings(max_examples=20, deadline=None, suppress_health_check=_INHERITED)
    @given(data=st.data())
    def test_sums_equal_those_from_scratch_whenever_hours_were_rolled_up(self, store, data):
        series = 1000 + next(_numbers) * 3
        # Where a store overwrites, a time must come only once to have one answer.
        once = {"unique_by": lambda row: row[:2]} if not self.exact else {}
        row = st.tuples(st.integers(0, 2), st.integers(0, 6 * 3600), st.floats(-100, 100) | st.none())
        oracle = MemoryReadings()
        rows_drawn = data.draw(st.lists(row, max_size=40, **once))
        for batch in (rows_drawn[at : at + 9] for at in range(0, len(rows_drawn), 9)):
            arrivals = [pack(None, *((series + s, t, v, 4 if v is None else 0) for s, t, v in batch))]
            store.append(arrivals)
            oracle.append(arrivals)
            if data.draw(st.booleans()):
                store.roll_up(T0 + data.draw(st.integers(0, 8 * 3_600_000)))
        start = data.draw(st.sampled_from([T0, T0 - T0 % 3_600_000, T0 + 7_000]))
        step = data.draw(st.sampled_from([3_600_000, 7_200_000, 1_000_000]))
        end = start + data.draw(st.integers(1, 8 * 3_600_000))
        same(store.downsample(series, start, end, step), oracle.downsample(series, start, end, step))
        mine = ids(series, series + 1, series + 2), ids(5, 4, 5)
        same(store.group(*mine, start, end), oracle.group(*mine, start, end))

    @pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
    def test_what_is_not_a_number_is_refused_and_nothing_of_the_batch_stored(self, store, value):
        bad = Arrival(PackKey("gw", "aaaaaaaa", 2), Points(*columns([1], [T0], [value], [0])))
        with pytest.raises(Invalid):
            store.append([pack(1, (1, 5, 1.0)), bad])
        assert self.all(store, 1) == []
        assert store.ledger("gw") == {}

    def test_a_missing_value_is_kept_with_its_reason(self, store):
        store.append([pack(1, (1, 0, None, 7))])
        assert self.all(store, 1) == [(1, 0.0, None, 7)]
        assert len(store.downsample(1, T0, T0 + 1000, 1000).n) == 0

    def test_the_ledger_knows_gaps_in_any_order_of_arrival(self, store):
        store.append([pack(3, (1, 3, 1.0)), pack(1, (1, 1, 1.0))])
        (spans,) = store.ledger("gw").values()
        assert (spans.watermark, spans.gaps()) == (1, [(2, 2)])
        store.append([pack(2), pack(9, skips=(4, 6))])
        (spans,) = store.ledger("gw").values()
        assert (spans.watermark, spans.gaps()) == (6, [(7, 8)])
        assert store.ledger("other") == {}

    def test_a_pack_that_comes_after_all_is_stored_although_it_was_reported_lost(self, store):
        store.append([pack(3, skips=(1, 2))])
        done = store.append([pack(2, (1, 0, 1.0))])
        assert (done.stored, done.known) == (1, frozenset())
        assert store.append([pack(2, (1, 0, 1.0))]).known

    def test_positions_tell_whose_readings_of_which_times_were_stored_after_another(self, store):
        first = store.append([pack(1, (1, 0, 1.0), (1, 60, 1.0)), pack(1, (9, 5, 1.0), gateway="other")])
        again = store.append([pack(1, (1, 0, 1.0), (1, 60, 1.0))])
        late = store.append([pack(2, (1, -300_000, 1.0), (2, -299_990, 1.0)), pack(3), pack(9, skips=(4, 6))])
        loose = store.append([pack(None, (3, 7, 1.0), sender="posts")])
        base = first.position - 1
        assert (again.position, late.position, loose.position) == (0, base + 2, base + 3)
        assert store.position() == loose.position
        assert sorted(covered(store, base, base + 1)) == [("gw", 0.0, 60.0), ("other", 5.0, 5.0)]
        assert covered(store, base + 1, base + 2) == [("gw", -300_000.0, -299_990.0)]
        assert covered(store, base + 2, base + 9) == [("posts", 7.0, 7.0)]
        assert covered(store, base + 3, base + 9) == []

    def test_an_append_of_nothing_new_takes_no_position(self, store):
        before = store.append([pack(1)]).position
        assert [store.append(one).position for one in ([], [pack(None)], [pack(1)])] == [0, 0, 0]
        assert store.append([pack(2)]).position == store.position() == before + 1

    @settings(max_examples=15, deadline=None, suppress_health_check=_INHERITED)
    @given(data=st.data())
    def test_what_was_stored_after_any_position_is_covered_and_no_gateway_without_it(self, store, data):
        base, round_ = store.position(), next(_numbers)
        row = st.tuples(st.integers(1, 2), st.integers(-400_000, 400_000), st.just(1.0))
        message = st.tuples(st.integers(0, 2), st.integers(1, 6) | st.none(), st.lists(row, max_size=3))
        kept, seen = [], set()
        for batch in data.draw(st.lists(st.lists(message, max_size=4), max_size=5)):
            arrivals = [
                pack(seq, *content, gateway=f"g{round_}-{owner}", sender="" if seq else f"g{round_}-{owner}")
                for owner, seq, content in batch
            ]
            done = store.append(arrivals)
            for one in arrivals:
                if one.key is None or one.key not in seen:
                    kept.append((done.position, one))
                    seen.add(one.key)
        after = min(base + data.draw(st.integers(0, 5)), store.position())
        told = store.stored(after, store.position())
        past = [one for position, one in kept if position > after and len(one.points)]
        for one in past:
            owner = one.key.gateway if one.key else one.sender
            for at in one.points.time_ms.tolist():
                assert any(name == owner and low <= at <= high for name, low, high in told)
        assert {name for name, _, _ in told} == {one.key.gateway if one.key else one.sender for one in past}

    def test_a_gateway_was_heard_when_its_latest_message_arrived(self, store):
        store.append([pack(1, (1, 999, 1.0), received=T0 + 5), pack(2, received=T0 + 3)])
        assert store.heard()["gw"] == T0 + 5
        store.append([pack(None, (1, 1, 2.0), received=T0 + 9, sender="by-http")])
        store.append([pack(3, (1, 2, 2.0), received=T0 + 8)])
        assert {name: store.heard()[name] for name in ("gw", "by-http")} == {"gw": T0 + 8, "by-http": T0 + 9}

    def test_epochs_are_counted_apart(self, store):
        store.append([pack(1, (1, 0, 1.0)), pack(1, (1, 1, 2.0), epoch="bbbbbbbb")])
        assert {epoch: spans.watermark for epoch, spans in store.ledger("gw").items()} == {
            "aaaaaaaa": 1,
            "bbbbbbbb": 1,
        }

    def test_old_readings_can_be_forgotten_per_series(self, store):
        hour = 3_600_000
        store.append([pack(1, (1, 0, 1.0), (1, 7200, 2.0), (2, 0, 3.0), (3, 0, 4.0))])
        assert store.delete_before(ids(1, 3), T0 + 7_200_000) == 2
        assert self.all(store, 1, 2, 3) == [(1, 7200.0, 2.0, 0), (2, 0.0, 3.0, 0)]
        assert rows(store.last(ids(3))) == []
        assert store.delete_before(ids(1), T0 + hour) == 0

    def test_readings_are_counted_by_the_hour_over_all_series_asked_for(self, store):
        hour = T0 // 3_600_000
        left = (hour + 1) * 3600 - T0 / 1000  # seconds of this hour that are left
        store.append(
            [pack(1, (1, 0, 1.0), (1, left - 0.001, None, 4), (1, left, 2.0), (2, left + 3600, 3.0), (3, 0, 4.0))]
        )
        hours, counts = store.count_by_hour(ids(1, 2, 2, 99))
        assert (hours.tolist(), counts.tolist()) == ([hour, hour + 1, hour + 2], [2, 1, 1])
        assert [len(one) for one in store.count_by_hour(ids())] == [0, 0]

    def test_only_whole_hours_are_forgotten_and_what_comes_too_late_for_them_is_absorbed(self, store):
        inside = T0 - T0 % 3_600_000 + 1_800_000 - T0  # half past the hour
        store.append([pack(1, (1, inside / 1000, 1.0), (1, inside / 1000 + 3600, 2.0))])
        assert store.delete_before(ids(1), T0 + inside + 3_600_001) == 1
        late = store.append([pack(2, (1, inside / 1000 - 1, 9.0), (2, inside / 1000, 9.0))])
        self.count(late, stored=1, absorbed=1)
        assert self.all(store, 1) == [(1, inside / 1000 + 3600, 2.0, 0)]

    def test_an_empty_append_and_empty_questions_are_fine(self, store):
        assert store.append([]).stored == 0
        assert store.append([pack(1)]).stored == 0
        assert len(store.last(ids())) == 0
        assert len(store.range(ids(), *ALL_TIME)) == 0
        assert store.health().ok

    @settings(max_examples=25, deadline=None, suppress_health_check=_INHERITED)
    @given(data=st.data())
    def test_it_ends_in_the_same_state_as_a_dictionary(self, store, data):
        gateway = f"gw-{next(_numbers)}"
        base = next(_numbers) * 10
        values = [None, 1.0, 2.0] if self.exact else [1.0]
        row = st.tuples(st.integers(0, 2), st.integers(0, 12), st.sampled_from(values))
        numbered = st.tuples(st.integers(1, 9) | st.none(), st.lists(row, max_size=6))
        oracle = MemoryReadings()
        for batch in data.draw(st.lists(st.lists(numbered, max_size=4), max_size=5)):
            arrivals = [
                pack(
                    seq,
                    *((base + s, t, v, 4 if v is None else 0) for s, t, v in content),
                    gateway=gateway,
                    digest=str(content).encode()[-8:].rjust(8),
                )
                for seq, content in batch
            ]
            done, wanted = store.append(arrivals), oracle.append(arrivals)
            self.count(done, wanted.stored, wanted.absorbed, wanted.conflicts)
            assert (done.known, done.reused) == (wanted.known, wanted.reused)
        mine = base, base + 1, base + 2
        assert self.all(store, *mine) == self.all(oracle, *mine)
        assert rows(store.last(ids(*mine))) == rows(oracle.last(ids(*mine)))
        assert ranges(store.ledger(gateway)) == ranges(oracle.ledger(gateway))
        told = [(one.series, one.time_ms, one.refused) for one in store.conflicts(limit=10**6) if one.series in mine]
        assert sorted(told, key=str) == sorted(((c.series, c.time_ms, c.refused) for c in oracle.conflicts()), key=str)


class TestMemoryReadings(ReadingsContract):
    def open(self, place):
        return MemoryReadings()


@pytest.fixture(scope="module")
def influx(need_program, tmp_path_factory):
    need_program("influxd")
    need_program("nginx")
    with Influx(tmp_path_factory.mktemp("influx")) as server:
        yield server


class TestInfluxReadings(ReadingsContract):
    """On a real InfluxDB 1.6.7; its 2.x and 3 are written to their documentation only."""

    exact = False

    @pytest.fixture(autouse=True)
    def server(self, influx):
        self.influx = influx

    def open(self, place):
        engine = open_database(f"sqlite:///{place / 'ledger.db'}")
        return open_readings(f"{self.influx.url}/test_{next(_numbers)}", database=engine)

    def test_the_last_value_wins_as_its_capabilities_say(self, store):
        store.append([pack(1, (1, 0, 1.0))])
        store.append([pack(2, (1, 0, 2.0))])
        assert self.all(store, 1) == [(1, 0.0, 2.0, 0)]
        assert not store.capabilities.first_write_wins
        assert store.conflicts() == []

    def test_nothing_is_known_while_the_server_is_away_and_all_is_there_when_it_returns(self, store):
        store.append([pack(1, (1, 0, 1.0))])
        self.influx.kill()
        with pytest.raises(StoreUnavailable):
            store.append([pack(2, (1, 1, 2.0))])
        with pytest.raises(StoreUnavailable):
            store.range(ids(1), *ALL_TIME)
        assert not store.health().ok
        assert store.ledger("gw")["aaaaaaaa"].watermark == 1
        self.influx.start()
        assert store.append([pack(1, (1, 0, 1.0)), pack(2, (1, 1, 2.0))]).known == {PackKey("gw", "aaaaaaaa", 1)}
        assert self.all(store, 1) == [(1, 0.0, 1.0, 0), (1, 1.0, 2.0, 0)]
        assert store.ledger("gw")["aaaaaaaa"].watermark == 2

    def test_a_reading_that_the_server_refuses_is_named_and_the_rest_is_stored(self, store):
        store.append([pack(1, (1, 0, 1.0))])
        # Somebody else has written a text where readings have numbers: a clash of types for that shard only.
        day = 86_400_000 * 30
        store._write_api.write(
            bucket=store._database, record=b'reading,s=9 v="text" %d' % (T0 + day), write_precision="ms"
        )
        done = store.append([pack(2, (9, day / 1000 + 1, 2.0), (1, 1, 3.0))])
        assert [(series, at) for series, at, _ in done.rejected] == [(9, T0 + day + 1000)]
        assert "conflict" in done.rejected[0][2]
        assert self.all(store, 1) == [(1, 0.0, 1.0, 0), (1, 1.0, 3.0, 0)]

    def test_a_database_that_is_not_there_is_made_before_much_is_written(self, store):
        many = [(series, 0, 1.0) for series in range(5000)]
        assert store.append([pack(1, *many)]).stored == 5000
        store._ask(f'DROP DATABASE "{store._database}"', write=True)
        with pytest.raises(StoreUnavailable):
            store.append([pack(2, *many)])
        assert store.append([pack(2, *many)]).stored == 5000

    def test_two_processes_share_one_ledger(self, store, tmp_path):
        other = open_readings(f"{self.influx.url}/{store._database}", database=store._ledger)
        store.append([pack(1, (1, 0, 1.0)), pack(3, (1, 3, 1.0))])
        other.append([pack(2, (1, 2, 1.0))])
        assert store.ledger("gw")["aaaaaaaa"].watermark == other.ledger("gw")["aaaaaaaa"].watermark == 3
        assert other.append([pack(1, (1, 0, 1.0))]).known
        other.close()

    def test_the_ledger_of_a_long_life_is_folded(self, store):
        store.append([pack(n) for n in range(1, 1203)])
        assert store.ledger("gw")["aaaaaaaa"].ranges() == [(1, 1202)]
        store.append([pack(1204), pack(1206, skips=(1205, 1205))])
        assert store.ledger("gw")["aaaaaaaa"].ranges() == [(1, 1202), (1204, 1206)]
        assert store.append([pack(5)]).known


# A program that stores packs of fifty readings for ever and says each number once it is durable.
_WRITER = """
import sys
from pathlib import Path
import numpy as np
from cloud.telemetry.duckdb_readings import DuckReadings
from cloud.telemetry.store import Arrival, PackKey, Points
store, seq = DuckReadings(Path(sys.argv[1])), int(sys.argv[2])
while True:
    seq += 1
    rows = np.arange(50)
    points = Points(rows, np.full(50, seq * 1000), rows + seq / 8, np.zeros(50, dtype=np.uint8))
    store.append([Arrival(PackKey("gw", "aaaaaaaa", seq), points)])
    print(seq, flush=True)
"""


# Files may grow to 1.5 MB until a checkpoint has failed for it; then to any size. Prints packs confirmed and refusals.
_FULL_DISK = """
import json, resource, signal, sys
from pathlib import Path
import numpy as np
from cloud.telemetry.duckdb_readings import DuckReadings
from cloud.telemetry.store import Arrival, PackKey, Points, StoreUnavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store, chance = DuckReadings(Path(sys.argv[1])), np.random.default_rng(1)
store._writer.execute("pragma wal_autocheckpoint='600KB'").fetchall()
rows = np.arange(20_000)
refused, seq = 0, 1
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
while seq <= 12:
    points = Points(rows % 1000, rows // 1000 + seq * 1000, chance.random(20_000), np.zeros(20_000, dtype=np.uint8))
    try:
        store.append([Arrival(PackKey("gw", "aaaaaaaa", seq), points)])
        seq += 1
    except StoreUnavailable:
        refused += 1
        assert refused < 20 and store.health().ok is (not store._broken)
        if refused == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps([store.ledger("gw")["aaaaaaaa"].watermark, refused]))
"""


class TestDuckReadings(ReadingsContract):
    def open(self, place):
        return DuckReadings(place / "readings.duckdb")

    def test_what_was_confirmed_is_whole_after_every_sigkill(self, tmp_path):
        last = 0
        for wanted in (5, 12):
            command = [sys.executable, "-c", _WRITER, tmp_path / "readings.duckdb", str(last)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
                confirmed = [int(writer.stdout.readline()) for _ in range(wanted)]
                writer.kill()
            store = self.open(tmp_path)
            spans = store.ledger("gw")["aaaaaaaa"]
            assert spans.ranges() == [(1, spans.watermark)]
            assert confirmed[-1] <= spans.watermark <= confirmed[-1] + 5
            found = store.range(np.arange(50), *ALL_TIME)
            assert len(found) == 50 * spans.watermark
            np.testing.assert_array_equal(found.value, found.series + found.time_ms / 8000)
            last = spans.watermark
            store.close()

    def test_a_disk_that_was_full_for_a_while_is_survived_and_nothing_confirmed_is_lost(self, tmp_path):
        command = [sys.executable, "-c", _FULL_DISK, tmp_path / "readings.duckdb"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        confirmed, refused = json.loads(done.stdout)
        assert refused > 0, "the disk was never full"
        store = self.open(tmp_path)
        assert store.ledger("gw")["aaaaaaaa"].ranges() == [(1, confirmed)]
        assert store.health().readings == 20_000 * confirmed
        store.close()

    def test_a_compacted_file_is_smaller_and_says_the_same(self, tmp_path):
        store = self.open(tmp_path)
        for minute in range(20):
            store.append([pack(minute + 1, *((s, minute * 60, s + minute / 8) for s in range(1, 2001)))])
        store.roll_up(T0 + 7_200_000)
        store.delete_before(ids(*range(1000, 2001)), T0 + 7_200_000)
        before = self.all(store, 1, 2, 1000), ranges(store.ledger("gw")), store.health().readings
        store.compact()
        assert (self.all(store, 1, 2, 1000), ranges(store.ledger("gw")), store.health().readings) == before
        assert store.append([pack(5), pack(21, (1, 5000, 1.0))]).known
        store.close()
        again = self.open(tmp_path)
        assert again.health().readings == before[2] + 1
        assert len(again.downsample(1500, T0 - T0 % 3_600_000, T0 + 7_200_000, 3_600_000).n) > 0
        again.close()

    def test_a_file_of_before_positions_is_taken_over(self, tmp_path):
        store = self.open(tmp_path)
        store.append([pack(1, (1, 0, 1.0))])
        for name in ("position", "low", "high"):
            store._writer.execute(f"alter table pack drop column {name}").fetchall()
        store._writer.execute("alter table loose drop column received").fetchall()
        store.close()
        again = self.open(tmp_path)
        assert (again.position(), again.ledger("gw")["aaaaaaaa"].watermark) == (0, 1)
        assert again.append([pack(2, (1, 1, 2.0))]).position == 1
        again.append([pack(None, (1, 2, 3.0), received=T0 + 7, sender="by-http")])
        again.compact()
        assert (again.position(), covered(again, 0, 1)) == (2, [("gw", 1.0, 1.0)])
        again.close()
        last = self.open(tmp_path)
        assert last.heard() == {"gw": T0, "by-http": T0 + 7}
        last.close()

    def test_everything_is_there_after_opening_again(self, tmp_path):
        store = self.open(tmp_path)
        store.append([pack(1, (1, 0, 1.0), (1, 1, None, 4)), pack(2, (1, 0, 2.0)), pack(5, skips=(3, 3))])
        store.append([pack(9, (1, 50, 1.0), gateway="other")])
        store.close()
        again = self.open(tmp_path)
        assert self.all(again, 1) == [(1, 0.0, 1.0, 0), (1, 1.0, None, 4), (1, 50.0, 1.0, 0)]
        assert rows(again.last(ids(1))) == [(1, 50.0, 1.0, 0)]
        assert again.ledger("gw")["aaaaaaaa"].ranges() == [(1, 3), (5, 5)]
        assert (again.position(), covered(again, 1, 9)) == (2, [("other", 50.0, 50.0)])
        assert again.append([pack(1, (1, 0, 1.0))]).stored == 0
        assert again.append([pack(1, (1, 0, 1.0), digest=b"another!")]).reused
        assert again.append([pack(None, (1, 1, 8.0))]).conflicts == 1
        again.close()
