"""What the buyer of a pack is told, as data: no HTML, no server, no hidden judgement.

`tell` takes the events of one subject and what is known about their proofs, and returns a `Story`. It keeps
three things apart that are usually mixed: what is proven (this entry has not been changed since it was
written), what is claimed and by whom (a device, a vet, a farmer), and what none of it proves. Places go no
finer than the village, names of households do not appear at all.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from traceability.chain_rules.pack import CHAINS, load_pack
from traceability.chain_rules.withdrawal import china_day
from traceability.codes import EAR_TAG_URI
from traceability.custody import Genealogy
from traceability.digital_link import LinkError, parse_link
from traceability.epc_uris import canonical_name
from traceability.events import STEP, Event, parse_event
from traceability.own_fields import own

__all__ = ["COMPLETENESS", "STEP_WORDS", "Claim", "Part", "Said", "Signer", "Step", "Story", "declared_wrong", "tell"]


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence in both languages."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Signer:
    """Who stands behind an event: its kind (device, farmer, vet, slaughterhouse, packer, official) and public name."""

    kind: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement somebody made; ``proven_unchanged`` says whether its log entry was verified."""

    text: Said
    signer: Signer | None
    time_ms: int
    proven_unchanged: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of the journey; ``village`` is as fine as places get. ``wrong``: that its event was declared wrong."""

    key: str
    text: Said
    time_ms: int
    day: str
    village: Said | None
    signer: Signer | None
    event_id: str | None
    proven_unchanged: bool
    wrong: Said | None


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the verdict: ``state`` is good, amber, bad, unknown, or pack: not of the lot, each pack says it."""

    key: str
    state: str
    text: Said


@dataclass(frozen=True, slots=True)
class Story:
    """Everything a scan page shows about one pack."""

    subject: str
    gtin: str | None
    lot: str | None
    serial: str | None
    product: Said | None
    date: str | None
    place: Said | None
    verdict: tuple[Part, ...]
    claims: tuple[Claim, ...]
    journey: tuple[Step, ...]
    resolution: Said
    limits: tuple[Said, ...]
    demonstration: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


STEP_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "commissioning": ("登记", "Registered"),
    STEP + "vaccinating": ("免疫", "Vaccinated"),
    STEP + "treating": ("用药（施药）", "Treated"),
    STEP + "feeding": ("投喂", "Fed"),
    STEP + "certifying": ("出具检疫证明", "Quarantine certificate issued"),
    STEP + "laying": ("产蛋集蛋", "Eggs laid and collected"),
    STEP + "harvesting": ("收获", "Harvested"),
    STEP + "slaughtering": ("屠宰", "Slaughtered"),
    STEP + "releasing": ("出厂查验", "Released with papers"),
    STEP + "cutting": ("分割包装", "Cut and packed"),
    STEP + "grading": ("分级包装", "Graded and packed"),
    STEP + "cleaning": ("净膛加工", "Dressed"),
    "packing": ("装箱", "Packed"),
    "shipping": ("起运", "Shipped"),
    "transporting": ("运输", "On the road"),
    "arriving": ("到达查验", "Arrived and checked"),
    "receiving": ("收货", "Received"),
    "accepting": ("验收", "Accepted"),
    "inspecting": ("检查", "Inspected"),
    "storing": ("贮存", "Stored"),
    "sensor_reporting": ("传感器记录", "Sensor record"),
    "retail_selling": ("零售", "Sold at retail"),
    "decommissioning": ("注销", "Withdrawn"),
}
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "pig": ("头猪", "pigs"),
    "lot": ("个批次", "lots"),
}
COMPLETENESS: Final = Said(
    "不能证明记录齐全：漏掉的、没有拿出来的记录，核验发现不了。",
    "That the records are complete is not proven: no check can find one that was left out or not written down.",
)
_LIMITS: Final = (
    Said(
        "证明只说明：这些记录自写入后没有被改动；不能证明写入时所填内容属实。",
        "The proof says that these records are unchanged since they were written; not that they were true then.",
    ),
    COMPLETENESS,
    Said(
        "二维码可以被复印；同一编码出现在两件商品上时，请以包装完好和购买渠道为准。",
        "A code can be photocopied; if one appears on two packs, trust the intact pack and the shop.",
    ),
    Said("产地只显示到村，不公开农户姓名和坐标。", "Places are shown to the village; no household, no coordinates."),
)


# A lot is promised pack by pack, or delivery by delivery: that its own records hold no promise says nothing.
_ON_THE_PACK: Final = Said(
    "随商品开具：请扫包装上带序号的完整码查看。",
    "It comes with each pack: scan the whole code, with its serial number.",
)


_NOTHING_STANDS: Final = Said(
    "没有一条有效的记录：都已被声明有误，无法追溯。",
    "No record stands: all were declared wrong, so nothing can be traced.",
)
_REASONS: Final[Mapping[str, tuple[str, str]]] = {
    "did_not_occur": ("并未发生", "it did not happen"),
    "incorrect_data": ("数据有误", "its data are wrong"),
}


def declared_wrong(declaration: Any) -> Said:
    """An `errorDeclaration` in words: when, as it is written there, and why."""
    said = declaration if isinstance(declaration, dict) else {}
    when, reason = str(said.get("declarationTime", "?")), str(said.get("reason") or "")
    plain = reason.rpartition(":")[2].rpartition("ER-")[2]
    zh, en = _REASONS.get(plain, (reason or "未说明", reason or "not given"))
    return Said(f"已于 {when} 声明有误，原因：{zh}", f"declared wrong at {when}, reason: {en}")


def tell(
    events: Iterable[Event | Mapping[str, Any]],
    *,
    subject: str,
    now_ms: int,
    proven: Collection[str] = frozenset(),
    signers: Mapping[str, Signer] | None = None,
) -> Story:
    """The story of ``subject`` (a Digital Link or any thing's URI).

    ``events``: those of the subject and of whatever it was made from; others are left out. ``proven``: ids of events
    whose inclusion in the log was verified, ``signers``: who signed which event id (else the event's own
    ``tm:signer`` is shown as a claim). ``now_ms`` (ms UTC) only decides what already lies in the past.
    """
    known = [e if isinstance(e, Event) else parse_event(e) for e in events]
    declared = {e.id: declared_wrong(e.body["errorDeclaration"]) for e in known if e.body.get("errorDeclaration")}
    genealogy = Genealogy((e for e in known if e.id is None or e.id not in declared), same=canonical_name)
    name = canonical_name(subject)
    names = (name, *genealogy.back(name))
    told = [e for e in genealogy.events_of(names) if e.time_ms <= now_ms]
    wrong = [e for e in known if e.id in declared and not e.body.get("errorDeclaration") and e.time_ms <= now_ms]
    withdrawn = [e for e in wrong if not {canonical_name(thing) for thing in e.things}.isdisjoint(names)]
    shown = sorted([*told, *withdrawn], key=lambda each: each.time_ms)
    journey = tuple(_step(e, proven, signers or {}, declared) for e in shown)
    standing = tuple(step for step in journey if step.wrong is None)
    gtin, lot, serial = _numbers(subject)
    promise = next((p for e in reversed(told) if (p := own(e, "tm:conformityPromise"))), None)
    return Story(
        subject=subject,
        gtin=gtin,
        lot=lot,
        serial=serial,
        product=_product(promise),
        date=china_day(told[-1].time_ms).isoformat() if told else None,
        place=next((step.village for step in standing if step.village), None),
        verdict=_verdict(told, standing, promise, whole_lot=lot is not None and serial is None),
        claims=tuple(_claims(told, proven, signers or {})),
        journey=journey,
        resolution=_resolution(genealogy, name) if told or not withdrawn else _NOTHING_STANDS,
        limits=_LIMITS,
        demonstration=any(own(e, "tm:demonstration") for e in told),
    )


def _product(promise: Any) -> Said | None:
    if not isinstance(promise, dict) or not promise.get("product"):
        return None
    return Said(str(promise["product"]), str(promise.get("productEn") or promise["product"]))


def _numbers(subject: str) -> tuple[str | None, str | None, str | None]:
    try:
        link = parse_link(subject, lenient=True)
    except LinkError:
        return None, None, None
    return link.gtin, link.lot, link.serial


def _signer(event: Event, signers: Mapping[str, Signer]) -> Signer | None:
    if event.id is not None and event.id in signers:
        return signers[event.id]
    said = own(event, "tm:signer")
    if not isinstance(said, dict):
        return None
    return Signer(str(said.get("kind", "")), str(said.get("zh", "")), str(said.get("en", "")))


def _step(
    event: Event, proven: Collection[str], signers: Mapping[str, Signer], declared: Mapping[str | None, Said]
) -> Step:
    word = event.step or "sensor_reporting"
    zh, en = STEP_WORDS.get(word, (word.removeprefix(STEP), word.removeprefix(STEP)))
    village = own(event, "tm:village")
    return Step(
        key=word,
        text=Said(zh, en),
        time_ms=event.time_ms,
        day=china_day(event.time_ms).isoformat(),
        village=Said(str(village["zh"]), str(village["en"])) if isinstance(village, dict) else None,
        signer=_signer(event, signers),
        event_id=event.id,
        proven_unchanged=event.id in proven,
        wrong=declared.get(event.id) if event.id is not None else None,
    )


def _claims(told: list[Event], proven: Collection[str], signers: Mapping[str, Signer]) -> Iterable[Claim]:
    by = [_signer(event, signers) for event in told]
    english = {signer.zh: signer.en for signer in by if signer is not None and signer.en}
    carried: set[object] = set()
    for event, signer in zip(told, by, strict=True):
        certificate = own(event, "tm:quarantine")
        number = certificate.get("number") if certificate else None
        # A certificate travels with its load and stands in every event on the way: whoever issued it is heard, once.
        fresh = number is not None and number not in carried
        carried.add(number)
        for text in _statements(event, english, number if fresh else None):
            yield Claim(text, signer, event.time_ms, event.id in proven)


def _statements(event: Event, english: Mapping[str, str], certificate: object) -> Iterable[Said]:
    if treatment := own(event, "tm:treatment"):
        name, route = treatment["substance"], treatment.get("route", "")
        yield Said(f"使用{_chinese(name, route)}（{treatment.get('reason', '未填原因')}）", f"{name} was used")
    if test := own(event, "tm:asfTest"):
        result = "阴性" if test.get("result") == "negative" else "阳性"
        yield Said(
            f"非洲猪瘟检测（{test.get('method')}）：{result}", f"ASF test ({test.get('method')}): {test.get('result')}"
        )
    if own(event, "tm:papers"):
        yield Said("出厂“两章两证一报告”齐全", "All five release papers were present")
    if certificate is not None:
        yield Said(f"检疫证明 {certificate}", f"Quarantine certificate {certificate}")
    if promise := own(event, "tm:conformityPromise"):
        who = promise.get("promisor")
        yield Said(f"承诺达标合格证：{who} 承诺合格", f"Promise of conformity by {english.get(who, who)}")
    for element in event.body.get("sensorElementList") or ():
        for report in element["sensorReport"]:
            yield _reading(report)


def _chinese(substance: str, route: str) -> str:
    """The Chinese name of a drug or pesticide, from whichever rule pack knows it."""
    rules = (load_pack(chain).substance(substance, route) for chain in CHAINS)
    return next((rule.zh for rule in rules if rule is not None), f" {substance}")


def _reading(report: Mapping[str, Any]) -> Said:
    names = {"Temperature": ("温度", "temperature"), "RelativeHumidity": ("相对湿度", "relative humidity")}
    zh, en = names.get(report["type"], (report["type"], report["type"]))
    unit = {"CEL": "°C", "P1": "%"}.get(report.get("uom", ""), report.get("uom", ""))
    value = report.get("meanValue", report.get("value", "?"))
    span = f"（{report['minValue']}–{report['maxValue']}）" if "minValue" in report and "maxValue" in report else ""
    return Said(f"{zh} 平均 {value} {unit}{span}", f"mean {en} {value} {unit}")


def _verdict(told: list[Event], journey: tuple[Step, ...], promise: Any, *, whole_lot: bool) -> tuple[Part, ...]:
    recalled = any("recalled" in ((e.body.get("persistentDisposition") or {}).get("set") or ()) for e in told)
    lifted = any("recalled" in ((e.body.get("persistentDisposition") or {}).get("unset") or ()) for e in told)
    proven = sum(step.proven_unchanged for step in journey)
    return (
        Part("records", *_records(proven, len(journey))),
        Part(
            "recall",
            *(
                ("bad", Said("本批已召回，请勿食用并联系销售者。", "Recalled: do not eat it, call the seller."))
                if recalled and not lifted
                else ("good", Said("没有召回记录。", "No recall on record."))
            ),
        ),
        Part(
            "promise",
            *(
                ("good", Said("附承诺达标合格证。", "Comes with a promise of conformity."))
                if promise
                else ("pack", _ON_THE_PACK)
                if whole_lot
                else ("amber", Said("未见承诺达标合格证。", "No promise of conformity was found."))
            ),
        ),
    )


def _records(proven: int, total: int) -> tuple[str, Said]:
    if total == 0:
        return "unknown", Said("没有找到这件商品的记录。", "No records of this pack were found.")
    if proven == total:
        return "good", Said(
            f"{total} 条记录均已核验，写入后未被改动。", f"All {total} records verified: unchanged since written."
        )
    if proven:
        return "amber", Said(f"{total} 条记录中已核验 {proven} 条。", f"{proven} of {total} records verified.")
    return "amber", Said(f"{total} 条记录尚未核验。", f"{total} records, none verified yet.")


def _resolution(genealogy: Genealogy, subject: str) -> Said:
    found = genealogy.resolution(subject)
    count, places = len(found.candidates), max(1, len(found.places))
    pigs = bool(found.candidates) and all(name.startswith(EAR_TAG_URI) for name in found.candidates)
    zh, en = _KINDS["pig" if pigs else "lot"]
    if count <= 1:
        return Said("可追溯到唯一来源。", "Traced to one single source.")
    return Said(
        f"来自 {places} 个场的 {count} {zh}之一（追溯精度）。",
        f"One of {count} {en} from {places} farm{'s' if places > 1 else ''}: this is how fine the trace is.",
    )
