"""Real product layouts from a STAC API on this machine: names, scales, offsets, masks, two sensors and radar."""

import datetime as dt
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pystac
import pytest
import rasterio
from rasterio.transform import Affine

from remote_sensing import LandError
from remote_sensing.__main__ import main
from remote_sensing.catalogues import Wanted
from remote_sensing.cubes import MISSING
from remote_sensing.scenes import open_scene

pytestmark = pytest.mark.filterwarnings("ignore:Use .@. matmul:PendingDeprecationWarning")

BBOX = (106.44, 29.63, 106.46, 29.65)
PAGE = 3


def write(path, values, pixel, crs="EPSG:32648"):
    place = Affine(pixel, 0, 640_000, 0, -pixel, 3_280_000)
    rows, columns = values.shape
    with rasterio.open(
        path, "w", driver="COG", width=columns, height=rows, count=1, dtype=values.dtype, crs=crs, transform=place
    ) as file:
        file.write(values, 1)


def scene(folder, collection, day, layers, fields, properties):
    """One item; ``layers`` asset -> (values, pixel size); ``fields`` of every asset that is no mask."""
    item = pystac.Item(f"{collection}-{day:%Y%m%d}", None, list(BBOX), day, dict(properties), collection=collection)
    west, south, east, north = BBOX
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item.geometry = {"type": "Polygon", "coordinates": [ring]}
    for name, (values, pixel) in layers.items():
        path = folder / f"{item.id}_{name}.tif"
        write(path, values, pixel)
        extra = {} if name in {"scl", "SCL", "qa_pixel"} else fields
        item.add_asset(name, pystac.Asset(str(path), media_type=pystac.MediaType.COG, extra_fields=extra))
    return item


def filled(value, kind, size=48):
    return np.full((size, size), value, kind)


def steps(reflectance, scale, offset):
    return round((reflectance - offset) / scale)


def sentinel2(folder, day, baseline="05.10", spoil=None):
    """As the public catalogue without ``raster:bands`` has it: only the baseline tells of the offset."""
    offset = -0.1 if baseline >= "04.00" else 0.0
    red, nir, swir = (steps(value, 1e-4, offset) for value in (0.08, 0.4, 0.2))
    layers = {
        "B04": (filled(red, np.uint16), 10),
        "B08": (filled(nir, np.uint16), 10),
        "B11": (filled(swir, np.uint16, 24), 20),
        "SCL": (filled(4, np.uint8, 24), 20),
    }
    layers["SCL"][0][0, 0] = 9
    layers["B04"][0][40, 40] = layers["B08"][0][40, 40] = layers["B11"][0][20, 20] = 0
    if spoil == "absurd":
        layers["B04"] = (filled(60_000, np.uint16), 10)
    told = {"s2:processing_baseline": baseline, "s2:mean_solar_zenith": 35.0, "s2:mean_solar_azimuth": 150.0}
    return scene(folder, "sentinel-2-l2a", day, layers, {}, told)


def landsat(folder, day):
    red, nir, swir = (steps(value, 2.75e-5, -0.2) for value in (0.06, 0.3, 0.25))
    layers = {
        "red": (filled(red, np.uint16, 16), 30),
        "nir08": (filled(nir, np.uint16, 16), 30),
        "swir16": (filled(swir, np.uint16, 16), 30),
        "qa_pixel": (filled(21824, np.uint16, 16), 30),
    }
    layers["qa_pixel"][0][5, 5] = 22280
    told = {"view:sun_elevation": 50.0, "view:sun_azimuth": 140.0}
    raster = {"raster:bands": [{"scale": 2.75e-5, "offset": -0.2, "nodata": 0}]}
    return scene(folder, "landsat-c2-l2", day, layers, raster, told)


def sentinel1(folder, day):
    layers = {"vv": (filled(0.1, np.float32), 10), "vh": (filled(0.01, np.float32), 10)}
    layers["vv"][0][0, 0] = layers["vh"][0][0, 0] = -32768
    return scene(folder, "sentinel-1-rtc", day, layers, {"raster:bands": [{"nodata": -32768}]}, {})


class Api(BaseHTTPRequestHandler):
    """The part of the STAC API (core, item search, paging by token) that a search needs."""

    items = ()

    def do_GET(self):
        address = urlsplit(self.path)
        self.answer(address.path, {key: values[0] for key, values in parse_qs(address.query).items()})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(urlsplit(self.path).path, body)

    def answer(self, path, asked):
        self.send_response(200 if path in {"/", "/search"} else 404)
        self.send_header("content-type", "application/geo+json")
        self.end_headers()
        self.wfile.write(json.dumps(self.page(asked) if path == "/search" else self.landing()).encode())

    def root(self):
        return f"http://127.0.0.1:{self.server.server_port}/"

    def landing(self):
        conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
        links = [
            {"rel": "self", "href": self.root()},
            {"rel": "root", "href": self.root()},
            *(
                {"rel": "search", "href": f"{self.root()}search", "method": how, "type": "application/geo+json"}
                for how in ("GET", "POST")
            ),
        ]
        head = {"type": "Catalog", "id": "here", "description": "tests", "stac_version": "1.0.0"}
        return {**head, "conformsTo": conforms, "links": links}

    def page(self, asked):
        first, last = ((part or "..")[:10] for part in asked.get("datetime", "../..").split("/"))
        held = [
            item
            for item in self.items
            if item["collection"] in asked.get("collections", [item["collection"]])
            and (first == ".." or item["properties"]["datetime"][:10] >= first)
            and (last == ".." or item["properties"]["datetime"][:10] <= last)
        ]
        begin = int(asked.get("token", 0))
        links = []
        if begin + PAGE < len(held):
            body = {**asked, "token": begin + PAGE}
            links = [{"rel": "next", "href": f"{self.root()}search", "method": "POST", "body": body}]
        return {"type": "FeatureCollection", "features": held[begin : begin + PAGE], "links": links}

    def log_message(self, *words):
        pass


@pytest.fixture
def serve():
    """Start an API over items; its address."""
    running = []

    def start(items):
        handler = type("Served", (Api,), {"items": tuple(item.to_dict(include_self_link=False) for item in items)})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def on(month, day, year=2021):
    return dt.datetime(year, month, day, 3, 40, tzinfo=dt.UTC)


def test_two_sensors_and_radar_become_one_cube_with_their_true_values(tmp_path, serve):
    items = [
        sentinel2(tmp_path, on(6, 1)),
        sentinel2(tmp_path, on(6, 11), baseline="03.01"),
        landsat(tmp_path, on(6, 5)),
        landsat(tmp_path, on(6, 21)),
        sentinel1(tmp_path, on(6, 3)),
    ]
    opened = open_scene(serve(items), wanted=Wanted(bbox=BBOX, first=dt.date(2021, 5, 1), last=dt.date(2021, 7, 1)))
    cube = opened.cube
    assert cube["time"].to_numpy().astype("datetime64[D]").astype(str).tolist() == [
        "2021-06-01",
        "2021-06-05",
        "2021-06-11",
        "2021-06-21",
    ]
    assert float(abs(cube["x"][1] - cube["x"][0])) == 10
    inside = cube.sel(x=640_105, y=3_279_895)
    np.testing.assert_allclose(inside["red"], [800, 600, 800, 600], atol=1)
    np.testing.assert_allclose(inside["nir"], [4000, 3000, 4000, 3000], atol=1)
    np.testing.assert_allclose(inside["swir1"], [2000, 2500, 2000, 2500], atol=1)
    assert inside["clear"].to_numpy().all()
    np.testing.assert_array_equal(inside["vv"], [-1000])
    np.testing.assert_array_equal(inside["vh"], [-2000])
    np.testing.assert_allclose(cube["sun_elevation"], [55, 50, 55, 50])


def test_masks_and_fills_of_each_product_are_no_looks(tmp_path, serve):
    items = [sentinel2(tmp_path, on(6, 1)), landsat(tmp_path, on(6, 5)), sentinel1(tmp_path, on(6, 3))]
    cube = open_scene(serve(items)).cube
    corner, cloud = cube.sel(x=640_005, y=3_279_995), cube.sel(x=640_165, y=3_279_835)
    assert corner["clear"].to_numpy().tolist() == [False, True]
    assert cloud["clear"].to_numpy().tolist() == [True, False]
    assert int(corner["vv"][0]) == MISSING
    nothing = cube.sel(x=640_405, y=3_279_595)
    assert int(nothing["red"][0]) == MISSING
    assert not bool(nothing["clear"][0])


def test_a_box_cuts_the_grid_on_whole_pixels(tmp_path, serve):
    item = sentinel2(tmp_path, on(6, 1))
    whole = open_scene(serve([item])).cube
    box = (106.4472, 29.6405, 106.4482, 29.6415)
    cut = open_scene(serve([item]), wanted=Wanted(bbox=box)).cube
    assert set(cut["x"].to_numpy()) < set(whole["x"].to_numpy())
    assert 8 <= cut.sizes["x"] <= 12
    same = whole.sel(x=cut["x"], y=cut["y"])
    np.testing.assert_array_equal(cut["clear"], same["clear"])


def test_an_absurd_scene_of_an_api_is_left_out_with_band_and_value(tmp_path, serve):
    items = [sentinel2(tmp_path, on(6, 1)), sentinel2(tmp_path, on(6, 11), spoil="absurd")]
    opened = open_scene(serve([*items, items[0]]))
    assert opened.cube.sizes["time"] == 1
    assert any("sentinel-2-l2a-20210611: band B04: value 60000" in note for note in opened.notes)
    assert any("sentinel-2-l2a-20210601: appears twice" in note for note in opened.notes)


def test_nobody_there_and_too_wide_a_question_are_one_line(tmp_path, capsys):
    wide = ["detect", "http://127.0.0.1:9/", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(wide) == 2
    assert "--bbox" in capsys.readouterr().err
    assert main([*wide, "--bbox", "106,29,107,30", "--from", "2021-01-01"]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: http://127.0.0.1:9/: no STAC catalogue answers")
    assert "\n" not in line
    with pytest.raises(LandError, match="no STAC catalogue"):
        open_scene("http://127.0.0.1:9/")


def test_detect_asks_an_api_for_a_place_and_a_time(tmp_path, serve, capsys):
    items = [sentinel2(tmp_path, on(month, 5, year)) for year in (2020, 2021) for month in range(1, 13, 2)]
    url = serve([*items, sentinel2(tmp_path, on(3, 5, 2017))])
    asked = ["--collection", "sentinel-2-l2a", "--bbox", "106.4472,29.6405,106.4482,29.6415", "--year-start", "01-01"]
    dates = ["--from", "2020-01-01", "--to", "2021-12-31"]
    assert main(["detect", url, *asked, *dates, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert "crop years 2020..2021" in capsys.readouterr().out
    assert (tmp_path / "out" / "state.tif").exists()
