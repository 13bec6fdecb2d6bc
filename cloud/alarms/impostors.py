"""Two who speak with one name: a number used again for other content, or a second agent with a gateway's id.

No rule finds that out, ingest does. On the board it is an alarm like any other: one for each gateway, open until
nothing of the kind has happened for a day, told by the same ladder, acknowledged and shelved in the same ways.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cloud.alarms.store import AlarmStore

__all__ = ["KINDS", "QUIET_MS", "Impostors"]

QUIET_MS: Final = 24 * 3_600_000
KINDS: Final[Mapping[str, Mapping[str, str]]] = {
    "sequence_reused": {
        "zh": "同一序号收到两份不同内容",
        "en": "One sequence number came with two different contents",
        "action_zh": "查是否两台网关共用编号或拷贝了存储盘，停掉一台，给它新编号",
        "action_en": "See whether two gateways share one id or a spool was copied; stop one of them and register it"
        " under an id of its own. The second content stands among the dead letters and can be replayed",
        "source": "cloud.telemetry",
    },
    "duplicate_id": {
        "zh": "另有程序用同一编号连接",
        "en": "Another program connects with this gateway's id",
        "action_zh": "查是否有两台网关或两个程序共用编号，停掉一台；若都不认识，换密钥",
        "action_en": "See whether two gateways or two programs use this id and stop one of them; if you know neither of"
        " them, change the gateway's secret and the broker's password",
        "source": "edge.uplink",
    },
}


class Impostors:
    """Takes events as ingest keeps them, and puts those of the two kinds on the board.

    `stand(gateway)` gives name and region of a gateway.
    """

    def __init__(self, store: AlarmStore, *, clock: Callable[[], int], stand: Callable[[str], tuple[str, str]]) -> None:
        self._store = store
        self._clock = clock
        self._stand = stand

    def take_events(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Rows of events with gateway, kind, epoch, seq and time_ms; the same ones may come again."""
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for event in events:
            if event["kind"] in KINDS:
                found[str(event["gateway"]), event["kind"]] = event
        for (gateway, kind), event in found.items():
            name, region = self._stand(gateway)
            row = {
                "gateway": gateway,
                "rule": kind,
                "region": region,
                "severity": "critical",
                "subject": kind,
                "texts": {**KINDS[kind], "gateway": name},
            }
            self._store.happened(row, f"{event['epoch']}/{event['seq']}", event["time_ms"], self._clock())
