"""A killed run goes on with the tiles it had finished, and says the same as one that was left in peace."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

import remote_sensing as land
from remote_sensing import states as st
from remote_sensing import synthetic
from remote_sensing.__main__ import main
from remote_sensing.kept import FinishedTiles
from remote_sensing.products import write_cube


@pytest.fixture(scope="module")
def cube():
    """Twenty tiles, one below the other, no two alike."""
    small = synthetic.county(seed=4, size=48, years=3, parcels=30).cube.isel(y=slice(0, 32))
    tall = xr.concat([small] * 20, dim="y", data_vars="minimal")
    tall = tall.assign_coords(y=small["y"].to_numpy()[0] - 10.0 * np.arange(tall.sizes["y"]))
    tall["clear"] &= np.random.default_rng(0).random(tall["clear"].shape) < 0.9
    return tall


class Counting(st.WeakRules):
    """The weak rules, counting how often they are asked."""

    asked = 0

    def loglik(self, evidence):
        Counting.asked += 1
        return super().loglik(evidence)


def test_a_finished_tile_is_not_judged_again_and_another_scene_is(tmp_path, cube):
    tiles, some = FinishedTiles(tmp_path / "unfinished"), cube.isel(y=slice(0, 96))
    first = land.detect(some, model=Counting(), finished=tiles)
    assert Counting.asked == 3
    assert tiles.count() == 3
    again = land.detect(some, model=Counting(), finished=tiles)
    assert Counting.asked == 3
    assert again.maps.identical(first.maps)
    other = some.copy(deep=True)
    other["clear"][:, 40, 3] = ~other["clear"][:, 40, 3]
    land.detect(other, model=Counting(), finished=tiles)
    assert Counting.asked == 4
    tiles.clear()
    assert tiles.count() == 0


def test_a_tile_that_was_torn_is_judged_again(tmp_path, cube):
    tiles, some = FinishedTiles(tmp_path / "unfinished"), cube.isel(y=slice(0, 32))
    whole = land.detect(some, finished=tiles)
    (torn,) = (tmp_path / "unfinished").glob("*.npz")
    torn.write_bytes(torn.read_bytes()[:500])
    assert land.detect(some, finished=tiles).maps.identical(whole.maps)


def test_a_run_killed_in_the_middle_goes_on_where_it_was(tmp_path, capsys, cube):
    source, out = write_cube(cube, tmp_path / "cube.nc"), tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, "-m", "remote_sensing", "detect", str(source), "--out", str(out), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    tiles = FinishedTiles(out / "unfinished")
    until = time.monotonic() + 120
    while tiles.count() < 3 and run.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    done = tiles.count()
    assert 3 <= done < 20
    assert not (out / "item.json").exists()
    assert main(["detect", str(source), "--out", str(out), "--quiet"]) == 0
    assert f"{done} tiles are there already" in capsys.readouterr().err
    assert not (out / "unfinished").exists()
    assert main(["detect", str(source), "--out", str(tmp_path / "peace"), "--quiet"]) == 0
    one, two = (xr.open_zarr(folder / "maps.zarr", consolidated=False).load() for folder in (out, tmp_path / "peace"))
    assert one.identical(two)
