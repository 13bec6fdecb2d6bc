"""Tiles judged by workers: rows read from the cube laid down once are the rows themselves, nothing stays behind."""

import numpy as np
import pytest

from remote_sensing import LandError, detect, synthetic
from remote_sensing.__main__ import main
from remote_sensing.cubes import stack_of
from remote_sensing.products import write_cube
from remote_sensing.tiles import lay_down, read_rows


@pytest.fixture(scope="module")
def cube():
    return synthetic.county(seed=2, size=48, years=3, parcels=20, radar=True, dark_year=False).cube


class HereAtOnce:
    """``Workers`` in this very process: what is submitted is done at once; ``sees`` is what it says of any folder."""

    def __init__(self, *, sees):
        self.sees, self.sent = sees, []

    def submit(self, function, *parts, pure):
        self.sent.append(function.__name__)
        return [function(*parts)]

    def gather(self, futures):
        return [future[0] for future in futures]

    def scatter(self, data, **how):
        return data

    def run(self, function, *parts):
        return {"here": function(*parts) and self.sees}


def test_rows_of_a_cube_that_was_laid_down_are_the_rows_themselves(tmp_path, cube):
    stack = stack_of(cube)
    lay_down(stack, tmp_path / "cube")
    for first, last in ((0, 20), (20, 40), (40, 48)):
        found, wanted = read_rows(tmp_path / "cube", first, last), stack.rows(first, last)
        np.testing.assert_array_equal(found.days, wanted.days)
        np.testing.assert_array_equal(found.clear, wanted.clear)
        assert found.shape == wanted.shape
        for held, kept in ((found.bands, wanted.bands), (found.radar, wanted.radar)):
            assert held.keys() == kept.keys()
            for name, values in kept.items():
                np.testing.assert_array_equal(held[name], values)


@pytest.mark.parametrize(("sees", "way"), [(True, "judge_rows"), (False, "judge")])
def test_workers_answer_alike_whether_they_see_the_folder_or_not(tmp_path, cube, sees, way):
    workers = HereAtOnce(sees=sees)
    found = detect(cube, workers=workers, tile_rows=16, scratch=tmp_path)
    assert workers.sent == [way] * 3
    assert found.maps.identical(detect(cube, tile_rows=16).maps)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_worker_does_not_see_is_one_line(tmp_path):
    with pytest.raises(LandError, match="not seen by this worker"):
        read_rows(tmp_path / "gone", 0, 1)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, cube):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(LandError, match="cannot be written"):
        detect(cube, workers=HereAtOnce(sees=True), scratch=tmp_path / "file")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_a_scheduler_that_is_not_there_is_one_line_at_once(tmp_path, cube, capsys, address):
    source = str(write_cube(cube, tmp_path / "cube.nc"))
    assert main(["detect", source, "--out", str(tmp_path / "out"), "--dask", address, "--quiet"]) == 2
    assert f"error: {address}: no Dask scheduler answers" in capsys.readouterr().err
