"""A year's log begins with the last head of the year before, whatever fails at the turn."""

from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceability.audit import audit
from traceability.keys import SigningKey
from traceability.ledger import BadLedger, Ledger
from traceability.merkle import leaf_hash, verify_consistency, verify_inclusion
from traceability.notes import Checkpoint, Note
from traceability.shards import (
    MemoryYears,
    YearlyLedgers,
    joint,
    previous_head,
    shard_name,
    shard_origin,
    spans_of,
    year_of,
)
from traceability.stores import MemoryEntries, MemoryHead, MemoryTiles, StoreError

LOG = "trace.example/log"
KEY = SigningKey.new(LOG, random=lambda n: b"k" * n)


def ms(text):
    return int(datetime.fromisoformat(text).timestamp() * 1000)


AUTUMN, NEW_YEAR = ms("2026-11-22T10:00:00+08:00"), ms("2027-01-01T00:00:00+08:00")
YEARS = [ms(f"{year}-06-01T00:00:00+08:00") for year in (2026, 2027, 2028)]


class Plan:
    """Lets writes pass until its number is up; that one fails, before the deed or after it."""

    def __init__(self, fails_at=0, *, after=False):
        self.left, self.after, self.writes = fails_at, after, 0

    def run(self, deed, args):
        self.left -= 1
        self.writes += 1
        if self.left != 0:
            return deed(*args)
        if self.after:
            deed(*args)
        raise StoreError("the disk said no")


class Watched:
    """A store whose writes come by a plan."""

    def __init__(self, store, plan):
        self._store, self._plan = store, plan

    def __getattr__(self, name):
        deed = getattr(self._store, name)
        if name not in {"append", "write", "replace", "drop", "begin"}:
            return deed
        return lambda *args: self._plan.run(deed, args)


class Kept:
    """What lasts beyond a crash: journal, years, and the files of every shard."""

    def __init__(self):
        self.entries = MemoryEntries()
        self.years = MemoryYears(self.entries)
        self.files = {}

    def opened(self, now_ms, plan=None, key=KEY, former=()):
        plan = plan or Plan()

        def open_shard(span, entries):
            tiles, head = self.files.setdefault(span.name, (MemoryTiles(), MemoryHead()))
            return Ledger(
                Watched(entries, plan),
                Watched(tiles, plan),
                Watched(head, plan),
                key,
                origin=shard_origin(LOG, span.name),
                former=former,
                first=span.first,
            )

        return YearlyLedgers(self.entries, Watched(self.years, plan), open_shard, now_ms=now_ms)

    def head(self, name):
        return Checkpoint.parse(Note.parse(self.files[name][1].read()).text)

    def assert_whole(self, acknowledged, seen=()):
        """Every shard is as signed, the joints fit, and every acknowledged entry is proven at its place."""
        spans = spans_of(self.years.begun())
        for span in spans:
            tiles, head = self.files[span.name]
            assert audit(span.of(self.entries), tiles, head.read(), KEY.verifier) == ()
        for before, span in pairwise(spans):
            last = Checkpoint.parse(previous_head(self.entries.read(span.first, span.first + 1)[0]).text)
            assert last == self.head(before.name)
            assert last.size == span.first - before.first
        yearly = self.opened(0)
        for entry, receipt in acknowledged:
            shard = yearly.holding(receipt.place)
            head, proof = self.head(shard.span.name), shard.ledger.prove(receipt.place - shard.span.first)
            verify_inclusion(leaf_hash(entry), proof.index, head.size, proof.hashes, head.root)
        for old in seen:
            ledger = next(yearly.shard(span).ledger for span in spans if shard_origin(LOG, span.name) == old.origin)
            new = Checkpoint.parse(Note.parse(ledger.checkpoint()).text)
            verify_consistency(old.size, new.size, ledger.consistency(old.size), old.root, new.root)
        yearly.close()


def test_the_year_is_that_of_china():
    assert year_of(ms("2026-12-31T23:59:59+08:00")) == 2026
    assert year_of(ms("2026-12-31T16:00:00+00:00")) == 2027


def test_a_shard_is_named_by_its_year_and_the_first_like_the_log():
    assert [shard_origin(LOG, name) for name in ("", "2027")] == [LOG, f"{LOG}/2027"]
    assert [shard_name(origin, LOG) for origin in (LOG, f"{LOG}/2027")] == ["", "2027"]
    for stranger in (f"{LOG}/27", f"{LOG}/../2027", "other/2027", f"{LOG}2027", f"{LOG}/2027/"):
        assert shard_name(stranger, LOG) is None


def test_a_new_year_begins_with_the_last_head_of_the_old_one_and_goes_on_counting_places():
    kept = Kept()
    yearly = kept.opened(AUTUMN)
    first = yearly.at(NEW_YEAR - 1)
    assert [receipt.place for receipt in first.ledger.append([b"a", b"b"])] == [0, 1]
    second = yearly.at(NEW_YEAR)
    assert second.ledger.origin == f"{LOG}/2027"
    assert previous_head(second.ledger.entry(0)).whole == kept.files[""][1].read()
    (receipt,) = second.ledger.append([b"c"])
    assert (receipt.index, receipt.place) == (1, 3)
    assert [yearly.holding(place).span.name for place in range(4)] == ["", "", "2027", "2027"]
    assert yearly.at(NEW_YEAR - 60_000) is second  # a clock that went back
    yearly.close()
    kept.assert_whole([(b"c", receipt)])


def test_a_year_that_is_over_takes_nothing_any_more():
    kept = Kept()
    yearly = kept.opened(AUTUMN)
    old = yearly.at(AUTUMN)
    old.ledger.append([b"a"])
    yearly.at(NEW_YEAR)
    with pytest.raises(BadLedger, match="closed"):
        old.ledger.append([b"b"])
    with pytest.raises(StoreError, match="closed"):
        yearly.holding(0).ledger.append([b"b"])
    yearly.close()
    assert kept.head("").size == 1


def test_a_log_that_stood_still_for_a_year_links_to_the_last_year_it_had():
    kept = Kept()
    kept.opened(YEARS[0]).close()
    again = kept.opened(YEARS[0])
    again.at(YEARS[0]).ledger.append([b"a"])
    again.close()
    late = kept.opened(YEARS[2])
    assert late.at(YEARS[2]).ledger.origin == f"{LOG}/2028"
    late.close()
    kept.assert_whole([])


def test_a_year_without_any_entry_is_closed_like_any_other():
    kept = Kept()
    yearly = kept.opened(YEARS[0])
    for now in YEARS[1:]:
        yearly.at(now)
    (receipt,) = yearly.at(YEARS[2]).ledger.append([b"a"])
    assert receipt.place == 2
    assert [yearly.holding(place).span.year for place in range(3)] == [2027, 2028, 2028]
    yearly.close()
    kept.assert_whole([(b"a", receipt)])


def test_of_many_years_each_is_proven_whenever_it_is_asked_for():
    kept, acknowledged = Kept(), []
    yearly = kept.opened(YEARS[0])
    for year in range(2026, 2035):
        ledger = yearly.at(ms(f"{year}-06-01T00:00:00+08:00")).ledger
        acknowledged += zip([b"%d" % year], ledger.append([b"%d" % year]), strict=True)
    for _, receipt in [*acknowledged, *reversed(acknowledged), *acknowledged]:
        shard = yearly.holding(receipt.place)
        assert shard.ledger.entry(receipt.index) == acknowledged[shard.span.year - 2026][0]
    assert yearly.holding(acknowledged[-1][1].place) is yearly.newest
    yearly.close()
    kept.assert_whole(acknowledged)


def test_a_journal_from_before_there_were_shards_is_the_first_of_them():
    kept = Kept()
    with Ledger(kept.entries, *kept.files.setdefault("", (MemoryTiles(), MemoryHead())), KEY) as plain:
        plain.append([b"a", b"b"])
    before = kept.head("")
    yearly = kept.opened(AUTUMN)
    assert yearly.at(AUTUMN).ledger.append([b"c"])[0].place == 2
    yearly.at(NEW_YEAR)
    yearly.close()
    kept.assert_whole([], [before])


def test_every_shard_is_signed_by_the_key_of_now_and_no_head_changes_by_that():
    kept, fresh = Kept(), SigningKey.new(LOG, random=lambda n: b"f" * n)
    yearly = kept.opened(AUTUMN)
    yearly.at(AUTUMN).ledger.append([b"a"])
    yearly.at(NEW_YEAR)
    yearly.close()
    text = kept.head("")
    yearly = kept.opened(NEW_YEAR, key=fresh, former=[KEY.verifier])
    for span in yearly.spans:
        yearly.shard(span)
    assert Note.parse(kept.files[""][1].read()).signed_by([fresh.verifier])
    assert kept.head("") == text
    yearly.close()


@settings(deadline=None, max_examples=100)
@given(
    fails_at=st.integers(1, 70),
    after=st.booleans(),
    reopen=st.booleans(),
    sizes=st.lists(st.integers(0, 270), min_size=3, max_size=3),
)
def test_any_write_around_the_turn_may_fail_and_the_logs_stay_one_chain(fails_at, after, reopen, sizes):
    kept, plan = Kept(), Plan(fails_at, after=after)
    acknowledged, seen = [], []
    yearly = None
    for now, size in zip(YEARS, sizes, strict=True):
        group = [b"%d/%d" % (now, n) for n in range(size)]
        for _ in range(2):  # who was refused tries again
            try:
                yearly = yearly or kept.opened(now, plan)
                shard = yearly.at(now)
                acknowledged += zip(group, shard.ledger.append(group), strict=True)
                seen.append(Checkpoint.parse(Note.parse(shard.ledger.checkpoint()).text))
                break
            except StoreError:
                if reopen and yearly is not None:  # as after a crash: nothing is finished, nothing given back
                    yearly = None
    yearly.close()
    assert len({receipt.place for _, receipt in acknowledged}) == sum(sizes)
    assert [year for year, _ in kept.years.begun()] == [2026, 2027, 2028]
    kept.assert_whole(acknowledged[::17], seen)


@pytest.mark.parametrize("after", [False, True], ids=["fails", "fails-but-persisted"])
def test_every_single_write_of_a_turn_may_fail_and_the_next_call_makes_it_good(after):
    def turn(plan):
        kept = Kept()
        yearly = kept.opened(YEARS[0])
        yearly.at(YEARS[0]).ledger.append([b"%d" % n for n in range(300)])
        yearly.close()
        yearly = kept.opened(YEARS[0], plan)
        while True:
            try:
                (receipt,) = yearly.at(YEARS[1]).ledger.append([b"new"])
                break
            except StoreError:
                continue
        yearly.close()
        kept.assert_whole([(b"new", receipt)])
        assert [span.end for span in spans_of(kept.years.begun())] == [300, None]

    counting = Plan()
    turn(counting)
    for fails_at in range(1, counting.writes + 1):
        turn(Plan(fails_at, after=after))


def test_the_first_log_of_all_has_no_head_before_it():
    assert previous_head(b'{"format":"tianmai-leaf@1"}') is None
    with pytest.raises(BadLedger, match="no head"):
        previous_head(joint("rubbish"))
