"""The legend and the map draw the same."""

import re
from pathlib import Path

import pytest

import cloud
from cloud.pages.legend import PALETTE, shares

PALETTE_TS = Path(cloud.__file__).parent / "frontend" / "src" / "palette.ts"


@pytest.mark.skipif(not PALETTE_TS.exists(), reason="the front end's sources are not in a wheel")
def test_the_map_uses_the_colours_of_the_legend():
    drawn = dict(re.findall(r'^  (\w+): "(#[0-9a-f]{6})",$', PALETTE_TS.read_text(encoding="utf-8"), re.MULTILINE))
    assert drawn == {status: look.colour for status, look in PALETTE.items()}


def test_shares_lie_end_to_end_and_leave_out_what_does_not_occur():
    found = shares({"suspected": 1, "cultivated": 3, "fallow": 0})
    assert [(share.status, share.start, share.width) for share in found] == [
        ("suspected", 0.0, 250.0),
        ("cultivated", 250.0, 750.0),
    ]


def test_no_parcels_no_shares():
    assert shares({}) == ()
