"""What this system itself holds, as catalogue entries: entered at every start, so that the catalogue is never empty."""

from typing import Final

from cloud.catalogue.model import DataLevel, Dataset, Kind

__all__ = ["OWN"]

OWN: Final = (
    Dataset(
        "readings",
        Kind.SENSOR,
        "农场传感器读数",
        "Farm sensor readings",
        "农场经营者 farm operator",
        "gateway",
        "RFC 8428 SenML",
        "seconds to minutes",
        DataLevel.INTERNAL,
    ),
    Dataset(
        "parcels",
        Kind.DATASET,
        "耕地图斑与疑似撂荒",
        "Cropland parcels and suspected abandonment",
        "区县农业农村委 county agriculture office",
        "survey; remote_sensing",
        "GB/T 21010-2017",
        "yearly",
        DataLevel.RESTRICTED,
    ),
    Dataset(
        "cases",
        Kind.DATASET,
        "撂荒地台账",
        "Ledger of abandoned-land cases",
        "区县农业农村委 county agriculture office",
        "cloud.land",
        "自然资发〔2023〕258号",
        "on change",
        DataLevel.INTERNAL,
    ),
    Dataset(
        "events",
        Kind.DATASET,
        "追溯事件",
        "Chain events",
        "链上主体 parties of the chain",
        "cloud.provenance",
        "EPCIS 2.0 / NY/T 1431",
        "on change",
        DataLevel.PUBLIC,
    ),
    Dataset(
        "regions",
        Kind.DATASET,
        "行政区划与变更",
        "Administrative regions and their changes",
        "民政 civil affairs",
        "import",
        "GB/T 2260, GB/T 10114",
        "yearly",
        DataLevel.PUBLIC,
    ),
    Dataset(
        "detect",
        Kind.CAPABILITY,
        "撂荒地遥感识别",
        "Detection of abandoned cropland",
        "本系统 this system",
        "remote_sensing",
        "accuracy statement of each batch",
        "yearly",
        DataLevel.INTERNAL,
    ),
)
