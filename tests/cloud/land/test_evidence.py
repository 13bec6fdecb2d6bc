import io
import struct
import zlib

import pytest
from PIL import Image
from sqlalchemy import func, select

from cloud.land import Claim
from cloud.land.datums import bd09_from_gcj02, gcj02_from_wgs84
from cloud.land.store import evidence
from cloud.problems import Conflict, Forbidden, Invalid, Refused, TooLarge
from cloud.who import Role


@pytest.fixture
def accepted(quick_world, tools):
    """A world whose only case waits for photos; `world.case` is its number."""
    world = quick_world
    world.land.import_detections(tools.batch(tools.feature("P1")))
    world.case = world.land.cases(world.issuer).items[0].id
    world.land.issue(world.issuer, world.case, collector="collector")
    world.land.accept(world.collector, world.case)
    return world


def picture(kind="JPEG", size=(640, 480)):
    out = io.BytesIO()
    Image.effect_noise(size, 64).save(out, kind)
    return out.getvalue()


def refusal(world, claim, photo=None):
    with pytest.raises((Refused, Invalid, TooLarge)) as no:
        world.land.add_evidence(world.collector, world.case, claim, photo or world.new_photo())
    with world.engine.connect() as db:
        assert db.execute(select(func.count()).select_from(evidence)).scalar_one() == 0
    return no.value.code


def test_a_photo_taken_in_the_field_is_kept_under_its_own_hash(accepted, tmp_path):
    photo = accepted.new_photo()
    filed = accepted.land.add_evidence(accepted.collector, accepted.case, accepted.claim(), photo)
    path, media_type = accepted.land.photo(accepted.reviewer, filed.photo_sha256)
    assert path.read_bytes() == photo
    assert path.name == filed.photo_sha256
    assert media_type == "image/jpeg"
    assert filed.distance_m == 0
    assert [entry.name for entry in (tmp_path / "photos").rglob(".*")] == []


def test_a_position_by_a_map_service_counts_when_it_says_so_and_not_when_it_does_not(accepted):
    true = accepted.claim(accuracy_m=5.0)
    drawn = gcj02_from_wgs84(true.lon, true.lat)
    for name, (lon, lat) in {"GCJ-02": drawn, "BD-09": bd09_from_gcj02(*drawn)}.items():
        assert refusal_free(accepted, Claim(lon, lat, name, accepted.clock())).lon == pytest.approx(true.lon, abs=1e-6)
    with pytest.raises(Refused) as no:
        accepted.land.add_evidence(
            accepted.collector, accepted.case, Claim(*drawn, "WGS84", accepted.clock()), accepted.new_photo()
        )
    assert no.value.code == "position_outside"


def refusal_free(world, claim):
    return world.land.add_evidence(world.collector, world.case, claim, world.new_photo())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"datum": "?"}, "datum_unknown"),
        ({"east_m": 400.0}, "position_outside"),
        ({"north_m": -300.0, "accuracy_m": 49.0}, "position_outside"),
        ({"accuracy_m": 80.0}, "position_vague"),
        ({"north_m": -75.0, "azimuth_deg": 180.0}, "view_misses"),
    ],
)
def test_hard_faults_of_the_place_refuse_the_photo(accepted, changes, code):
    assert refusal(accepted, accepted.claim(**changes)) == code


def test_a_photo_from_the_edge_that_looks_at_the_field_is_evidence(accepted):
    filed = refusal_free(accepted, accepted.claim(north_m=-75.0, azimuth_deg=10.0))
    assert 15 < filed.distance_m < 30
    assert "from_outside" in filed.flags


@pytest.mark.parametrize(("days", "code"), [(1, "time_ahead"), (-200, "photo_old")])
def test_times_that_cannot_be_refuse_the_photo(accepted, days, code):
    claim = accepted.claim()
    moved = Claim(claim.lon, claim.lat, "WGS84", claim.taken_ms + days * 86_400_000)
    assert refusal(accepted, moved) == code


@pytest.mark.parametrize("junk", [b"", b"GIF89a....", b"\xff\xd8\xff\xe0 not really", picture()[:900]])
def test_what_cannot_be_decoded_is_no_photo(accepted, junk):
    assert refusal(accepted, accepted.claim(), junk or b"x") == "photo_unreadable"


def test_a_thumbnail_and_a_monster_are_refused(accepted):
    assert refusal(accepted, accepted.claim(), picture(size=(120, 90))) == "photo_too_small"
    assert refusal(accepted, accepted.claim(), b"\0" * 15_000_001) == "too_large"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_three_picture_formats_of_phones_are_taken(accepted, kind):
    filed = accepted.land.add_evidence(accepted.collector, accepted.case, accepted.claim(), picture(kind))
    assert filed.media_type == f"image/{kind.lower()}"


def test_a_photo_counts_once_in_the_whole_system(accepted, tools):
    photo = accepted.new_photo()
    accepted.land.add_evidence(accepted.collector, accepted.case, accepted.claim(), photo)
    with pytest.raises(Refused) as no:
        accepted.land.add_evidence(accepted.collector, accepted.case, accepted.claim(), photo)
    assert no.value.code == "photo_reused"
    accepted.land.import_detections(tools.batch(tools.feature("P2", at=1)))
    other = next(case.id for case in accepted.land.cases(accepted.issuer).items if case.parcel == "P2")
    accepted.land.issue(accepted.issuer, other)
    accepted.land.accept(accepted.collector, other)
    with pytest.raises(Refused) as no:
        accepted.land.add_evidence(accepted.collector, other, accepted.claim(1), photo)
    assert no.value.code == "photo_reused"


def test_a_picture_that_only_looks_like_another_is_flagged_and_kept(accepted):
    image = Image.open(io.BytesIO(accepted.new_photo()))
    copies = []
    for quality in (70, 92):
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        filed = accepted.land.add_evidence(accepted.collector, accepted.case, accepted.claim(), out.getvalue())
        copies.append(filed.flags)
    assert "looks_like_another" not in copies[0]
    assert "looks_like_another" in copies[1]


def test_only_the_assigned_collector_files_and_only_while_it_is_asked_for(accepted, tools):
    another = tools.person("another", (Role.COLLECTOR, tools.here))
    for who in (another, accepted.reviewer):
        with pytest.raises(Forbidden):
            accepted.land.add_evidence(who, accepted.case, accepted.claim(), accepted.new_photo())
    photo = accepted.file(accepted.case)
    accepted.land.verify(accepted.reviewer, accepted.case, "cultivated", evidence=[photo])
    with pytest.raises(Conflict):
        accepted.land.add_evidence(accepted.collector, accepted.case, accepted.claim(), accepted.new_photo())


def test_a_refused_photo_leaves_a_trace_in_the_audit_trail(accepted):
    before = accepted.accounts.verify_audit()
    refusal(accepted, accepted.claim(east_m=900.0))
    assert accepted.accounts.verify_audit() == before + 1


def test_a_picture_that_unpacks_to_far_more_than_it_weighs_is_refused(accepted):
    size = struct.pack(">II", 60_000, 60_000) + bytes([8, 0, 0, 0, 0])
    head = b"IHDR" + size
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    assert refusal(accepted, accepted.claim(), bomb) == "photo_unreadable"
