"""The promises of a ledger's stores, kept by each adapter."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.database import open_database
from cloud.provenance.journal import SqlJournal
from cloud.provenance.store import metadata
from cloud.provenance.years import SqlYears
from traceability import TraceError
from traceability.shards import MemoryYears, Slice
from traceability.stores import (
    Batch,
    Conflict,
    DirectoryEntries,
    DirectoryTiles,
    FileHead,
    MemoryEntries,
    MemoryHead,
    MemoryTiles,
    StoreError,
)

# One property for all adapters: hypothesis sees it run by several classes and with a store that outlives an example.
_INHERITED = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)
ENTRIES = st.lists(st.binary(min_size=1, max_size=40), max_size=6).map(tuple)


class EntryStoreContract:
    """`open` gives the journal of `place`; `again` what another process finds there."""

    def open(self, place):
        raise AssertionError("each adapter says how it is opened")

    def again(self, place, store):
        store.close()
        return self.open(place)

    @pytest.fixture
    def place(self, tmp_path):
        return tmp_path

    @pytest.fixture
    def store(self, place):
        store = self.open(place)
        yield store
        store.close()

    def test_entries_get_the_next_places_without_gaps(self, store):
        assert store.count() == 0
        assert list(store.append([Batch((b"a", b"b")), Batch((b"c",))])) == [(0, 1), (2,)]
        assert store.count() == 3
        assert list(store.read(0, 3)) == [b"a", b"b", b"c"]
        assert list(store.read(1, 1)) == []

    def test_a_known_entry_keeps_its_place_in_the_same_call_too(self, store):
        store.append([Batch((b"a",))])
        assert list(store.append([Batch((b"b", b"a", b"b")), Batch((b"b", b"c"))])) == [(1, 0, 1), (1, 2)]
        assert list(store.read(0, store.count())) == [b"a", b"b", b"c"]

    def test_an_empty_batch_changes_nothing(self, store):
        assert list(store.append([Batch(())])) == [()]
        assert store.count() == 0

    def test_what_is_not_there_is_not_read(self, store):
        store.append([Batch((b"a",))])
        with pytest.raises(StoreError):
            store.read(0, 2)

    @settings(suppress_health_check=_INHERITED, max_examples=15)
    @given(calls=st.lists(st.lists(ENTRIES, max_size=3), max_size=4))
    def test_places_lead_back_to_their_entries(self, store, calls):
        for batches in calls:
            stored = store.append([Batch(entries) for entries in batches])
            for entries, places in zip(batches, stored, strict=True):
                assert [store.read(place, place + 1)[0] for place in places] == list(entries)

    def test_large_calls_come_back_as_they_were(self, store):
        entries = tuple(b"%d" % n + b"x" * (n % 700) for n in range(1500))
        assert list(store.append([Batch(entries)])) == [tuple(range(1500))]
        assert tuple(store.read(0, 1500)) == entries

    def test_readers_see_whole_calls_while_one_writes(self, store):
        with ThreadPoolExecutor(4) as pool:
            reads = [pool.submit(lambda: store.read(0, store.count())) for _ in range(20)]
            for n in range(20):
                store.append([Batch((b"%d" % n,))])
            for read in reads:
                found = list(read.result())
                assert found == [b"%d" % n for n in range(len(found))]

    def test_another_process_finds_what_was_acknowledged(self, place, store):
        store.append([Batch((b"a",)), Batch((b"b", b"c"))])
        found = self.again(place, store)
        assert list(found.read(0, found.count())) == [b"a", b"b", b"c"]
        assert list(found.append([Batch((b"c", b"d"))])) == [(2, 3)]
        found.close()


class TestMemoryEntries(EntryStoreContract):
    def open(self, place):
        return MemoryEntries()

    def again(self, place, store):
        return MemoryEntries(store.read(0, store.count()))


class TestDirectoryEntries(EntryStoreContract):
    def open(self, place):
        return DirectoryEntries(place / "journal")

    @pytest.fixture
    def store(self, place):
        return self.open(place)

    def test_a_companion_is_refused_and_harms_nobody(self, store):
        stored = store.append([Batch((b"a",), companion=object()), Batch((b"b",))])
        assert isinstance(stored[0], TraceError)
        assert stored[1] == (0,)


class SqlEntriesContract(EntryStoreContract):
    @pytest.fixture
    def place(self, url):
        engine = open_database(url)
        metadata.create_all(engine)
        yield engine
        engine.dispose()

    def open(self, place):
        return SqlJournal(place)


class TestSqliteEntries(SqlEntriesContract):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path / 'journal.db'}"


class TestPostgresEntries(SqlEntriesContract):
    @pytest.fixture
    def url(self, postgres_url):
        return postgres_url


class TestSlice(EntryStoreContract):
    """A later year's part of a journal promises what a journal promises."""

    @pytest.fixture
    def place(self):
        journal = MemoryEntries()
        journal.append([Batch((b"of the year before", b"and its last"))])
        return journal

    def open(self, place):
        return Slice(place, 2)

    def test_an_entry_of_the_year_before_is_not_stored_again(self, place, store):
        assert list(store.append([Batch((b"a", b"and its last"))])) == [(0, -1)]
        assert (store.count(), place.count()) == (1, 3)

    def test_a_year_that_is_over_takes_nothing_and_shows_nothing_of_the_next(self, place, store):
        store.append([Batch((b"a", b"b", b"c"))])
        over = Slice(place, 2, 4)
        assert (over.count(), list(over.read(0, 2))) == (2, [b"a", b"b"])
        with pytest.raises(StoreError, match="closed"):
            over.append([Batch((b"d",))])
        with pytest.raises(StoreError):
            over.read(0, 3)
        assert place.count() == 5


class YearsContract:
    """`open` gives a journal and its years."""

    def open(self, place):
        raise AssertionError("each adapter says how it is opened")

    @pytest.fixture
    def place(self):
        return None

    def test_years_are_told_in_their_order_with_their_first_places(self, place):
        journal, years = self.open(place)
        assert list(years.begun()) == []
        years.begin(2026, 0, None)
        journal.append([Batch((b"a", b"b"))])
        years.begin(2027, 2, b"joint")
        assert list(years.begun()) == [(2026, 0), (2027, 2)]
        assert list(journal.read(0, journal.count())) == [b"a", b"b", b"joint"]
        assert list(journal.append([Batch((b"c", b"joint"))])) == [(3, 2)]

    def test_a_year_that_would_not_begin_at_the_next_place_does_not_begin(self, place):
        journal, years = self.open(place)
        years.begin(2026, 0, None)
        journal.append([Batch((b"a", b"b"))])
        with pytest.raises(Conflict, match="next place is 2"):
            years.begin(2027, 1, b"joint")
        assert (list(years.begun()), journal.count()) == ([(2026, 0)], 2)


class TestMemoryYears(YearsContract):
    def open(self, place):
        journal = MemoryEntries()
        return journal, MemoryYears(journal)


class SqlYearsContract(YearsContract):
    @pytest.fixture
    def place(self, url):
        engine = open_database(url)
        yield engine
        engine.dispose()

    def open(self, place):
        assert list(SqlYears(place).begun()) == []  # before there is a table
        metadata.create_all(place)
        return SqlJournal(place), SqlYears(place)

    def test_a_year_begins_once(self, place):
        journal, years = self.open(place)
        years.begin(2026, 0, None)
        journal.append([Batch((b"a",))])
        years.begin(2027, 1, b"joint")
        with pytest.raises(StoreError):
            years.begin(2027, 2, b"another")
        assert journal.count() == 2


class TestSqliteYears(SqlYearsContract):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path / 'journal.db'}"


class TestPostgresYears(SqlYearsContract):
    @pytest.fixture
    def url(self, postgres_url):
        return postgres_url


class TileStoreContract:
    def open(self, place):
        raise AssertionError("each adapter says how it is opened")

    def test_a_file_is_read_as_it_was_written(self, tmp_path):
        tiles = self.open(tmp_path)
        assert tiles.read("tile/0/000") is None
        tiles.write("tile/0/000", b"first")
        tiles.write("tile/0/x001/000.p/7", b"seven")
        assert (tiles.read("tile/0/000"), tiles.read("tile/0/x001/000.p/7")) == (b"first", b"seven")

    def test_a_folder_is_dropped_whole_and_alone(self, tmp_path):
        tiles = self.open(tmp_path)
        for name in ("tile/0/000.p/1", "tile/0/000.p/2", "tile/0/000"):
            tiles.write(name, name.encode())
        tiles.drop("tile/0/000.p")
        tiles.drop("tile/0/000.p")
        assert tiles.read("tile/0/000.p/1") is None
        assert tiles.read("tile/0/000") == b"tile/0/000"


class TestMemoryTiles(TileStoreContract):
    def open(self, place):
        return MemoryTiles()


class TestDirectoryTiles(TileStoreContract):
    def open(self, place):
        return DirectoryTiles(place / "public")


class HeadStoreContract:
    def open(self, place):
        raise AssertionError("each adapter says how it is opened")

    def test_only_who_saw_the_last_head_writes_the_next(self, tmp_path):
        head = self.open(tmp_path)
        assert head.read() is None
        head.replace(None, "one — 1\n")
        with pytest.raises(Conflict):
            head.replace(None, "other\n")
        head.replace("one — 1\n", "two\n")
        assert head.read() == "two\n"

    def test_of_many_writers_one_wins(self, tmp_path):
        head = self.open(tmp_path)

        def move(n):
            try:
                head.replace(None, f"{n}\n")
            except Conflict:
                return 0
            return 1

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(move, range(16))) == 1


class TestMemoryHead(HeadStoreContract):
    def open(self, place):
        return MemoryHead()


class TestFileHead(HeadStoreContract):
    def open(self, place):
        return FileHead(place / "head")


class TestDurableFileHead(HeadStoreContract):
    def open(self, place):
        return FileHead(place / "head", durable=True)
