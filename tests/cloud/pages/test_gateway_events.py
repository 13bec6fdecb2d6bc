"""What gateways report is said in sentences, also when a gateway of another version reports it."""

import pytest

from cloud.pages.gateway_events import sentence
from cloud.pages.speech import Speech
from cloud.pages.words import Language, words_for
from cloud.telemetry.schemas import EventView

ZH, EN = (Speech(words_for(language), 0) for language in (Language.ZH, Language.EN))
LOW = {"rule": "low", "kind": "raised", "zh": "溶氧低", "en": "Low oxygen"}


def said(kind, body, speech=ZH):
    event = EventView(gateway="g", epoch="e", seq=1, kind=kind, time_ms=0, received_ms=0, body=body)
    return sentence(event, lambda name: {"fan1": "1号风机"}.get(name, name), speech)


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("alarm", LOW, "溶氧低"),
        ("alarm", LOW | {"kind": "cleared"}, "溶氧低：已解除"),
        ("gap", {"first": 3, "last": 9, "count": 70, "reason": "age"}, "第 3 至 9 号缺失，共 70 条：超出保存期限"),
        ("clock", {"moved_ms": -7_200_000, "quality": "good"}, "时钟向后调了 2 小时"),
        ("actuator", {"actuator": "fan1", "value": 0.1, "reason": "heat"}, "1号风机 调到 10%（heat）"),
        ("actuator", {"actuator": "fan1", "value": 0, "reason": "nothing wanted"}, "1号风机 调到 0%（无需运行）"),
        ("actuator", {"actuator": "fan1", "value": 1, "reason": "command by li"}, "1号风机 调到 100%（li 的指令）"),
        ("command", {"id": "1", "outcome": "refused", "reason": "expired"}, "指令被拒绝：expired"),
        ("config", {"revision": 4, "outcome": "kept", "reason": ""}, "配置第 4 版已采用"),
    ],
)
def test_what_a_gateway_reports_is_a_sentence(kind, body, words):
    assert said(kind, body) == words


def test_an_english_reader_gets_the_english_text_of_a_rule():
    assert said("alarm", LOW, EN) == "Low oxygen"


@pytest.mark.parametrize("body", [{}, {"first": 3}, {"moved_ms": None}, {"kind": "asleep", "zh": "", "en": ""}])
@pytest.mark.parametrize("kind", ["alarm", "gap", "clock", "actuator", "command", "config", "novelty"])
def test_a_body_without_its_sentence_is_shown_as_it_came_and_breaks_no_page(kind, body):
    assert said(kind, body).startswith("{")


def test_a_long_body_is_cut():
    assert len(said("novelty", {"text": "x" * 1000})) == 160
