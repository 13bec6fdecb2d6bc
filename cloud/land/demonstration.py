"""The loop once, on the synthetic county, by four persons who are called what they are: demonstration persons.

Everything goes through the same doors as a real case, rules included; the photos are drawn, and say so on their face.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image, ImageDraw
from shapely.geometry import shape

from cloud.land.cycle import State
from cloud.land.model import Case, Claim, Recovery, VerdictKind
from cloud.land.service import Land
from cloud.problems import NotFound
from cloud.who import Grant, Role, Who

__all__ = ["PERSONS", "Played", "demonstration_photo", "play"]

PERSONS: Final = {
    "demo-issuer": ("演示下发员", Role.ANALYST),
    "demo-collector": ("演示网格员", Role.COLLECTOR),
    "demo-reviewer": ("演示审核员", Role.REVIEWER),
    "demo-auditor": ("演示审计员", Role.AUDITOR),
}
_PLAYED: Final = "演示整改"


@dataclass(frozen=True, slots=True)
class Played:
    """What the demonstration left behind."""

    case_id: str
    parcel: str
    state: State
    evidence: int


def play(land: Land, accounts: Any, regions: Any, *, region: str) -> Played:
    """Bring the most probable candidate of `region` from clue to closing, or on from where an earlier start stopped.

    `accounts` and `regions` are the services of those contexts (contexts do not import each other). Raises `NotFound`
    when the region holds no candidate: import detections first.
    """
    regions.get(region)
    for person, (name, role) in PERSONS.items():
        accounts.person(name, id=person)
        accounts.grant(person, role, region, by="demonstration")
    cast = {role: Who(person, name, frozenset({Grant(role, region)})) for person, (name, role) in PERSONS.items()}
    case = _chosen(land, cast[Role.AUDITOR], region)
    player = _Player(land, cast, case)
    while player.step():
        pass
    detail = land.case(cast[Role.AUDITOR], case)
    return Played(case, detail.case.parcel, detail.case.state, len(detail.evidence))


class _Player:
    """Knows for each state what comes next."""

    def __init__(self, land: Land, cast: dict[Role, Who], case: str) -> None:
        self._land = land
        self._issuer, self._collector = cast[Role.ANALYST], cast[Role.COLLECTOR]
        self._reviewer = cast[Role.REVIEWER]
        self._case = case

    def step(self) -> bool:
        """Do the next step; False when the case is closed."""
        detail = self._land.case(self._reviewer, self._case)
        todo: dict[State, Callable[[], object]] = {
            State.CANDIDATE: lambda: self._land.issue(self._issuer, self._case, collector=self._collector.id),
            State.ISSUED: lambda: self._land.accept(self._collector, self._case),
            State.ACCEPTED: self._verify,
            State.VERIFIED: lambda: self._land.plan_remedy(self._reviewer, self._case, "演示：翻耕后复种油菜"),
            State.REMEDY_PLANNED: lambda: self._land.start_remedy(self._collector, self._case),
            State.REMEDYING: self._submit,
            State.SUBMITTED: lambda: self._land.review(self._reviewer, self._case, Recovery.TILLAGE_CROP, "演示"),
            State.REVIEWED: lambda: self._land.close(self._reviewer, self._case, _PLAYED),
        }
        act = todo.get(detail.case.state)
        if act is None:
            return False
        act()
        return True

    def _verify(self) -> None:
        photos = [self._photograph("远景 overview", "overview"), self._photograph("近景 close view", "close")]
        self._land.verify(
            self._reviewer, self._case, VerdictKind.ABANDONED_LONG, evidence=photos, note="演示：杂草丛生，两季未种"
        )

    def _submit(self) -> None:
        self._photograph("整改后 after", "overview")
        self._land.submit(self._collector, self._case, "演示：已翻耕")

    def _photograph(self, title: str, view: str) -> str:
        parcel = self._land.parcel(self._reviewer, self._land.case(self._reviewer, self._case).case.parcel)
        inside = shape(parcel["geometry"]).representative_point()
        taken = self._land.now()
        claim = Claim(inside.x, inside.y, "WGS84", taken, view, accuracy_m=5.0, azimuth_deg=0.0, origin="demonstration")
        photo = demonstration_photo(f"{title} {self._case}", taken)
        return self._land.add_evidence(self._collector, self._case, claim, photo).id


def demonstration_photo(title: str, seed: int) -> bytes:
    """A drawn JPEG, 960 x 720, that says DEMONSTRATION across its middle; differs by title and seed."""
    image = Image.new("RGB", (960, 720), (148, 176, 201))
    draw = ImageDraw.Draw(image)
    draw.polygon([(0, 300), (320, 190), (640, 280), (960, 170), (960, 720), (0, 720)], fill=(104, 134, 88))
    state = seed & 0x7FFFFFFF or 1
    for _ in range(260):  # tufts, by a small generator of our own so that the same seed draws the same field
        state = (state * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        x, y = state % 960, 320 + (state >> 10) % 390
        tall = 8 + (state >> 20) % 26
        draw.line([(x, y), (x + tall % 9 - 4, y - tall)], fill=(70 + tall, 92 + tall, 44), width=3)
    draw.rectangle([0, 330, 960, 400], fill=(250, 250, 250))
    plain = title.encode("ascii", "ignore").decode().strip()
    draw.text((40, 336), "DEMONSTRATION - not a real place", fill=(140, 29, 24), font_size=36)
    draw.text((40, 660), f"{plain}  {seed}", fill=(250, 250, 250), font_size=24)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=82)
    return out.getvalue()


def _chosen(land: Land, who: Who, region: str) -> str:
    """The case an earlier start played or began, else the candidate with the highest probability."""
    numbered: list[Case] = []
    after: str | None = None
    while True:
        page = land.cases(who, region=region, limit=1_000, after=after)
        numbered += page.items
        after = page.next
        if after is None:
            break
    begun = [case.id for case in numbered if case.issuer == "demo-issuer"]
    if begun:
        return min(begun)
    ready = [case for case in numbered if case.state is State.CANDIDATE and case.probability is not None]
    if not ready:
        raise NotFound(f"no candidate in {region}: import detections first")
    return max(ready, key=lambda case: (case.probability or 0.0, case.area_m2)).id
