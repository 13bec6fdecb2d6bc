"""Alarms: what stored readings mean by the rules of their farm, and who is told.

`Watch` judges (a thread behind the watermark), `Teller` tells people, `Alarms` is the board. The rules themselves are
`edge.rules`, the same pure core that gateways use; here they run on event time over everything that was stored.
"""

from cloud.alarms.engine import Watched
from cloud.alarms.impostors import Impostors
from cloud.alarms.notify import Notifier, email, log, webhook
from cloud.alarms.router import build_router
from cloud.alarms.schemas import Receiver
from cloud.alarms.service import Alarms
from cloud.alarms.store import AlarmStore
from cloud.alarms.telling import Teller
from cloud.alarms.watch import Watch

__all__ = [
    "AlarmStore",
    "Alarms",
    "Impostors",
    "Notifier",
    "Receiver",
    "Teller",
    "Watch",
    "Watched",
    "build_router",
    "email",
    "log",
    "webhook",
]
