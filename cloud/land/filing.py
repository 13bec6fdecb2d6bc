"""Filing one photo: everything that makes it evidence is checked, then it is kept and counted once for ever."""

import json
import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from cloud.land.checks import check_place, check_time
from cloud.land.desk import Desk
from cloud.land.model import Claim, Evidence
from cloud.land.photos import Photo, Photos, differing_bits
from cloud.land.store import evidence, parcels
from cloud.problems import CloudError, Invalid, Refused
from cloud.who import Who

__all__ = ["Spot", "attempt"]

_COMPARED = 1_000


@dataclass(frozen=True, slots=True)
class Spot:
    """For what a photo is filed. `case` is None for a blind audit visit; `phase` says at which stage."""

    subject: str
    parcel: str
    region: str
    case: str | None
    phase: str
    not_before_ms: int | None = None


def attempt(
    desk: Desk, photos: Photos, db: Connection, *, who: Who, spot: Spot, claim: Claim, content: bytes
) -> Evidence | CloudError:
    """File a photo on the caller's transaction; a refusal is audited there and given back: raise it after commit."""
    picture = photos.read(content)
    try:
        filed, raw = _checked(desk, db, who, spot, claim, picture)
        photos.keep(picture, content)
        _store(db, filed, raw)
    except (Refused, Invalid) as why:
        detail = {"code": why.code, "why": why.detail, "photo": picture.sha256}
        desk.audit(db, who.id, "evidence.refused", spot.subject, detail, spot.region)
        return why
    told = {"evidence": filed.id, "photo": picture.sha256}
    desk.audit(db, who.id, "evidence.filed", spot.subject, told, spot.region)
    return filed


def _checked(
    desk: Desk, db: Connection, who: Who, spot: Spot, claim: Claim, picture: Photo
) -> tuple[Evidence, dict[str, object]]:
    outline = db.execute(select(parcels.c.geometry).where(parcels.c.id == spot.parcel)).scalar_one()
    check_time(claim, desk.clock(), desk.rules, not_before_ms=spot.not_before_ms)
    place = check_place(claim, outline, desk.rules)
    flags = [*place.flags, *_alike(desk, db, spot, picture)]
    filed = Evidence(
        id=uuid.uuid4().hex,
        case=spot.case,
        parcel=spot.parcel,
        collector=who.id,
        taken_ms=claim.taken_ms,
        received_ms=desk.clock(),
        lon=place.lon,
        lat=place.lat,
        datum=place.datum,
        accuracy_m=claim.accuracy_m,
        azimuth_deg=claim.azimuth_deg,
        view=claim.view,
        origin=claim.origin,
        phase=spot.phase,
        photo_sha256=picture.sha256,
        media_type=picture.media_type,
        width=picture.width,
        height=picture.height,
        distance_m=round(place.distance_m, 1),
        flags=tuple(flags),
    )
    return filed, {"raw_lon": claim.lon, "raw_lat": claim.lat, "look": picture.look, "flags": json.dumps(flags)}


def _store(db: Connection, filed: Evidence, raw: dict[str, object]) -> None:
    values = {name: getattr(filed, name) for name in Evidence.__dataclass_fields__}
    try:
        with db.begin_nested():
            db.execute(insert(evidence).values(**(values | raw)))
    except IntegrityError as why:  # somebody filed the same photo at this moment
        raise _reused(filed.photo_sha256) from why


def _alike(desk: Desk, db: Connection, spot: Spot, picture: Photo) -> list[str]:
    """Refuse a photo that was filed before; flag one that only looks like another of this region."""
    if db.execute(select(evidence.c.id).where(evidence.c.photo_sha256 == picture.sha256)).first() is not None:
        raise _reused(picture.sha256)
    others = db.execute(
        select(evidence.c.look)
        .join(parcels, parcels.c.id == evidence.c.parcel)
        .where(parcels.c.region == spot.region)
        .order_by(evidence.c.received_ms.desc())
        .limit(_COMPARED)
    ).scalars()
    near = any(differing_bits(look, picture.look) <= desk.rules.near_duplicate_bits for look in others)
    return ["looks_like_another"] if near else []


def _reused(digest: str) -> Refused:
    return Refused(
        f"this photo ({digest[:12]}) was filed before: take a new one on the spot", code="photo_reused", rule="L5"
    )
