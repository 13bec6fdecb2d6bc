"""What can be measured on a farm: one row per quantity, with its unit and its physical range.

A unit is part of the type: ppm and mg/m3 of ammonia are different quantities (25 mg/m3 of NH3 is 35.9 ppm at
25 °C, and confusing them moves a limit by 1.4 times), so only one of them is in the table and a driver
converts at the source. Units are SenML names (RFC 8428, RFC 8798 and the registry built on them) where one
exists, else UCUM codes.

``low`` and ``high`` bound what the quantity can be anywhere on a farm, not what is healthy: a value outside
is flagged ``OUT_OF_RANGE``, never deleted. What is healthy is said by the rules in ``edge/farms``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Quantity:
    """One measurable quantity; ``low <= value <= high`` in ``unit``; ``zh`` and ``en`` are for people."""

    name: str
    unit: str
    low: float
    high: float
    zh: str
    en: str

    def holds(self, value: float) -> bool:
        """Whether the value is physically possible (NaN is not)."""
        return self.low <= value <= self.high


_TABLE = (
    # air
    Quantity("air_temperature", "Cel", -50.0, 60.0, "气温", "Air temperature"),
    Quantity("relative_humidity", "%RH", 0.0, 100.0, "相对湿度", "Relative humidity"),
    Quantity("air_pressure", "Pa", 45_000.0, 110_000.0, "气压", "Air pressure"),
    Quantity("dew_point", "Cel", -60.0, 50.0, "露点", "Dew point"),
    Quantity("ammonia", "ppm", 0.0, 500.0, "氨气", "Ammonia"),
    Quantity("carbon_dioxide", "ppm", 0.0, 50_000.0, "二氧化碳", "Carbon dioxide"),
    Quantity("hydrogen_sulfide", "ppm", 0.0, 500.0, "硫化氢", "Hydrogen sulfide"),
    Quantity("carbon_monoxide", "ppm", 0.0, 2_000.0, "一氧化碳", "Carbon monoxide"),
    Quantity("illuminance", "lx", 0.0, 200_000.0, "光照度", "Illuminance"),
    Quantity("solar_radiation", "W/m2", 0.0, 2_000.0, "太阳辐射", "Solar radiation"),
    Quantity("par", "umol/m2/s", 0.0, 3_500.0, "光合有效辐射", "Photosynthetically active radiation"),
    Quantity("day_length", "h", 0.0, 24.0, "日照时长", "Day length"),
    Quantity("wind_speed", "m/s", 0.0, 75.0, "风速", "Wind speed"),
    Quantity("wind_gust", "m/s", 0.0, 110.0, "阵风", "Wind gust"),
    Quantity("wind_direction", "deg", 0.0, 360.0, "风向", "Wind direction"),
    Quantity("rainfall", "mm", 0.0, 600.0, "降雨量", "Rainfall"),
    Quantity("rain_intensity", "mm/h", 0.0, 500.0, "雨强", "Rain intensity"),
    Quantity("leaf_wetness", "/", 0.0, 1.0, "叶面湿度", "Leaf wetness"),
    Quantity("leaf_temperature", "Cel", -50.0, 80.0, "叶温", "Leaf temperature"),
    Quantity("thi", "1", -20.0, 130.0, "温湿指数", "Temperature-humidity index"),
    # soil
    Quantity("soil_temperature", "Cel", -40.0, 80.0, "土壤温度", "Soil temperature"),
    Quantity("soil_moisture", "/", 0.0, 1.0, "土壤体积含水率", "Soil water content by volume"),
    Quantity("soil_conductivity", "S/m", 0.0, 3.0, "土壤电导率", "Soil electrical conductivity"),
    Quantity("soil_ph", "pH", 0.0, 14.0, "土壤酸碱度", "Soil pH"),
    Quantity("soil_water_potential", "Pa", -10_000_000.0, 100_000.0, "土壤水势", "Soil water potential"),
    Quantity("soil_depletion", "/", -1.0, 1.5, "土壤有效水亏缺率", "Depletion of available soil water"),
    Quantity("soil_nitrogen", "mg/kg", 0.0, 3_000.0, "土壤氮", "Soil nitrogen"),
    Quantity("soil_phosphorus", "mg/kg", 0.0, 3_000.0, "土壤磷", "Soil phosphorus"),
    Quantity("soil_potassium", "mg/kg", 0.0, 3_000.0, "土壤钾", "Soil potassium"),
    # water
    Quantity("water_temperature", "Cel", -2.0, 45.0, "水温", "Water temperature"),
    Quantity("dissolved_oxygen", "mg/L", 0.0, 25.0, "溶解氧", "Dissolved oxygen"),
    Quantity("oxygen_saturation", "%", 0.0, 300.0, "溶氧饱和度", "Oxygen saturation"),
    Quantity("ph", "pH", 0.0, 14.0, "酸碱度", "pH"),
    Quantity("turbidity", "NTU", 0.0, 4_000.0, "浊度", "Turbidity"),
    Quantity("total_ammonia", "mg/L", 0.0, 100.0, "总氨氮", "Total ammonia nitrogen"),
    Quantity("free_ammonia", "mg/L", 0.0, 50.0, "非离子氨", "Un-ionised ammonia"),
    Quantity("nitrite", "mg/L", 0.0, 50.0, "亚硝酸盐", "Nitrite"),
    Quantity("water_conductivity", "S/m", 0.0, 10.0, "水电导率", "Water conductivity"),
    Quantity("water_level", "m", -100.0, 300.0, "水位", "Water level"),
    Quantity("water_pressure", "Pa", -200_000.0, 2_000_000.0, "水压", "Water pressure"),
    Quantity("water_volume", "m3", 0.0, 1.0e9, "用水量", "Water volume"),
    Quantity("distance", "m", 0.0, 1_000.0, "距离", "Distance"),
    # animals, buildings, machines
    Quantity("weight", "kg", 0.0, 120_000.0, "重量", "Weight"),
    Quantity("count", "count", 0.0, 1.0e12, "计数", "Count"),
    Quantity("feed_mass", "kg", 0.0, 120_000.0, "饲料量", "Feed mass"),
    Quantity("power_present", "1", 0.0, 1.0, "市电", "Mains power present"),
    Quantity("output", "/", 0.0, 1.0, "输出", "Output"),
    Quantity("battery_voltage", "V", 0.0, 60.0, "电池电压", "Battery voltage"),
    Quantity("battery_level", "%EL", 0.0, 100.0, "电量", "Battery level"),
    Quantity("voltage", "V", -1_000.0, 1_000.0, "电压", "Voltage"),
    Quantity("current", "A", -1_000.0, 1_000.0, "电流", "Current"),
    Quantity("rssi", "dBW", -200.0, 0.0, "信号强度", "Received signal strength"),
    Quantity("snr", "dB", -60.0, 60.0, "信噪比", "Signal-to-noise ratio"),
)

QUANTITIES = MappingProxyType({row.name: row for row in _TABLE})


@lru_cache(4096)
def quantity_of(series: str) -> Quantity | None:
    """The row for a series ``sensor/quantity`` or a bare quantity; None where the table has none.

    A suffix after a dot names a variant (``soil_moisture.raw``, ``soil_temperature.20cm``) and shares the row.
    """
    return QUANTITIES.get(series.rpartition("/")[2].partition(".")[0])
