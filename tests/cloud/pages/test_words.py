"""Both languages are complete, say the same, and are well written."""

import re
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest

from cloud.alarms.schemas import AlarmState
from cloud.land.cycle import Action, State
from cloud.land.model import Recovery, Status, VerdictKind
from cloud.pages import words as words_module
from cloud.pages.case_actions import DATUMS
from cloud.pages.legend import CLASS_COLOURS, PALETTE
from cloud.pages.words import Language, words_for
from cloud.provenance.records import STEPS
from cloud.steering.schemas import CommandState, ConfigurationView
from cloud.telemetry.schemas import GatewayView
from edge.quantities import QUANTITIES
from edge.wire import Quality
from traceability.chain_rules import CHAINS
from traceability.demo import demo_chains

PAGES = Path(words_module.__file__).parent
ZH, EN = words_for(Language.ZH), words_for(Language.EN)
KEYS = sorted(ZH.keys())
SOURCES = [*PAGES.rglob("*.html"), *PAGES.glob("*.py")]
HAN = r"[\u4e00-\u9fff]"


def placeholders(phrase):
    return {name for _, name, _, _ in Formatter().parse(phrase) if name is not None}


def test_both_languages_have_the_same_keys():
    assert ZH.keys() == EN.keys()


def test_a_phrase_has_the_same_placeholders_in_both_languages():
    assert [key for key in KEYS if placeholders(ZH(key)) != placeholders(EN(key))] == []


def test_no_english_phrase_holds_chinese_and_hardly_a_chinese_one_is_left_untranslated():
    assert [key for key in KEYS if re.search(HAN, EN(key)) and key != "nav.other_language"] == []
    same = {key for key in KEYS if ZH(key) == EN(key) and not key.startswith("units.")}
    assert same <= {"sign_in.command", "trace.tried"}


def test_chinese_punctuation_beside_han_characters_is_full_width():
    assert [ZH(key) for key in KEYS if re.search(f"{HAN}[,:;!?()]|[,:;!?()]{HAN}", ZH(key))] == []


def test_every_key_that_a_page_asks_for_exists():
    asked = set()
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        asked |= set(re.findall(r'(?:\bt|\bwords|speech\.words)\(\s*["\']([a-z_]+\.[a-z0-9_]+)["\'](?!\s*~)', text))
    assert len(asked) > 100
    assert sorted(asked - set(KEYS)) == []


def test_every_plain_key_is_used_somewhere():
    text = "\n".join(source.read_text(encoding="utf-8") for source in SOURCES)
    text += (PAGES / "static" / "verify.js").read_text(encoding="utf-8")
    by_name = {
        "status",
        "class",
        "observability",
        "case_state",
        "case_step",
        "verdict_kind",
        "quality",
        "record_kind",
        "case_do",
        "case_error",
        "recovery",
        "datum",
        "photo_flag",
        "units",
        "signer",
        "connection",
        "command_state",
        "config_state",
        "steer_said",
        "steer_error",
        "letter_reason",
        "event_kind",
        "event_outcome",
        "gap_reason",
        "actuator_reason",
    }
    by_name |= {"alarm", "step", "chain", "part", "verdict", "code", "scratch", "problem", "age", "span"}
    plain = {key for key in KEYS if key.split(".")[0] not in by_name}
    built = {
        "overview.live",
        "overview.silent",
        "overview.never",
        "nav.overview",
        "nav.map",
        "nav.cases",
        "nav.trace",
        "nav.alarms",
        "nav.farms",
        *("farms.late", "farms.behind", "farms.ringing", "steer.set", "steer.release", "steer.read"),
    }
    built |= {key for key in plain if re.match(r"trace\.earliest_|gateway\.range_|case\.view_", key)}
    assert sorted(key for key in plain - built if f'"{key}"' not in text and f"'{key}'" not in text) == []


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("status", [*Status]),
        ("class", [*CLASS_COLOURS, "undecided"]),
        ("case_state", [*State]),
        ("case_step", [*Action]),
        ("verdict_kind", [*VerdictKind]),
        ("quality", [str(int(quality)) for quality in Quality]),
        ("chain", [*CHAINS]),
        ("code", ["issued", "activated", "sold", "retired", "void"]),
        ("scratch", ["first", "again", "wrong", "bad", "none", "used", "unused"]),
        ("record_kind", [*STEPS]),
        ("case_do", [*Action, "evidence"]),
        ("recovery", [*Recovery]),
        ("datum", [*DATUMS]),
        ("actuator_reason", ["manual", "failsafe", "exclusion", "max_run", "rest", "quota", "min_on", "min_off"]),
        ("alarm", ["warning", "critical", *get_args(AlarmState)]),
        ("connection", get_args(GatewayView.model_fields["state"].annotation)),
        ("command_state", get_args(CommandState)),
        ("config_state", get_args(ConfigurationView.model_fields["state"].annotation)),
    ],
)
def test_every_word_of_the_domain_has_its_translation(section, names):
    assert [name for name in names if f"{section}.{name}" not in KEYS] == []


def test_the_palette_knows_every_status():
    assert set(PALETTE) == {str(status) for status in Status}


def test_every_unit_that_needs_another_spelling_is_spelled():
    plain = {"ppm", "lx", "Pa", "h", "mm", "mg/L", "NTU", "kg", "m", "V", "A", "dB", "dBW", "%"}
    units = {row.unit for row in QUANTITIES.values()} - plain
    assert [unit for unit in units if f"units.{unit.replace('/', '_per_').replace('%', 'percent_')}" not in KEYS] == []


def test_an_unknown_language_falls_back_to_chinese():
    assert Language.of(None, "fr") is Language.ZH
    assert Language.of("en", "zh") is Language.EN


def test_a_key_nobody_wrote_is_a_bug():
    with pytest.raises(KeyError):
        ZH("overview.nonsense")


def test_a_name_from_outside_is_shown_as_it_is():
    assert ZH.named("chain", "silk") == "silk"


def test_templates_hold_no_words_of_their_own():
    assert [page.name for page in PAGES.rglob("*.html") if re.search(HAN, page.read_text(encoding="utf-8"))] == []


def test_every_step_of_the_demonstration_has_a_word():
    steps = {
        str(event["bizStep"]).rpartition(":")[2]
        for chain in demo_chains(0)
        for event in chain.events
        if "bizStep" in event
    }
    assert [step for step in sorted(steps) if f"step.{step}" not in KEYS] == []
