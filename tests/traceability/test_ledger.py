"""Whatever fails at whatever line, the log stays one tree, and what was acknowledged is in it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceability.keys import SigningKey
from traceability.ledger import BadLedger, Ledger, open_ledger
from traceability.merkle import HASH_BYTES, leaf_hash, verify_consistency, verify_inclusion
from traceability.notes import Checkpoint, Note
from traceability.stores import Batch, Conflict, MemoryEntries, MemoryHead, MemoryTiles, StoreError
from traceability.tiles import WIDTH, Growth, tile_name, unpack_bundle

KEY = SigningKey.new("log.example", random=lambda n: b"k" * n)


def open_in_memory(entries=None, tiles=None, head=None):
    return Ledger(entries or MemoryEntries(), tiles or MemoryTiles(), head or MemoryHead(), KEY)


def head_of(note):
    parsed = Note.parse(note)
    assert KEY.verifier in parsed.signed_by([KEY.verifier])
    return Checkpoint.parse(parsed.text)


def assert_whole(ledger, entries):
    """Every one of `entries` is provable under the signed head, and the head extends every older one."""
    head = head_of(ledger.checkpoint())
    assert head.size == ledger.size
    for entry in entries:
        (receipt,) = ledger.append([entry])
        head = head_of(ledger.checkpoint())
        proof = ledger.prove(receipt.index)
        verify_inclusion(leaf_hash(entry), receipt.index, proof.size, proof.hashes, head.root)
        assert ledger.entry(receipt.index) == entry


def test_receipts_are_provable_and_every_head_extends_the_one_before():
    with open_in_memory() as ledger:
        heads = [head_of(ledger.checkpoint())]
        for n in range(600):
            (receipt,) = ledger.append([b"event %d" % n])
            assert receipt.index == n
            heads.append(head_of(receipt.checkpoint))
        for old in heads[::37]:
            proof = ledger.consistency(old.size)
            verify_consistency(old.size, heads[-1].size, proof, old.root, heads[-1].root)
        for index in range(0, 600, 41):
            proof = ledger.prove(index, 599)
            verify_inclusion(leaf_hash(b"event %d" % index), index, 599, proof.hashes, heads[599].root)


def test_the_same_entry_twice_is_the_same_receipt():
    with open_in_memory() as ledger:
        first = ledger.append([b"a", b"b", b"a"])
        assert [receipt.index for receipt in first] == [0, 1, 0]
        assert ledger.append([b"b"]) == (first[1],)
        assert ledger.size == 2


def test_callers_of_one_moment_share_a_group():
    class Counting(MemoryEntries):
        calls = 0

        def append(self, batches):
            self.calls += 1
            held.wait(5)
            return super().append(batches)

    entries, held = Counting(), threading.Event()
    with open_in_memory(entries) as ledger:
        answers = [ledger.submit([b"%d" % n]) for n in range(64)]
        held.set()
        assert sorted(answer.result()[0].index for answer in answers) == list(range(64))
        assert entries.calls <= 3


def test_many_threads_get_each_their_own_place():
    with open_in_memory() as ledger, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: ledger.append([b"%d" % n])[0].index, range(400)))
    assert sorted(found) == list(range(400))


def test_one_bad_batch_does_not_harm_the_others():
    with open_in_memory() as ledger:
        good, bad = ledger.submit([b"good"]), ledger.submit([b""])
        assert good.result()[0].index == 0
        with pytest.raises(StoreError, match="1 to 65535 bytes"):
            bad.result()


class Failing:
    """A store whose n-th write fails, before the deed or after it."""

    def __init__(self, store, plan):
        self._store, self._plan = store, plan

    def __getattr__(self, name):
        deed = getattr(self._store, name)
        if name not in {"append", "write", "replace", "drop"}:
            return deed
        return lambda *args: self._plan.run(deed, args)


class Plan:
    def __init__(self, fails_at, *, after_the_deed):
        self.left, self.after = fails_at, after_the_deed

    def run(self, deed, args):
        self.left -= 1
        if self.left != 0:
            return deed(*args)
        if self.after:
            deed(*args)
        raise StoreError("the disk said no")


@settings(deadline=None, max_examples=150)
@given(
    fails_at=st.integers(1, 60),
    after=st.booleans(),
    groups=st.lists(st.integers(1, 300), min_size=2, max_size=8),
    reopen=st.booleans(),
)
def test_any_write_may_fail_and_the_log_stays_one_tree(fails_at, after, groups, reopen):
    entries, tiles, head = MemoryEntries(), MemoryTiles(), MemoryHead()
    plan = Plan(fails_at, after_the_deed=after)
    try:
        ledger = open_in_memory(Failing(entries, plan), Failing(tiles, plan), Failing(head, plan))
    except StoreError:
        ledger = open_in_memory(entries, tiles, head)
    acknowledged, seen = [], [head_of(ledger.checkpoint())]
    for number, size in enumerate(groups):
        group = [b"%d/%d" % (number, n) for n in range(size)]
        try:
            acknowledged += zip(group, ledger.append(group), strict=True)
        except StoreError:
            if reopen:
                ledger.close()
                ledger = open_in_memory(entries, tiles, head)
            acknowledged += zip(group, ledger.append(group), strict=True)  # the caller tries again
        seen.append(head_of(ledger.checkpoint()))
    ledger.close()
    with open_in_memory(entries, tiles, head) as again:
        last = head_of(again.checkpoint())
        assert last.size == len({entry for entry, _ in acknowledged}) == sum(groups)
        for old in seen:
            verify_consistency(old.size, last.size, again.consistency(old.size), old.root, last.root)
        for entry, receipt in acknowledged[::29]:
            proof = again.prove(receipt.index)
            verify_inclusion(leaf_hash(entry), receipt.index, last.size, proof.hashes, last.root)


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=4), lose=st.sampled_from(["tile", "head", "all"]))
def test_tiles_and_head_can_be_rebuilt_from_the_journal(sizes, lose):
    entries, tiles, head = MemoryEntries(), MemoryTiles(), MemoryHead()
    with open_in_memory(entries, tiles, head) as ledger:
        for number, size in enumerate(sizes):
            ledger.append([b"%d/%d" % (number, n) for n in range(size)])
        before, files = ledger.checkpoint(), dict(tiles.files)
    for name in list(tiles.files) if lose != "head" else ():
        if lose == "all" or name.startswith("tile/0"):
            del tiles.files[name]
    with open_in_memory(entries, tiles, head if lose == "tile" else MemoryHead()) as again:
        assert again.checkpoint() == before
        assert_whole(again, [b"0/0"])
    if lose == "all":
        assert tiles.files.items() >= {name: data for name, data in files.items() if ".p/" not in name}.items()


def test_an_older_journal_put_back_is_noticed():
    entries, head = MemoryEntries(), MemoryHead()
    with open_in_memory(entries, head=head) as ledger:
        ledger.append([b"a", b"b", b"c"])
    with pytest.raises(BadLedger, match="older journal") as told:
        open_in_memory(MemoryEntries([b"a", b"b"]), head=head)
    assert told.value.code == "rolled_back"


def test_a_changed_journal_is_noticed():
    entries, head = MemoryEntries(), MemoryHead()
    with open_in_memory(entries, head=head) as ledger:
        ledger.append([b"a", b"b", b"c"])
    with pytest.raises(BadLedger, match="not those"):
        open_in_memory(MemoryEntries([b"a", b"X", b"c"]), head=head)


def test_a_head_of_another_key_is_not_taken_over():
    stranger = SigningKey.new("log.example", random=lambda n: b"s" * n)
    note = Checkpoint("log.example", 0, head_of(open_in_memory().checkpoint()).root).sign(stranger).whole
    with pytest.raises(BadLedger, match="not signed by"):
        open_in_memory(head=MemoryHead(note))


def test_entries_that_another_hand_put_into_the_journal_are_taken_up():
    entries = MemoryEntries()
    with open_in_memory(entries) as ledger:
        ledger.append([b"a"])
        entries.append([Batch((b"stranger",))])
        (receipt,) = ledger.append([b"b"])
        assert receipt.index == 2
        assert_whole(ledger, [b"a", b"stranger", b"b"])


def test_two_writers_on_one_head_are_told():
    entries, tiles, head = MemoryEntries(), MemoryTiles(), MemoryHead()
    with open_in_memory(entries, tiles, head) as one, open_in_memory(MemoryEntries(), MemoryTiles(), head) as other:
        one.append([b"a"])
        with pytest.raises(Conflict):
            other.append([b"b"])


def test_files_may_follow_after_the_answer_and_are_there_at_the_end():
    entries, tiles, head = MemoryEntries(), MemoryTiles(), MemoryHead()
    with Ledger(entries, tiles, head, KEY, publish_every_s=60) as ledger:
        ledger.append([b"first"])
        receipts = ledger.append([b"%d" % n for n in range(700)])
        assert head_of(head.read()).size < 701
        assert head_of(receipts[0].checkpoint).size == 701
        assert_whole(ledger, [b"first", b"0", b"255", b"256", b"699"])
    assert head_of(head.read()).size == 701
    assert entries.count() == 701
    with open_in_memory(entries, tiles, head) as again:
        assert_whole(again, [b"first", b"699"])


def test_files_are_written_by_themselves_after_a_while():
    head = MemoryHead()
    with Ledger(MemoryEntries(), MemoryTiles(), head, KEY, publish_every_s=0.02) as ledger:
        ledger.append([b"a"])
        ledger.append([b"b"])
        deadline = time.monotonic() + 5
        while head_of(head.read()).size < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert head_of(head.read()).size == 2


def test_a_head_that_cannot_be_written_later_is_told_and_tried_again():
    head, plan = MemoryHead(), Plan(2, after_the_deed=False)
    with Ledger(MemoryEntries(), MemoryTiles(), Failing(head, plan), KEY, publish_every_s=0.02) as ledger:
        ledger.append([b"a"])
        ledger.append([b"b"])
    assert plan.left < 0
    assert head_of(head.read()).size == 2
    assert ledger.trouble is None


class Publishing:
    """Public stores whose n-th write of the publishing thread fails: that one alone, or with it all that follow."""

    def __init__(self, tiles, head, fails_at, *, after_the_deed=False, for_good=False):
        self.tiles, self.head, self.writes, self.publisher = tiles, head, 0, None
        self._fails_at, self._after, self._for_good = fails_at, after_the_deed, for_good

    def __getattr__(self, name):
        deed = getattr(self.head if name == "replace" else self.tiles, name)
        return lambda *args: self._run(deed, args)

    def _run(self, deed, args):
        if threading.current_thread() is threading.main_thread():  # a proof that mends a tile, or the opening
            return deed(*args)
        self.writes += 1
        fails = self.writes >= self._fails_at if self._for_good else self.writes == self._fails_at
        if not fails or self._after:
            deed(*args)
        if fails:
            raise StoreError("the disk said no")
        return None

    def store(self, reading):
        """One of the two stores: it is read as ever, and every write comes by here."""
        return type("Watched", (), {"read": reading.read, "__getattr__": lambda _, name: getattr(self, name)})()


def fetched(tiles, level, number, width):
    """A file as readers of tlog-tiles get it: a partial one that has gone meanwhile is in the full one."""
    partial = tiles.files.get(tile_name(level, number, width))
    return tiles.files[tile_name(level, number)] if partial is None else partial


def read_as_a_stranger(tiles, head):
    """The entries of the public files; they are all there, and make the tree the checkpoint speaks of."""
    checkpoint, entries = head_of(head.read()), []
    for first in range(0, checkpoint.size, WIDTH):
        width = min(WIDTH, checkpoint.size - first)
        entries += unpack_bundle(fetched(tiles, "entries", first // WIDTH, width))[:width]
        hashes = b"".join(map(leaf_hash, entries[first:]))
        assert fetched(tiles, 0, first // WIDTH, width)[: width * HASH_BYTES] == hashes
    assert Growth().grown(list(map(leaf_hash, entries)))[0].root == checkpoint.root
    return entries


PUBLISHED_GROUPS = (1, 200, 100, 300)


def publish_groups(public, entries, journal):
    """Append group by group, each published before the next, as far as the disk lets; the ledger is closed then."""
    tiles, head = public.store(public.tiles), public.store(public.head)
    with Ledger(journal, tiles, head, KEY, publish_every_s=0.001, retry_s=0.001) as ledger:
        for size in PUBLISHED_GROUPS:
            group = [b"%d" % n for n in range(len(entries), len(entries) + size)]
            receipts = ledger.append(group)
            entries += group
            assert receipts[-1].index == len(entries) - 1
            deadline = time.monotonic() + 5
            while head_of(public.head.read()).size < len(entries) and ledger.trouble is None:
                assert time.monotonic() < deadline
                time.sleep(0.0005)
            read_as_a_stranger(public.tiles, public.head)


def writes_of_publishing():
    public = Publishing(MemoryTiles(), MemoryHead(), 0)
    publish_groups(public, [], MemoryEntries())
    return public.writes


@pytest.mark.parametrize("after_the_deed", [False, True], ids=["fails", "fails-but-persisted"])
def test_every_write_of_the_publishing_thread_may_fail_once_and_nobody_is_told_a_lie(after_the_deed):
    for fails_at in range(1, writes_of_publishing() + 1):
        public, entries = Publishing(MemoryTiles(), MemoryHead(), fails_at, after_the_deed=after_the_deed), []
        publish_groups(public, entries, MemoryEntries())
        assert public.writes >= fails_at
        assert read_as_a_stranger(public.tiles, public.head) == entries


@pytest.mark.parametrize("after_the_deed", [False, True], ids=["fails", "fails-but-persisted"])
def test_a_disk_that_fails_for_good_while_publishing_costs_nothing_that_was_acknowledged(after_the_deed):
    for fails_at in range(1, writes_of_publishing() + 1):
        journal, tiles, head = MemoryEntries(), MemoryTiles(), MemoryHead()
        public = Publishing(tiles, head, fails_at, after_the_deed=after_the_deed, for_good=True)
        entries = []
        publish_groups(public, entries, journal)
        shown = head_of(head.read())
        with open_in_memory(journal, tiles, head) as again:
            assert read_as_a_stranger(tiles, head) == entries
            last = head_of(again.checkpoint())
            verify_consistency(shown.size, last.size, again.consistency(shown.size), shown.root, last.root)


def test_a_folder_holds_a_log_that_reads_as_static_files(tmp_path):
    with open_ledger(tmp_path, KEY) as ledger:
        ledger.append([b"%d" % n for n in range(300)])
        with pytest.raises(Conflict, match="in use"):
            open_ledger(tmp_path, KEY)
    public = tmp_path / "public"
    assert (public / "tile/0/000").stat().st_size == 8192
    assert (public / "tile/0/001.p/44").stat().st_size == 44 * 32
    assert unpack_bundle((public / "tile/entries/001.p/44").read_bytes())[-1] == b"299"
    assert head_of((public / "checkpoint").read_text("utf-8")).size == 300
    with open_ledger(tmp_path, KEY) as ledger:
        assert_whole(ledger, [b"0", b"255", b"256", b"299", b"new"])


def test_a_torn_last_write_is_set_aside_at_every_length(tmp_path):
    with open_ledger(tmp_path, KEY) as ledger:
        ledger.append([b"first", b"second"])
    journal, head = tmp_path / "journal", tmp_path / "public" / "checkpoint"
    kept, note = journal.read_bytes(), head.read_text("utf-8")
    with open_ledger(tmp_path, KEY) as ledger:
        ledger.append([b"third", b"fourth"])
    whole = journal.read_bytes()
    for length in range(len(kept), len(whole)):
        journal.write_bytes(whole[:length])
        head.write_text(note, "utf-8")
        with open_ledger(tmp_path, KEY) as ledger:
            assert ledger.size == 2
            assert ledger.append([b"fifth"])[0].index == 2


def test_damage_in_the_middle_of_the_journal_is_refused_with_its_place(tmp_path):
    with open_ledger(tmp_path, KEY) as ledger:
        ledger.append([b"first"])
        ledger.append([b"second"])
    journal = tmp_path / "journal"
    data = bytearray(journal.read_bytes())
    data[12] ^= 1
    journal.write_bytes(data)
    with pytest.raises(StoreError, match="damaged at byte 0"):
        open_ledger(tmp_path, KEY)


def test_there_is_no_proof_of_what_is_not_there():
    with open_in_memory() as ledger:
        ledger.append([b"a"])
        for call in (lambda: ledger.prove(1), lambda: ledger.prove(0, 2), lambda: ledger.consistency(2)):
            with pytest.raises(BadLedger, match=r"no (entry|tree)"):
                call()
