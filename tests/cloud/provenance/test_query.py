"""Every parameter of the simple event query finds what it names and nothing else, on both databases."""

import json

import pytest

from cloud.problems import Invalid, TooLarge
from cloud.provenance import LogBook, LogPlace, Provenance
from cloud.provenance.query import EventQuery
from cloud.provenance.store import metadata
from traceability.codes import check_digit

CONTEXT = ["https://ref.gs1.org/standards/epcis/epcis-context.jsonld", {"ex": "https://ns.example.com/x/"}]
PACK = "https://id.gs1.org/01/02000011700010/21/{}"
LOT = "https://id.gs1.org/01/02000011700010/10/{}"


def event(number, kind, **more):
    return {
        "@context": CONTEXT,
        "type": kind,
        "eventID": f"urn:uuid:{number}",
        "eventTime": f"2026-11-0{number}T08:00:00+08:00",
        "eventTimeZoneOffset": "+08:00",
        **more,
    }


EVENTS = [
    event(
        1, "ObjectEvent", action="ADD", bizStep="commissioning", disposition="active",
        epcList=[PACK.format("A")], quantityList=[{"epcClass": LOT.format("L"), "quantity": 12.5, "uom": "KGM"}],
        readPoint={"id": "urn:place:farm/pen/3", "ex:gate": "north"}, bizLocation={"id": "urn:place:farm"},
        ilmd={"ex:grade": "AA", "ex:grams": 500, "ex:best": "2026-12-01T00:00:00Z", "ex:deep": {"ex:core": 7}},
        **{"ex:fresh": True, "ex:score": 3},
    ),
    event(
        2, "AggregationEvent", action="OBSERVE", bizStep="packing", parentID="urn:epc:id:sscc:4012345.0111111111",
        childEPCs=[PACK.format("A"), PACK.format("B")], readPoint={"id": "urn:place:farm"},
        bizTransactionList=[{"type": "po", "bizTransaction": "urn:po:1"}],
    ),
    event(
        3, "TransformationEvent", inputEPCList=[PACK.format("B")], outputEPCList=[PACK.format("C")],
        inputQuantityList=[{"epcClass": LOT.format("I"), "quantity": 3}], transformationID="urn:x:1",
        outputQuantityList=[{"epcClass": LOT.format("O"), "quantity": 2, "uom": "KGM"}],
        persistentDisposition={"set": ["completeness_verified"], "unset": ["completeness_inferred"]},
    ),
    event(
        4, "TransactionEvent", action="DELETE", bizStep="urn:own:step", epcList=[PACK.format("D")],
        bizTransactionList=[{"type": "inv", "bizTransaction": "urn:po:1"}],
        sourceList=[{"type": "owning_party", "source": "urn:party:1"}],
        destinationList=[{"type": "possessing_party", "destination": "urn:party:2"}],
    ),
    event(
        5, "AssociationEvent", action="ADD", parentID="urn:box:1", childEPCs=["urn:sensor:1"],
        sensorElementList=[
            {
                "sensorMetadata": {"startTime": "2026-11-05T00:00:00Z", "endTime": "2026-11-05T01:00:00Z",
                                   "deviceID": "urn:device:meta", "bizRules": "urn:rules:1", "ex:note": "m"},
                "sensorReport": [
                    {"type": "Temperature", "value": 4.5, "uom": "CEL", "deviceID": "urn:device:report",
                     "time": "2026-11-05T00:30:00Z", "minValue": 1, "maxValue": 9, "meanValue": 5, "sDev": 0.5,
                     "ex:note": "r"},
                    {"type": "RelativeHumidity", "value": 80, "uom": "A93", "percRank": 25, "percValue": 70,
                     "stringValue": "wet", "booleanValue": True, "hexBinaryValue": "0A", "uriValue": "urn:u:1",
                     "microorganism": "urn:m:1", "chemicalSubstance": "urn:c:1", "dataProcessingMethod": "urn:d:1"},
                ],
                "ex:note": "e",
            }
        ],
    ),
]  # fmt: skip
DECLARED = EVENTS[3] | {
    "errorDeclaration": {
        "declarationTime": "2026-11-06T00:00:00Z",
        "reason": "incorrect_data",
        "correctiveEventIDs": ["urn:uuid:9"],
        "ex:who": "me",
    }
}
CASES = [
    ("", [1, 2, 3, 5]),
    ("eventType=ObjectEvent|AggregationEvent", [1, 2]),
    ("GE_eventTime=2026-11-03T00:00:00Z", [3, 5]),
    ("LT_eventTime=2026-11-03T08:00:00%2B08:00", [1, 2]),
    ("EQ_action=ADD", [1, 5]),
    ("EQ_action=ADD|OBSERVE", [1, 2, 5]),
    ("EQ_bizStep=packing", [2]),
    ("EQ_bizStep=urn:own:step&mode=all", [4, 4]),
    ("EQ_disposition=active|damaged", [1]),
    ("EQ_persistentDisposition_set=completeness_verified", [3]),
    ("EQ_persistentDisposition_unset=completeness_verified", []),
    ("EQ_readPoint=urn:place:farm", [2]),
    ("WD_readPoint=urn:place:farm", [1, 2]),
    ("WD_readPoint=urn:place:far", []),
    ("EQ_bizLocation=urn:place:farm", [1]),
    ("WD_bizLocation=urn:place:farm", [1]),
    ("EQ_transformationID=urn:x:1", [3]),
    ("EQ_bizTransaction_po=urn:po:1", [2]),
    ("EQ_bizTransaction_inv=urn:po:1", []),
    ("EQ_bizTransaction_inv=urn:po:1&mode=all", [4, 4]),
    ("EQ_source_owning_party=urn:party:1&mode=all", [4, 4]),
    ("EQ_destination_possessing_party=urn:party:2&mode=all", [4, 4]),
    ("EQ_destination_owning_party=urn:party:2&mode=all", []),
    ("MATCH_epc=" + PACK.format("A"), [1, 2]),
    ("MATCH_epc=" + PACK.format("C"), []),
    ("MATCH_epc=urn:epc:id:sgtin:2000011.070001.A", [1, 2]),
    ("MATCH_parentID=https://id.gs1.org/00/04012345111111111" + check_digit("04012345111111111"), [2]),
    ("MATCH_inputEPC=" + PACK.format("B"), [3]),
    ("MATCH_outputEPC=" + PACK.format("C"), [3]),
    ("MATCH_outputEPC=" + PACK.format("B"), []),
    ("MATCH_anyEPC=" + PACK.format("B"), [2, 3]),
    ("MATCH_anyEPC=" + PACK.format("B") + "&MATCH_outputEPC=" + PACK.format("C"), [3]),
    ("MATCH_anyEPC=https://id.gs1.org/01/02000011700010*", [1, 2, 3]),
    ("MATCH_epcClass=" + LOT.format("L"), [1]),
    ("MATCH_inputEPCClass=" + LOT.format("I"), [3]),
    ("MATCH_outputEPCClass=" + LOT.format("I"), []),
    ("MATCH_anyEPCClass=" + LOT.format("O"), [3]),
    ("EQ_quantity=12.5", [1]),
    ("EQ_quantity=3|12.5", [1, 3]),
    ("GT_quantity=3", [1]),
    ("GE_quantity=3", [1, 3]),
    ("LT_quantity=3", [3]),
    ("LE_quantity=1", []),
    ("EQ_quantity_KGM=2", [3]),
    ("GE_quantity_KGM=2", [1, 3]),
    ("GE_quantity_GRM=2", []),
    ("EQ_eventID=urn:uuid:1|urn:uuid:5", [1, 5]),
    ("EXISTS_errorDeclaration=", []),
    ("EXISTS_errorDeclaration=&mode=all", [4]),
    ("GE_errorDeclarationTime=2026-11-06T00:00:00Z&mode=all", [4]),
    ("LT_errorDeclaration_Time=2026-11-06T00:00:00Z&mode=all", []),
    ("EQ_errorReason=incorrect_data&mode=all", [4]),
    ("EQ_errorReason=did_not_occur&mode=all", []),
    ("EQ_correctiveEventID=urn:uuid:9&mode=all", [4]),
    ("EQ_ERROR_DECLARATION_ex:who=me&mode=all", [4]),
    ("EXISTS_sensorElementList=", [5]),
    ("EQ_type=Temperature", [5]),
    ("EQ_type=Pressure", []),
    ("EQ_deviceID=urn:device:meta", [5]),
    ("EQ_deviceID=urn:device:report", [5]),
    ("EQ_dataProcessingMethod=urn:d:1", [5]),
    ("EQ_bizRules=urn:rules:1", [5]),
    ("GE_time=2026-11-05T00:30:00Z", [5]),
    ("LT_time=2026-11-05T00:30:00Z", []),
    ("GE_startTime=2026-11-05T00:00:00Z", [5]),
    ("LT_endTime=2026-11-05T01:00:00Z", []),
    ("EQ_microorganism=urn:m:1", [5]),
    ("EQ_chemicalSubstance=urn:c:2", []),
    ("EQ_stringValue=wet", [5]),
    ("EQ_booleanValue=true", [5]),
    ("EQ_booleanValue=false", []),
    ("EQ_hexBinaryValue=0A", [5]),
    ("EQ_uriValue=urn:u:1", [5]),
    ("EQ_value_CEL=4.5", [5]),
    ("GT_value_CEL=4.5", []),
    ("GE_value_A93=80", [5]),
    ("GE_minValue_CEL=1", [5]),
    ("GT_maxValue_CEL=9", []),
    ("LE_meanValue_CEL=5", [5]),
    ("LT_sDev_CEL=1", [5]),
    ("GE_percValue_A93=70", [5]),
    ("GE_percRank=25", [5]),
    ("GT_percRank=25", []),
    ("EQ_ex:score=3", [1]),
    ("EQ_ex:score=3.0", [1]),
    ("EQ_ex:fresh=true", [1]),
    ("EQ_ex:grade=AA", []),
    ("EQ_ILMD_ex:grade=AA|BB", [1]),
    ("EQ_ILMD_ex:grams=500", [1]),
    ("GT_ILMD_ex:grams=499", [1]),
    ("GT_ILMD_ex:grams=500", []),
    ("GE_ILMD_ex:best=2026-12-01T08:00:00%2B08:00", [1]),
    ("EQ_ILMD_ex:best=2026-12-01T08:00:00%2B08:00", [1]),
    ("EXISTS_ILMD_ex:grade=", [1]),
    ("EXISTS_ex:grade=", []),
    ("EXISTS_INNER_ILMD_ex:core=", [1]),
    ("EQ_INNER_ILMD_ex:core=7", [1]),
    ("EXISTS_ILMD_ex:core=", []),
    ("EQ_INNER_ex:core=7", [1]),
    ("EQ_readPoint_ex:gate=north", [1]),
    ("EQ_bizLocation_ex:gate=north", []),
    ("EQ_SENSORELEMENT_ex:note=e", [5]),
    ("EQ_SENSORMETADATA_ex:note=m", [5]),
    ("EQ_SENSORREPORT_ex:note=r", [5]),
    ("EQ_SENSORREPORT_ex:note=e", []),
    ("EQ_action=ADD&EXISTS_sensorElementList=", [5]),
]


@pytest.fixture
def chain(tmp_path, engine):
    metadata.create_all(engine)
    clock = Clock()
    log = LogBook(engine, LogPlace(tmp_path / "ledger", tmp_path / "log.key", "trace.example/log"), clock)
    service = Provenance(engine, log, site="http://127.0.0.1:1", clock=clock)
    for each in EVENTS:
        service.capture(each, chain=None, by="me")
    clock.ms = LATER
    service.capture(DECLARED, chain=None, by="me")
    yield service
    service.close()


FIRST, LATER = 1_795_300_000_000, 1_795_400_000_000


class Clock:
    ms = FIRST

    def __call__(self):
        return self.ms


def asked(text):
    pairs = [part.partition("=") for part in text.replace("%2B", "+").split("&") if part]
    return EventQuery.parse({name: [value] for name, _, value in pairs})


def numbers(rows):
    return sorted(int(row.event_id.rpartition(":")[2]) for row in rows)


def test_every_parameter_finds_what_it_names_and_nothing_else(chain):
    wrong = {text: found for text, wanted in CASES if (found := numbers(chain.search(asked(text))[0])) != wanted}
    assert wrong == {}


def test_every_parameter_of_the_standard_is_among_the_cases(shared_data):
    folder = shared_data / "traceability/gs1-epcis/artefacts"
    names = json.loads((folder / "openapi.json").read_text("utf-8"))["components"]["parameters"]
    tried = {part.partition("=")[0] for text, _ in CASES for part in text.split("&")}
    tried |= {"LT_errorDeclarationTime", "GE_endTime", "LT_startTime"}  # by their twins
    known = {name for name in names if name.startswith(("EQ_", "GE_", "GT_", "LT_", "LE_", "MATCH_", "WD_"))}
    assert known - tried - {"GE_recordTime", "LT_recordTime"} == set()


def test_what_was_known_then_is_answered_as_of_then_and_a_record_time_is_only_a_filter(chain):
    assert numbers(chain.search(asked("as_of=2026-11-22T20:00:00Z"))[0]) == [1, 2, 3, 4, 5]
    assert numbers(chain.search(asked("as_of=2026-12-30T00:00:00Z"))[0]) == [1, 2, 3, 5]
    assert numbers(chain.search(asked("LT_recordTime=2026-11-22T20:00:00Z"))[0]) == [1, 2, 3, 5]
    assert numbers(chain.search(asked("GE_recordTime=2026-11-22T20:00:00Z&mode=all"))[0]) == [4]
    assert numbers(chain.search(asked("as_of=2026-11-01T00:00:00Z"))[0]) == []


def test_pages_hold_all_once_and_a_limit_counts_over_all_of_them(chain):
    for limit, wanted in ((None, 4), (3, 3), (2, 2), (0, 0), (9, 4)):
        text = "perPage=2&orderBy=eventTime&orderDirection=ASC" + ("" if limit is None else f"&eventCountLimit={limit}")
        seen, token = [], None
        while True:
            rows, token = chain.search(asked(text + (f"&nextPageToken={token}" if token else "")))
            seen += numbers(rows)
            if token is None:
                break
        assert seen == [1, 2, 3, 5][:wanted]


def test_more_than_the_asker_can_bear_is_refused_whatever_the_page(chain):
    with pytest.raises(TooLarge):
        chain.search(asked("maxEventCount=3&perPage=1"))
    rows, _ = chain.search(asked("maxEventCount=4&perPage=1"))
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("EQ_bizStp=shipping", "/query/EQ_bizStp"),
        ("HASATTR_bizLocation=x", "/query/HASATTR_bizLocation"),
        ("EQ_ATTR_bizLocation_name=x", "/query/EQ_ATTR_bizLocation_name"),
        ("HASATTR_ex:a=x", "/query/HASATTR_ex:a"),
        ("GE_eventTime=2026-11-03T00:00:00", "/query/GE_eventTime"),
        ("GT_quantity=many", "/query/GT_quantity"),
        ("EQ_quantity=NaN", "/query/EQ_quantity/0"),
        ("EQ_action=SHIPPED", "/query/EQ_action/0"),
        ("eventType=Happening", "/query/eventType/0"),
        ("eventCountLimit=2&maxEventCount=2", "/query"),
        ("perPage=٣", "/query/perPage"),
        ("nextPageToken=1.2", "/query/nextPageToken"),
        ("nextPageToken=" + "9" * 40 + ".1.1", "/query/nextPageToken"),
        ("orderDirection=SIDEWAYS", "/query/orderDirection"),
        ("orderBy=colour", "/query/orderBy"),
        ("mode=maybe", "/query/mode"),
        ("as_of=yesterday", "/query/as_of"),
        ("MATCH_epc=not a uri", "/query/MATCH_epc/0"),
    ],
)
def test_a_parameter_that_is_none_is_refused_with_its_pointer(text, pointer):
    with pytest.raises(Invalid) as refused:
        asked(text)
    assert refused.value.pointer == pointer


def test_the_names_that_events_hold_are_listed_in_order_and_by_pages(chain):
    assert chain.names("readPoints", "", 10) == (["urn:place:farm", "urn:place:farm/pen/3"], None)
    assert chain.names("bizLocations", "", 10) == (["urn:place:farm"], None)
    assert chain.names("dispositions", "", 10) == (["active"], None)
    first, token = chain.names("epcs", "", 4)
    rest, end = chain.names("epcs", token, 20)
    assert (len(first), end) == (4, None)
    assert [*first, *rest] == sorted({*first, *rest})
    assert PACK.format("C") in {*first, *rest}
