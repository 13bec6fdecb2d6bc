"""Four demonstration lots, from field to pack: pork (Rongchang), eggs (Hechuan), citrus (Yunyang), fish (Nan'an).

Nothing here happened. Farms, people, plates and papers are invented; every event says so in
``tm:demonstration``, and all trade numbers are restricted ones that no company owns. The steps, papers, yields
and rules are the real ones, so the chains run through the same capture, rules, log and pages as real ones
would, including one wrong move that must be refused: a pond treated 16 days ago is offered for sale long
before its 500 degree-days are over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from traceability.chain_rules import Facts
from traceability.chain_rules.withdrawal import china_day, start_of
from traceability.codes import EAR_TAG_URI, restricted_gtin
from traceability.digital_link import build_link
from traceability.events import STEP, aggregation_event, event_time, object_event, transformation_event

__all__ = ["DemoChain", "demo_chains"]

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
PLACE: Final = "urn:tianmai:place:"
GTINS: Final = {
    "pork": restricted_gtin("20", "1530001"),
    "eggs": restricted_gtin("20", "1170001"),
    "citrus": restricted_gtin("20", "2350001"),
    "fish": restricted_gtin("20", "1080001"),
}


@dataclass(frozen=True, slots=True)
class DemoChain:
    """One lot's life. ``subject`` is the Digital Link of its pack; ``refused`` are steps that the rules must stop."""

    chain: str
    subject: str
    product_zh: str
    product_en: str
    events: tuple[dict[str, Any], ...]
    refused: tuple[dict[str, Any], ...] = ()
    facts: Facts = field(default_factory=Facts)


def demo_chains(now_ms: int, *, domain: str = "https://trace.example.cn") -> tuple[DemoChain, ...]:
    """The four lots, dated so that the last step of each lies within the day before ``now_ms`` (ms UTC).

    Every event of ``events``, judged in order, is allowed; every event of ``refused`` is refused.
    """
    calendar = _Calendar(now_ms)
    return (
        _pork(calendar, domain),
        _eggs(calendar, domain),
        _citrus(calendar, domain),
        _fish(calendar, domain),
    )


@dataclass(frozen=True, slots=True)
class _Calendar:
    now_ms: int

    def at(self, days_ago: int, hour: int = 8, minute: int = 0) -> int:
        """A time of day in China so many days before yesterday."""
        day = china_day(self.now_ms) - timedelta(days=days_ago + 1)
        return start_of(day) + hour * HOUR + minute * MINUTE

    def day(self, days_ago: int) -> str:
        return china_day(self.at(days_ago)).isoformat()

    def lot(self, letter: str, days_ago: int = 0) -> str:
        return f"{letter}{china_day(self.at(days_ago)):%y%m%d}"


def _facts_of(signer: str, zh: str, en: str, village_zh: str, village_en: str, region: str) -> dict[str, Any]:
    """What every event of the demonstration says about itself: who claims it, and where to the village."""
    return {
        "tm:demonstration": True,
        "tm:signer": {"kind": signer, "zh": zh, "en": en},
        "tm:village": {"zh": village_zh, "en": village_en, "region": region},
        "tm:region": region,
    }


def _own(name: str, value: Any) -> dict[str, Any]:
    """One own field, to be passed on by ``**``."""
    return {f"tm:{name}": value}


def _promise(product: str, english: str, quantity: str, origin: str, day: str, promisor: str) -> dict[str, Any]:
    return {
        "tm:conformityPromise": {
            "product": product,
            "productEn": english,
            "quantity": quantity,
            "origin": origin,
            "date": day,
            "promisor": promisor,
            "contact": "示例：经平台转接",
        }
    }


def _tags(first: int, count: int) -> list[str]:
    return [f"{EAR_TAG_URI}1500153{n:08d}" for n in range(first, first + count)]


def _pork(calendar: _Calendar, domain: str) -> DemoChain:
    farm_one = _facts_of(
        "farmer", "示例一号猪场", "Demo pig farm 1", "荣昌区双河街道高丰村", "Gaofeng, Rongchang", "500153"
    )
    farm_two = _facts_of(
        "farmer", "示例二号猪场", "Demo pig farm 2", "荣昌区安富街道斑竹村", "Banzhu, Rongchang", "500153"
    )
    vet = _facts_of(
        "vet", "官方兽医（示例）", "Official vet (demo)", "荣昌区昌元街道", "Changyuan, Rongchang", "500153"
    )
    plant = _facts_of(
        "slaughterhouse", "示例屠宰厂", "Demo slaughterhouse", "荣昌区板桥工业园", "Banqiao, Rongchang", "500153"
    )
    herd_one, herd_two = _tags(10_001, 20), _tags(20_001, 18)
    herd = herd_one + herd_two
    pen_one, pen_two = PLACE + "rongchang-1-pen-3", PLACE + "rongchang-2-pen-1"
    carcasses = f"urn:tianmai:lot:pork-carcass-{calendar.lot('Z')}"
    lot = calendar.lot("P")
    packs = build_link([("01", GTINS["pork"]), ("10", lot)], domain=domain)
    subject = build_link([("01", GTINS["pork"]), ("10", lot), ("21", "7KQ2M9XA")], domain=domain)
    plate = "渝A·示例1"
    certificate = {
        "number": "示例B5001530001",
        "kind": "animal_b",
        "vehicle": plate,
        "issued": event_time(calendar.at(0, 5)),
        "tags": [tag.removeprefix(EAR_TAG_URI) for tag in herd],
    }
    load: dict[str, Any] = {"tm:quarantine": certificate, "tm:vehicle": plate}
    live_grams, carcass_grams, pack_grams = 38 * 112_000, 3_149_440, 2_960_500
    events = (
        object_event("ADD", "commissioning", calendar.at(170), epcs=herd_one, place=pen_one, **farm_one),
        object_event("ADD", "commissioning", calendar.at(168), epcs=herd_two, place=pen_two, **farm_two),
        object_event(
            "OBSERVE", STEP + "vaccinating", calendar.at(150), epcs=herd_one, place=pen_one,
            **_own("vaccine", {"zh": "猪瘟活疫苗", "en": "classical swine fever"}), **farm_one,
        ),
        object_event(
            "OBSERVE", STEP + "treating", calendar.at(60), epcs=herd_one[:3], place=pen_one,
            **_own("treatment", {"substance": "oxytetracycline", "route": "injection", "reason": "呼吸道感染"}),
            **farm_one,
        ),
        object_event("OBSERVE", STEP + "certifying", calendar.at(0, 5), epcs=herd,
                     **_own("quarantine", certificate), **vet),
        object_event("OBSERVE", "shipping", calendar.at(0, 6), epcs=herd, **load, **farm_one),
        object_event("OBSERVE", "arriving", calendar.at(0, 8), epcs=herd,
                     place=PLACE + "rongchang-slaughter", **load, **plant),
        transformation_event(
            STEP + "slaughtering", calendar.at(0, 10), took=herd,
            took_lots={f"urn:tianmai:lot:live-weight-{lot}": (live_grams, "GRM")},
            made_lots={carcasses: (carcass_grams, "GRM")},
            place=PLACE + "rongchang-slaughter",
            **_own("asfTest", {"method": "pcr", "result": "negative", "number": "示例ASF-0001"}), **plant,
        ),
        object_event(
            "OBSERVE", STEP + "releasing", calendar.at(0, 12), lots={carcasses: (carcass_grams, "GRM")},
            place=PLACE + "rongchang-slaughter",
            **_own("papers", ["quarantine_certificate", "meat_quality_certificate", "quarantine_stamp",
                              "meat_quality_stamp", "asf_report"]), **plant,
        ),
        transformation_event(
            STEP + "cutting", calendar.at(0, 14), took_lots={carcasses: (carcass_grams, "GRM")},
            made_lots={packs: (pack_grams, "GRM")}, place=PLACE + "rongchang-slaughter", **plant,
        ),
        object_event(
            "ADD", "commissioning", calendar.at(0, 15), epcs=[subject], place=PLACE + "rongchang-slaughter",
            ilmd={"tm:origin": [packs], "tm:netGrams": 500},
            **_promise("荣昌猪五花肉", "Rongchang pork belly", "500 克", "重庆市荣昌区", calendar.day(0), "示例屠宰厂"),
            **plant,
        ),
    )  # fmt: skip
    return DemoChain("pork", subject, "荣昌猪五花肉 500 克（示例）", "Rongchang pork belly 500 g (demo)", events)


def _eggs(calendar: _Calendar, domain: str) -> DemoChain:
    farm = _facts_of("farmer", "示例蛋鸡场", "Demo layer farm", "合川区钱塘镇大柱村", "Dazhu, Hechuan", "500117")
    station = _facts_of("packer", "示例蛋品分级站", "Demo egg station", "合川区钱塘镇", "Qiantang, Hechuan", "500117")
    house = PLACE + "hechuan-house-2"
    flock = "urn:tianmai:lot:flock-hechuan-2"
    day_lot = f"urn:tianmai:lot:eggs-house-2-{calendar.lot('D', 1)}"
    lot = calendar.lot("E", 1)
    trays = build_link([("01", GTINS["eggs"]), ("10", lot)], domain=domain)
    subject = build_link([("01", GTINS["eggs"]), ("10", lot), ("21", "4HT8C1VN")], domain=domain)
    sensor = [
        {
            "sensorMetadata": {"startTime": event_time(calendar.at(2, 8)), "endTime": event_time(calendar.at(1, 8))},
            "sensorReport": [
                {"type": "Temperature", "minValue": 19.4, "meanValue": 21.8, "maxValue": 24.9, "uom": "CEL"},
                {"type": "RelativeHumidity", "meanValue": 63.0, "uom": "P1"},
            ],
        }
    ]
    events = (
        object_event("ADD", "commissioning", calendar.at(210), lots={flock: (4980, None)}, place=house, **farm),
        object_event(
            "OBSERVE", STEP + "treating", calendar.at(40), lots={flock: (4962, None)}, place=house,
            **_own("treatment", {"substance": "oxytetracycline", "route": "oral", "reason": "肠道感染"}), **farm,
        ),
        object_event(
            "ADD", STEP + "laying", calendar.at(1, 9), lots={day_lot: (272_400, "GRM")}, place=house,
            ilmd={"tm:origin": [flock], "tm:pieces": 4540}, sensorElementList=sensor, **farm,
        ),
        transformation_event(
            STEP + "grading", calendar.at(1, 15), took_lots={day_lot: (272_400, "GRM")},
            made_lots={trays: (261_000, "GRM")}, place=PLACE + "hechuan-station", **station,
        ),
        object_event(
            "ADD", "commissioning", calendar.at(0, 8), epcs=[subject], place=PLACE + "hechuan-station",
            ilmd={"tm:origin": [trays], "tm:netGrams": 1800},
            **_promise("鲜鸡蛋", "fresh eggs", "30 枚", "重庆市合川区", calendar.day(0), "示例蛋鸡场"),
            **station,
        ),
    )  # fmt: skip
    return DemoChain("eggs", subject, "合川鲜鸡蛋 30 枚（示例）", "Hechuan eggs, tray of 30 (demo)", events)


def _citrus(calendar: _Calendar, domain: str) -> DemoChain:
    grower = _facts_of(
        "farmer", "示例柑橘合作社", "Demo citrus co-op", "云阳县双土镇无量村", "Wuliang, Yunyang", "500235"
    )
    shed = _facts_of("packer", "示例分选厂", "Demo packing shed", "云阳县双土镇", "Shuangtu, Yunyang", "500235")
    plot = "urn:tianmai:lot:plot-yunyang-terrace-7"
    picked = f"urn:tianmai:lot:picked-terrace-7-{calendar.lot('C')}"
    lot = calendar.lot("C")
    cartons = build_link([("01", GTINS["citrus"]), ("10", lot)], domain=domain)
    subject = build_link([("01", GTINS["citrus"]), ("10", lot), ("21", "9RW3F6YD")], domain=domain)

    def spray(days_ago: int) -> dict[str, Any]:
        dose = {"substance": "abamectin", "product": "1.8% EC", "reason": "红蜘蛛"}
        return object_event(
            "OBSERVE", STEP + "treating", calendar.at(days_ago, 7), lots={plot: (1, None)}, place=PLACE + "yunyang-7",
            **_own("treatment", dose), **grower,
        )  # fmt: skip

    events = (
        spray(120),
        spray(45),
        object_event(
            "ADD", STEP + "harvesting", calendar.at(0, 8), lots={picked: (1_250_000, "GRM")},
            place=PLACE + "yunyang-7", ilmd={"tm:origin": [plot]}, **grower,
        ),
        transformation_event(
            STEP + "grading", calendar.at(0, 13), took_lots={picked: (1_250_000, "GRM")},
            made_lots={cartons: (1_130_000, "GRM")}, place=PLACE + "yunyang-shed", **shed,
        ),
        object_event(
            "ADD", "commissioning", calendar.at(0, 15), epcs=[subject], place=PLACE + "yunyang-shed",
            ilmd={"tm:origin": [cartons], "tm:netGrams": 5000},
            **_promise("云阳脐橙", "Yunyang navel oranges", "5 千克", "重庆云阳", calendar.day(0), "示例柑橘合作社"),
            **shed,
        ),
    )  # fmt: skip
    return DemoChain("citrus", subject, "云阳脐橙 5 千克（示例）", "Yunyang navel oranges 5 kg (demo)", events)


def _pond_days(calendar: _Calendar, means: Sequence[float], missing: frozenset[int]) -> dict[str, float]:
    """Daily means up to yesterday, newest last; ``missing`` days (counted back from yesterday) are absent."""
    last = len(means) - 1
    return {calendar.day(last - n): mean for n, mean in enumerate(means) if last - n not in missing}


def _fish(calendar: _Calendar, domain: str) -> DemoChain:
    farm = _facts_of("farmer", "示例渔场", "Demo fish farm", "南岸区广阳镇回龙桥村", "Huilongqiao, Nan'an", "500108")
    line = _facts_of(
        "packer", "示例净菜加工点", "Demo fish dressing line", "南岸区广阳镇", "Guangyang, Nan'an", "500108"
    )
    pond_one, pond_two = PLACE + "nanan-pond-1", PLACE + "nanan-pond-2"
    stock_one, stock_two = "urn:tianmai:lot:stock-nanan-pond-1", "urn:tianmai:lot:stock-nanan-pond-2"
    catch = f"urn:tianmai:lot:catch-pond-1-{calendar.lot('F')}"
    lot = calendar.lot("F")
    dressed = build_link([("01", GTINS["fish"]), ("10", lot)], domain=domain)
    subject = build_link([("01", GTINS["fish"]), ("10", lot), ("21", "2BG5J7ZE")], domain=domain)
    cure = _own("treatment", {"substance": "thiamphenicol", "route": "feed", "reason": "细菌性败血症"})
    first = [round(24.0 - 0.1 * n, 1) for n in range(70)]
    second = [round(18.4 - 0.05 * n, 1) for n in range(30)]
    facts = Facts(
        {
            pond_one: _pond_days(calendar, first, frozenset({20})),
            pond_two: _pond_days(calendar, second, frozenset({3, 4})),
        }
    )
    events = (
        object_event("ADD", "commissioning", calendar.at(240), lots={stock_one: (3000, None)}, place=pond_one, **farm),
        object_event("ADD", "commissioning", calendar.at(240, 10), lots={stock_two: (2600, None)}, place=pond_two,
                     **farm),
        object_event("OBSERVE", STEP + "treating", calendar.at(62), lots={stock_one: (2950, None)}, place=pond_one,
                     **cure, **farm),
        object_event("OBSERVE", STEP + "treating", calendar.at(16), lots={stock_two: (2540, None)}, place=pond_two,
                     **cure, **farm),
        object_event(
            "ADD", STEP + "harvesting", calendar.at(0, 5), lots={catch: (820_000, "GRM")}, place=pond_one,
            ilmd={"tm:origin": [stock_one]}, **farm,
        ),
        transformation_event(
            STEP + "cleaning", calendar.at(0, 7), took_lots={catch: (820_000, "GRM")},
            made_lots={dressed: (664_200, "GRM")}, place=PLACE + "nanan-line", **line,
        ),
        object_event(
            "ADD", "commissioning", calendar.at(0, 8), epcs=[subject], place=PLACE + "nanan-line",
            ilmd={"tm:origin": [dressed], "tm:netGrams": 900},
            **_promise("草鱼（净膛）", "grass carp, dressed", "900 克", "重庆市南岸区", calendar.day(0), "示例渔场"),
            **line,
        ),
        aggregation_event(
            "ADD", "packing", calendar.at(0, 9), parent="urn:tianmai:crate:nanan-0007", epcs=[subject],
            place=PLACE + "nanan-line", **line,
        ),
    )  # fmt: skip
    wrong = f"urn:tianmai:lot:catch-pond-2-{calendar.lot('F')}"
    refused = (
        object_event(
            "ADD", STEP + "harvesting", calendar.at(0, 18), lots={wrong: (310_000, "GRM")}, place=pond_two,
            ilmd={"tm:origin": [stock_two]}, **farm,
        ),
        object_event(
            "OBSERVE", "inspecting", calendar.at(0, 19), lots={stock_two: (2540, None)}, place=pond_two,
            **_promise("草鱼", "grass carp", "310 千克", "重庆市南岸区", calendar.day(0), "示例渔场"),
            **farm,
        ),
    )  # fmt: skip
    return DemoChain(
        "fish", subject, "南岸草鱼 900 克（示例）", "Nan'an grass carp 900 g (demo)", events, refused, facts
    )
