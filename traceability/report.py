"""What a verified pack says, for people (Chinese, English) and for programs.

A report keeps two things apart that are easily taken for one: what is *proven* (these records stood in the log,
unchanged, since a witness saw it) and what is only *claimed* (that what was recorded is true).
"""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from traceability.events import STEP
from traceability.packs import Proven, ProvenEvent
from traceability.story import COMPLETENESS, STEP_WORDS, Said, declared_wrong

_CHINA: Final = timezone(timedelta(hours=8))
TEXTS: Final = {
    "zh": {
        "good": "已证实：{count} 条记录，标的 {subject}",
        "bad": "未通过核验：{why}",
        "log": "日志 {origin}，共 {size} 条；签名密钥 {key}",
        "seen": "见证人 {name} 于 {time} 签认",
        "unseen": "没有见证人签认：日志所有者一人即可另立一本",
        "line": "{number}. {time}  {what}（{log}第 {index} 条）",
        "declaration": "{line} — 这是对该事件的错误声明",
        "of_log": "日志",
        "of_shard": "日志 {origin} ",
        "who": "登记者",
        "where": "地点",
        "lot": "批次",
        "product": "产品",
        "quantity": "数量",
        "inputs": "用入",
        "outputs": "产出",
        "event": "事件号",
        "chain": "链条",
        "withheld": "未出示（有承诺，不可改）：{names}",
        "proven": "已证明：上述记录当时就在日志中，顺序与内容此后一字未改；出示的字段与当时承诺一致。",
        "claimed": "仅为申报：记录内容是否属实由登记者负责，日志只证明没有事后改动。",
        "complete": COMPLETENESS.zh,
    },
    "en": {
        "good": "Verified: {count} events about {subject}",
        "bad": "Not verified: {why}",
        "log": "Log {origin}, {size} entries; signed by {key}",
        "seen": "Witness {name} cosigned at {time}",
        "unseen": "No witness cosigned: the owner of the log alone could keep a second one",
        "line": "{number}. {time}  {what} ({log}entry {index})",
        "declaration": "{line}: a declaration that this event is wrong",
        "of_log": "log ",
        "of_shard": "{origin}, ",
        "who": "recorded by",
        "where": "place",
        "lot": "lot",
        "product": "product",
        "quantity": "quantity",
        "inputs": "used",
        "outputs": "gave",
        "event": "event id",
        "chain": "chain",
        "withheld": "not shown (committed to, cannot change): {names}",
        "proven": "Proven: these records stood in the log then, and neither order nor content changed since; "
        "what is shown is what was committed to.",
        "claimed": "Only claimed: whether what was recorded is true is on whoever recorded it; "
        "the log proves that nothing was changed afterwards.",
        "complete": COMPLETENESS.en,
    },
}
_LONGEST: Final = 160
_SHOWN: Final = ("who", "where", "lot", "product", "quantity", "inputs", "outputs")


def report_lines(proven: Proven, lang: str) -> list[str]:
    """A report for people in `lang`, a key of `TEXTS`."""
    words = TEXTS[lang]
    lines = [words["good"].format(count=len(proven.events), subject=proven.subject)]
    for head in proven.heads:
        checkpoint = head.checkpoint
        lines.append(words["log"].format(origin=checkpoint.origin, size=checkpoint.size, key=head.log.name))
        lines += [words["seen"].format(name=name, time=shown_time(seen)) for name, seen in head.witnesses]
        if not head.witnesses:
            lines.append(words["unseen"])
    wrong = {event.get("event"): said for event in proven.events if (said := _declaration(event)) is not None}
    for event in proven.events:
        log = words["of_log" if len(proven.heads) == 1 else "of_shard"].format(origin=event.origin)
        first, *rest = _event_lines(event, log, words)
        said = wrong.get(event.get("event"))
        marked = [] if said is None else [f"   {_plain(said.zh if words is TEXTS['zh'] else said.en)}"]
        named = words["declaration"].format(line=first) if _declaration(event) is not None else first
        lines += [named, *marked, *rest]
    return [*lines, words["proven"], words["claimed"], words["complete"]]


def _declaration(event: ProvenEvent) -> Said | None:
    """What a declaration of error says; None for every other event, or where its view is not shown."""
    try:
        view = json.loads(str(event.get("view")))
    except ValueError:
        return None
    declaration = view.get("errorDeclaration") if isinstance(view, dict) else None
    return None if declaration is None else declared_wrong(declaration)


def _event_lines(event: ProvenEvent, log: str, words: dict[str, str]) -> list[str]:
    when = shown_time(event.when_ms)
    named = STEP_WORDS.get(event.what, STEP_WORDS.get(STEP + event.what, (event.what, event.what)))
    what = named[0 if words is TEXTS["zh"] else 1]
    lines = [words["line"].format(number=event.number, time=when, what=what, log=log, index=event.index)]
    own = {name: event.get(name) for name in _SHOWN if event.get(name) not in (None, [])}
    # The whole event as JSON is for programs (--json); what a person can read of it stands in the other fields.
    known = {"when", "what", *own, "inputs", "outputs", "view", "format", "commitments"}
    rest = {name: event.get(name) for name in sorted({*event.public, *event.disclosed} - known)}
    lines += [f"   {words.get(name, name)}: {_plain(value)}" for name, value in {**own, **rest}.items()]
    if event.withheld:
        lines.append("   " + words["withheld"].format(names=", ".join(event.withheld)))
    return lines


def _plain(value: object) -> str:
    """One line for any value: no control characters that a terminal would obey, no pages of JSON."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        text = ", ".join(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)}, --json)"


def shown_time(time_ms: int) -> str:
    """A time (ms UTC) as it is shown: in China's zone."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, tz=_CHINA).strftime("%Y-%m-%d %H:%M:%S +08:00")
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"


def report_table(proven: Proven) -> dict[str, object]:
    """The same for programs, as JSON values."""
    return {
        "verified": True,
        "subject": proven.subject,
        "logs": [
            {
                "origin": head.checkpoint.origin,
                "size": head.checkpoint.size,
                "key": head.log.vkey,
                "witnesses": [
                    {"name": name, "time": datetime.fromtimestamp(seen / 1000, tz=UTC).isoformat()}
                    for name, seen in head.witnesses
                ],
            }
            for head in proven.heads
        ],
        "events": [
            {
                "number": event.number,
                "log": event.origin,
                "index": event.index,
                "public": event.public,
                "disclosed": event.disclosed,
                "withheld": event.withheld,
            }
            for event in proven.events
        ],
    }
