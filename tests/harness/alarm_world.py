"""Alarms over a readings store in a dictionary, with a clock to turn and people who listen."""

from sqlalchemy import false, or_, select

from cloud.alarms import Alarms, AlarmStore, Teller, Watch, Watched
from cloud.alarms.notify import NotSent
from cloud.alarms.tables import alarm
from cloud.database import open_database
from edge.rules import Sample, parse_rule

MINUTE = 60_000
HOUR = 60 * MINUTE
T0 = 1_700_006_400_000  # a whole hour
OXYGEN = "pond1/dissolved_oxygen"
TEXTS = {"zh": "溶解氧过低", "en": "Oxygen low", "action_zh": "开增氧机", "action_en": "Aerate", "source": "test"}


def rule(name, on, severity="warning", **more):
    row = {"id": name, "severity": severity, "inputs": {"x": OXYGEN}, "on": on, **TEXTS, **more}
    return parse_rule(row, {OXYGEN: 60})


LOW = rule("low", "x < 5", hold="10min", off="x > 5.5")
VERY_LOW = rule("very-low", "x < 3", "critical", hold="2min")
SILENT = rule("silent", "missing(x) >= 3")
LONG = rule("long", "hours(x < 5, 24h) > 8")


class World:
    """A readings store in a dictionary, a clock, people with telephones, and the alarms over them."""

    def __init__(self, folder, rules=(LOW, VERY_LOW)):
        self.now = T0
        self.kept = {}
        self.journal = []
        self.heard = []
        self.phone_dead = False
        self.gateways = [Watched("pond", "一号塘", "500108", tuple(rules))]
        self.engine = open_database(f"sqlite:///{folder / 'cloud.db'}")
        self.store = AlarmStore(self.engine)
        self.store.create()
        self.trail = []
        self.board = Alarms(
            self.store,
            clock=lambda: self.now,
            watched=lambda: self.gateways,
            covers=covers,
            inside=inside,
            audit=self.audit,
        )
        self.watch = self.new_watch()

    def new_watch(self):
        teller = Teller(self.store, lambda mine, theirs: theirs.startswith(mine), {"log": self.telephone})
        watch = Watch(
            self.store, teller, clock=lambda: self.now, watched=lambda: self.gateways, history=self.history, follow=self
        )
        watch.round()
        return watch

    def telephone(self, address, text):
        if self.phone_dead:
            raise NotSent("no signal")
        self.heard.append((address, text))

    def history(self, gateway, names, start, end):
        return [
            Sample(name, at, value)
            for (owner, name, at), value in sorted(self.kept.items(), key=lambda item: item[0][2])
            if owner == gateway and name in names and start <= at < end
        ]

    def position(self):
        return len(self.journal)

    def stored(self, after, upto):
        return self.journal[after:upto]

    def send(self, *rows, gateway="pond", series=OXYGEN, told=True):
        """Rows of (minutes after T0, value) become durable and are told, unless a crash comes between."""
        samples = [Sample(series, T0 + round(at * MINUTE), value) for at, value in rows]
        for sample in samples:
            self.kept.setdefault((gateway, sample.series, sample.time_ms), sample.value)
        times = [one.time_ms for one in samples]
        self.journal.append((gateway, min(times, default=T0), max(times, default=T0)))
        if told:
            self.watch.tell(lambda: {gateway: samples}, len(samples), len(self.journal))

    def live(self, *values, start=None):
        """One value a minute, each told as its minute comes."""
        for value in values:
            self.now += MINUTE
            self.send(((self.now - T0) / MINUTE, value))
            self.watch.round()

    def receiver(self, level=0, region="500108", severity="warning", per_hour=100, address=None):
        address = address or f"level-{level}"
        row = {"name": "Li", "kind": "log", "address": address, "region": region, "severity": severity}
        self.store.add_receiver({**row, "level": level, "per_hour": per_hour}, lambda _: None)

    def audit(self, connection, who, what, subject, detail=None, region=None):
        """An entry of the trail; it must come on a connection that is about to commit."""
        assert connection.in_transaction()
        self.trail.append((who, what, subject, detail, region))

    def alarms(self):
        found = self.board.board().items
        return sorted((one.rule, (one.raised_ms - T0) // MINUTE, one.state) for one in found)


def inside(granted):
    return select(alarm.c.region).where(or_(false(), *(alarm.c.region.startswith(one) for one in granted)))


def covers(region, granted):
    return any(region.startswith(one) for one in granted)
