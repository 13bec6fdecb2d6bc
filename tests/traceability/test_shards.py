"""A year's log begins with the last head of the year before."""

from datetime import datetime

import pytest

from traceability.keys import SigningKey
from traceability.ledger import BadLedger, Ledger
from traceability.notes import Checkpoint
from traceability.shards import YearlyLedgers, begin_shard, previous_head, year_of
from traceability.stores import MemoryEntries, MemoryHead, MemoryTiles


def ms(text):
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def open_year(stores):
    def opened(year):
        kept = stores.setdefault(year, (MemoryEntries(), MemoryTiles(), MemoryHead()))
        return Ledger(*kept, SigningKey.new(f"trace.example/{year}", random=lambda n: b"%d" % year * (n // 4)))

    return opened


def test_the_year_is_that_of_china():
    assert year_of(ms("2026-12-31T23:59:59+08:00")) == 2026
    assert year_of(ms("2026-12-31T16:00:00+00:00")) == 2027


def test_a_new_year_begins_with_the_last_head_of_the_old_one():
    stores = {}
    yearly = YearlyLedgers(open_year(stores), now_ms=ms("2026-11-22T10:00:00+08:00"))
    yearly.at(ms("2026-12-31T23:00:00+08:00")).append([b"a", b"b"])
    new_year = yearly.at(ms("2027-01-01T00:00:00+08:00"))
    assert new_year.origin == "trace.example/2027"
    linked = previous_head(new_year.entry(0))
    assert linked.whole == stores[2026][2].read()
    assert Checkpoint.parse(linked.text).size == 2
    assert yearly.at(ms("2026-12-31T23:59:00+08:00")) is new_year
    yearly.close()
    again = YearlyLedgers(open_year(stores), now_ms=ms("2027-05-01T00:00:00+08:00"))
    assert again.at(ms("2027-05-01T00:00:00+08:00")).size == 1
    again.close()


def test_a_crash_between_founding_and_linking_a_year_is_made_good():
    stores = {}
    with open_year(stores)(2026) as old:
        old.append([b"a"])
    open_year(stores)(2027).close()
    yearly = YearlyLedgers(open_year(stores), now_ms=ms("2027-01-01T08:00:00+08:00"))
    assert previous_head(yearly.at(0).entry(0)).whole == stores[2026][2].read()
    yearly.close()


def test_a_log_cannot_be_linked_to_two_heads():
    stores = {}
    with open_year(stores)(2027) as shard:
        receipt = begin_shard(shard, "one head")
        assert begin_shard(shard, "one head") == receipt
        with pytest.raises(BadLedger, match="does not begin"):
            begin_shard(shard, "another head")


def test_the_first_log_of_all_has_no_head_before_it():
    assert previous_head(b'{"format":"tianmai-leaf@1"}') is None
    with pytest.raises(BadLedger, match="no head"):
        previous_head(b"tianmai-shard@1\nrubbish")
