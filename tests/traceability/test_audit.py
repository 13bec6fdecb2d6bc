"""Six ways to tamper with a log, each found and located."""

import pytest

from traceability.audit import audit
from traceability.keys import SigningKey
from traceability.ledger import Ledger
from traceability.stores import MemoryEntries, MemoryHead, MemoryTiles, StoreError

KEY = SigningKey.new("log.example", random=lambda n: b"k" * n)
EVENTS = [b"event %d" % n for n in range(700)]


def make_log(events, tiles=None, head=None):
    entries, tiles, head = MemoryEntries(), tiles or MemoryTiles(), head or MemoryHead()
    with Ledger(entries, tiles, head, KEY) as ledger:
        kept = [ledger.append(events[:n])[0].checkpoint for n in (100, 300, len(events))]
    return entries, tiles, head.read(), kept


ENTRIES, TILES, HEAD, KEPT = make_log(EVENTS)


def found(entries, *, tiles=TILES, head=HEAD, kept=()):
    return [(each.code, each.index) for each in audit(entries, tiles, head, KEY.verifier, kept=kept)]


def test_an_untouched_log_has_no_finding():
    assert found(ENTRIES, kept=KEPT) == []


@pytest.mark.parametrize("place", [0, 255, 256, 699])
def test_an_edited_event_is_named(place):
    assert found(MemoryEntries([*EVENTS[:place], b"other", *EVENTS[place + 1 :]])) == [("edited", place)]


def test_exchanged_events_are_named():
    assert found(MemoryEntries([*EVENTS[:9], EVENTS[500], *EVENTS[10:500], EVENTS[9], *EVENTS[501:]])) == [("moved", 9)]


def test_a_removed_event_is_named():
    for filler in ([], [b"filler"]):
        assert found(MemoryEntries([*EVENTS[:300], *EVENTS[301:], *filler])) == [("removed", 300)]


def test_a_journal_that_ends_too_early_is_named():
    assert found(MemoryEntries(EVENTS[:300]), kept=KEPT) == [("rolled_back", 300), ("rolled_back", 300)]
    assert found(MemoryEntries()) == [("rolled_back", 0)]


def test_a_gap_in_the_journal_is_named():
    class Holed(MemoryEntries):
        def read(self, start, stop):
            if start <= 333 < stop:
                raise StoreError("entry 333 of the journal is missing")
            return super().read(start, stop)

    assert found(Holed(EVENTS)) == [("missing", 333)]


def test_a_log_put_back_as_a_whole_contradicts_a_kept_head():
    entries, tiles, head, _ = make_log(EVENTS[:200])
    assert found(entries, tiles=tiles, head=head) == []
    assert found(entries, tiles=tiles, head=head, kept=KEPT) == [("rolled_back", 200)]


def test_a_log_rewritten_and_signed_again_contradicts_a_kept_head_and_is_narrowed_down():
    entries, tiles, head, _ = make_log([*EVENTS[:150], b"other", *EVENTS[151:]])
    assert found(entries, tiles=tiles, head=head) == []
    assert found(entries, tiles=tiles, head=head, kept=KEPT) == [("forked", 100)]


def test_journal_and_tiles_changed_together_contradict_the_head():
    entries, tiles, _, _ = make_log([*EVENTS[:150], b"other", *EVENTS[151:]])
    assert found(entries, tiles=tiles) == [("rewritten", None)]


@pytest.mark.parametrize(
    ("name", "code", "index"),
    [("tile/0/001", "tile", 256), ("tile/0/002.p/188", "tile", 512), ("tile/1/000.p/2", "tile", 0),
     ("tile/entries/001", "bundle", 256)],
)  # fmt: skip
def test_a_copy_gone_bad_is_told_from_a_changed_event(name, code, index):
    for data in (None, b"", b"x" * 64):
        tiles = MemoryTiles()
        tiles.files = {each: held for each, held in TILES.files.items() if each != name}
        if data is not None:
            tiles.files[name] = data
        assert found(ENTRIES, tiles=tiles) == [(code, index)]


def test_a_head_that_was_changed_is_no_head():
    assert found(ENTRIES, head=HEAD.replace("\n700\n", "\n701\n")) == [("head", None)]
    assert found(ENTRIES, head=None) == [("head", None)]
    assert found(ENTRIES, kept=["rubbish"]) == [("head", None)]
