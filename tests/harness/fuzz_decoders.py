"""Every decoder that meets foreign bytes, under atheris: `python fuzz_decoders.py FOLDER [libFuzzer options]`.

The first byte picks the decoder. What counts as a finding: any exception that is not the decoder's own refusal, and any
pack that the quick road reads otherwise than the strict one. Runs with an interpreter that has atheris, see
`benchmarks/fuzz.py`.
"""

import contextlib
import sys
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["edge.wire", "cloud.telemetry"]):
    from cloud.problems import Invalid
    from cloud.telemetry.dead_letters import Message
    from cloud.telemetry.fast_packs import QuickPacks
    from cloud.telemetry.foreign import from_line_protocol, from_thingsboard
    from cloud.telemetry.quick_client import cut_published
    from edge import EdgeError
    from edge.wire import Event, Record, Status, decode_pack, parse_topic

NOW = 1_700_000_000_000
TOPIC = "tm/1/pond/data/aaaaaaaa/7"
KNOWN = {("p1/ph", "pH"): 1, ("p1/temp", "Cel"): 2, ("p1/bare", ""): 3}
QUICK = QuickPacks()
QUICK.meet(parse_topic(TOPIC))
for (name, unit), number in KNOWN.items():
    QUICK.learn("pond", name, unit, number)

_PACK = (
    b'[{"bn":"urn:dev:org:32473-pond:","bt":1699999999.5,"n":"p1/ph","u":"pH","v":7.25},{"n":"p1/bare","v":1,"t":-6}]'
)
BEGINNINGS = (
    _PACK,
    zlib.compress(_PACK),
    b'weather,host=a,sensor=mast air_temperature=21.5,x=80i,note="a b" 1700000000123456789',
    b'{"Barn 1":[{"ts":1700000000123,"values":{"ammonia":12,"on":true}},{"ammonia":13}]}',
    b"\x32\x0a\x00\x01t\x00\x07\x00abcd\x32\x05\x00\x01t\x00\x07",
    b'{"kind":"gap","time":1700000000000,"body":{"first":1,"last":2}}',
)


def pack(data):
    try:
        strict = decode_pack(data)
    except EdgeError:
        strict = None
    (found,) = QUICK.take([Message(TOPIC, data, NOW)], NOW, lambda _: True)
    if found is None:
        return
    columns = (found.points.series, found.points.time_ms, found.points.value, found.points.quality)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    wanted = [(KNOWN[one.name, one.unit], one.time_ms, one.value, int(one.quality)) for one in strict.readings]
    if rows != wanted or strict.gateway != "pond":
        raise AssertionError(f"the quick road reads {rows}, the strict one {wanted}")


def lines(data):
    with contextlib.suppress(Invalid):
        from_line_protocol(data.decode("utf-8", "replace"), NOW)


def thingsboard(data):
    with contextlib.suppress(Invalid):
        from_thingsboard(data, NOW)


def packets(data):
    found, at = cut_published(data, 0, properties=bool(data[:1]) and bool(data[0] & 1))
    if bool(found) != (at > 0) or at > len(data):
        raise AssertionError(f"{len(found)} packets end at {at}")


def signed(data):
    for decode in (Event.decode, lambda one: Record.verify(one, b"x" * 32), lambda one: Status.verify(one, b"x" * 32)):
        with contextlib.suppress(EdgeError):
            decode(data)
    with contextlib.suppress(EdgeError):
        parse_topic(data.decode("utf-8", "replace"))


DECODERS = (pack, pack, lines, thingsboard, packets, signed)


def one(data):
    if data:
        DECODERS[data[0] % len(DECODERS)](data[1:])


def main():
    folder = Path(sys.argv[1])
    for n, beginning in enumerate(BEGINNINGS):
        (folder / f"beginning-{n}").write_bytes(bytes([n]) + beginning)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
