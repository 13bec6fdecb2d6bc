"""Reasons in words, for a village official and for an auditor: why a parcel got its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from remote_sensing.profiles import Profile


@dataclass(frozen=True, slots=True)
class Onset:
    """Crop year in which the idle run began: 5th, 50th and 95th percentile of its posterior."""

    p05: int
    p50: int
    p95: int

    def record(self) -> dict[str, int]:
        """JSON-able form."""
        return {"p05": self.p05, "p50": self.p50, "p95": self.p95}


_WORDS = {
    "cultivated": ("有耕作迹象：土壤裸露或淹水后出现作物生长与收割", "worked: bare or flooded soil, growth, harvest"),
    "idle_season": ("本年未见完整耕作，未达到撂荒年限", "not fully worked this year, too short for abandonment"),
    "abandoned": (
        "多年未见翻耕与收割，植被连续自然生长",
        "no tillage or harvest for years, plants grow on by themselves",
    ),
    "converted": (
        "呈果园或建设用地特征，属用途改变，不按撂荒处理",
        "looks like orchard or built-up land: converted, not abandoned",
    ),
    "natural": ("呈林地、水体或自然植被特征", "looks like forest, water or natural vegetation"),
}


def explain(
    class_name: str,
    onset: Onset | None,
    seen: tuple[str, int],
    looks: Sequence[int],
    profile: Profile,
    shares: Mapping[str, float],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Reasons (Chinese, English), most important first; ``seen``: observability and pure pixels."""
    zh: list[str] = []
    en: list[str] = []
    if seen[0] == "not_observable":
        return (
            ("地块过小或过窄，没有完整像元，卫星无法判断",),
            ("too small or too narrow: no pixel lies wholly inside",),
        )
    if class_name == "undecided":
        zh.append(f"本年有效观测仅 {int(looks[-1])} 次，不足 5 次，不作判断")
        en.append(f"only {int(looks[-1])} clear looks this year, fewer than 5: no judgement")
    else:
        words = _WORDS[class_name]
        zh.append(f"{words[0]}（概率 {shares[class_name]:.0%}）")
        en.append(f"{words[1]} (probability {shares[class_name]:.0%})")
    if onset:
        zh.append(f"约自 {onset.p50} 年度起（{onset.p05}–{onset.p95}），定义：{profile.title_zh}")
        en.append(f"since about crop year {onset.p50} ({onset.p05}-{onset.p95}); {profile.title_en}")
    zh.append(f"每年有效观测中位数 {int(np.median(looks))} 次；完整像元 {seen[1]} 个")
    en.append(f"median {int(np.median(looks))} clear looks a year; {seen[1]} pure pixels")
    return tuple(zh), tuple(en)
