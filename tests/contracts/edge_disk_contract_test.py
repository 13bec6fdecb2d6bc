"""What the spool may count on from a disk: the same from the real one and from the one that fails on demand."""

import pytest

from edge.spool.disk import RealDisk
from edge.spool.faults import FaultyDisk


class DiskContract:
    """The promises of ``edge.spool.disk.Disk``."""

    @pytest.fixture
    def disk(self, tmp_path):
        disk = self.open(tmp_path)
        yield disk
        if isinstance(disk, RealDisk):
            disk.close()

    def test_a_new_file_is_empty_space_of_the_reserved_length(self, disk):
        disk.create("a", 100)
        assert (disk.size("a"), disk.read("a")) == (100, bytes(100))
        assert "a" in disk.names()

    def test_what_is_written_is_read_back_where_it_was_written(self, disk):
        disk.create("a", 100)
        disk.write("a", 10, b"hello")
        disk.sync("a")
        assert disk.read_at("a", 8, 9) == b"\0\0hello\0\0"
        assert disk.read_at("a", 98, 9) == b"\0\0", "shorter at the end"

    def test_writing_beyond_the_end_lengthens_the_file(self, disk):
        disk.create("a", 4)
        disk.write("a", 2, b"hello")
        assert disk.read("a") == b"\0\0hello"

    def test_truncating_cuts_and_extends_with_zeros(self, disk):
        disk.create("a", 0)
        disk.write("a", 0, b"hello")
        disk.truncate("a", 2)
        disk.truncate("a", 4)
        assert disk.read("a") == b"he\0\0"

    def test_creating_again_empties_the_file(self, disk):
        disk.create("a", 0)
        disk.write("a", 0, b"old")
        disk.create("a", 2)
        assert disk.read("a") == b"\0\0"

    def test_a_removed_file_is_gone(self, disk):
        disk.create("a", 0)
        disk.create("b", 0)
        disk.remove("a")
        disk.sync_names()
        assert set(disk.names()) - {"lock"} == {"b"}

    def test_it_knows_how_much_room_is_left(self, disk):
        assert disk.free_bytes() > 0


class TestRealDisk(DiskContract):
    open = staticmethod(RealDisk)


class TestFaultyDisk(DiskContract):
    @staticmethod
    def open(_folder):
        return FaultyDisk()
