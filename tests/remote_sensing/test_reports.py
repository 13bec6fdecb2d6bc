"""A report never says more than the run knows."""

import json

import pytest

from remote_sensing import LandError
from remote_sensing.__main__ import main
from remote_sensing.reports import read_accuracy, read_run, write_report


def run(folder, **facts):
    record = {
        "parcel": "a",
        "class_name": "abandoned",
        "area_mu": 2.5,
        "crop_year": 2021,
        "crop_years": [2020, 2021],
        "looks": [9, 14],
        "p_abandoned": [None, 0.9],
        "observability": "observable",
    }
    whole = {"profile": "cn_admin", "model": "m-1", "calibration": "c", "synthetic": False, **facts}
    features = [{"type": "Feature", "geometry": None, "properties": record}]
    folder.mkdir(exist_ok=True)
    (folder / "parcels.geojson").write_text(json.dumps({**whole, "features": features}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("synthetic", [True, False])
def test_figures_looks_and_what_is_not_known_stand_on_the_page(tmp_path, capsys, synthetic):
    folder = run(tmp_path / "run", synthetic=synthetic)
    assert main(["report", str(folder)]) == 0
    assert "report.html" in capsys.readouterr().out
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "not validated 未验证" in text
        assert "2020: 9, 2021: 14" in text
        assert "cn_admin" in text
        assert ("合成 SYNTHETIC" in text) == synthetic
    assert "| abandoned | 1 | 2.5 |" in (folder / "report.md").read_text(encoding="utf-8")
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")


def test_an_accuracy_file_replaces_the_words_only_for_its_own_run(tmp_path):
    told = {"profile": "cn_admin", "model": "m-1", "samples": 60, "overall": {"value": 0.9, "low": 0.84, "high": 0.96}}
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    mine = read_run(run(tmp_path / "run"))
    page, *_ = write_report(mine, tmp_path / "out", read_accuracy(path, mine))
    text = page.read_text(encoding="utf-8")
    assert "overall 0.900 (95 % 0.840..0.960), 60 parcels judged" in text
    assert "not validated" not in text
    with pytest.raises(LandError, match="another run"):
        read_accuracy(path, read_run(run(tmp_path / "other", model="m-2")))


def test_what_is_no_run_is_one_line(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    (tmp_path / "parcels.geojson").write_text("{", encoding="utf-8")
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    (tmp_path / "bad.json").write_text("[]", encoding="utf-8")
    with pytest.raises(LandError, match="evaluate --json"):
        read_accuracy(tmp_path / "bad.json", read_run(run(tmp_path / "run")))
