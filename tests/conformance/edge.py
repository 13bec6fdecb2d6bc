"""Scores the gateway's payload decoders and its reading of ChirpStack v4 events on recorded vectors.

``lorawan_*.json``: a list of vectors with vendor, device, fPort, the payload as hex or base64, and what the vendor's
own decoder makes of it (``expected``) or that it must be refused (``expected_error``). The first word of ``device`` is
the model, as a device profile would say it. A model without a decoder file counts in ``unknown_models`` and is right
when it is refused as unknown. ``chirpstack_*.json``: events by kind, or a list of them.
"""

import base64
import json
import math
import sys
from datetime import datetime

from measuring import conform

from edge.decoders import DecodeError, find_decoder
from edge.drivers.chirpstack import interpret


def payload_of(vector):
    return bytes.fromhex(vector["hex"]) if "hex" in vector else base64.b64decode(vector["base64"])


def decode(vector):
    decoder = find_decoder(vector["vendor"], vector["device"].split()[0])
    return decoder.decode(vector["fPort"], payload_of(vector))


def same(found, expected):
    """Numbers may come as text; the rest must be equal."""
    try:
        return math.isclose(float(found), float(expected), rel_tol=1e-9, abs_tol=1e-9)
    except (TypeError, ValueError):
        return found == expected


def agrees(vector):
    """Every expected name with its value and unit, and no name beyond them."""
    values = {one.name: one for one in decode(vector)}
    expected = vector["expected"]
    if values.keys() != expected.keys():
        return False
    for name, want in expected.items():
        number, unit = (want["value"], want["unit"]) if isinstance(want, dict) else (want, values[name].unit)
        if not same(values[name].value, number) or values[name].unit != unit:
            return False
    return True


def refuses(vector):
    try:
        decode(vector)
    except DecodeError:
        return True
    return False


def is_unknown(vector):
    try:
        find_decoder(vector["vendor"], vector["device"].split()[0])
    except DecodeError as why:
        return why.code == "unknown_model"
    return False


def vectors_in(folder, pattern):
    for path in sorted(folder.rglob(pattern)):
        document = json.loads(path.read_text("utf-8"))
        rows = document if isinstance(document, list) else document.get("vectors", [])
        for number, row in enumerate(rows, 1):
            yield f"{path.name}#{number} {row.get('device', '')}", row


def events_in(folder):
    for path in sorted(folder.rglob("chirpstack_*.json")):
        document = json.loads(path.read_text("utf-8"))
        rows = document.items() if isinstance(document, dict) else ((row["type"], row["event"]) for row in document)
        for kind, event in rows:
            yield f"{path.name} {kind}", kind, event


def is_read(kind, event):
    """The right device and millisecond, nothing of the payload lost, the link and the battery as sent."""
    said = interpret(kind, event, {})
    whole = datetime.fromisoformat(event["time"][:19] + "+00:00")
    if said.dev_eui != event["deviceInfo"]["devEui"].lower() or abs(said.time_ms / 1000 - whole.timestamp()) >= 1:
        return False
    samples = {sample.name.split("/")[1]: sample.value for sample in said.samples}
    if kind == "up":
        (notice,) = said.notices
        best = max(event["rxInfo"], key=lambda heard: heard["snr"])
        linked = same(samples["rssi"], best["rssi"] - 30) and same(samples["snr"], best["snr"])
        return notice.kind == "lora_unknown_model" and notice.body["data"] == event["data"] and linked
    (notice,) = said.notices
    kept = all(notice.body[key] == value for key, value in event.items() if key not in {"deviceInfo", "time"})
    charged = kind != "status" or same(samples["battery_level"], event["batteryLevel"])
    return notice.kind == f"lora_{kind}" and kept and charged


def score(args, report):
    unknown, failed, events_failed, total, heard = 0, 0, 0, 0, 0
    with report.cases("lorawan", at_least=1.0) as judge:
        for name, vector in vectors_in(args.data, "lorawan_*.json"):
            total += 1
            if is_unknown(vector):
                unknown += 1
                continue
            right = refuses if "expected_error" in vector else agrees
            failed += not judge(name, lambda right=right, vector=vector: right(vector))
    with report.cases("chirpstack", at_least=1.0) as judge:
        for name, kind, event in events_in(args.data):
            heard += 1
            events_failed += not judge(name, lambda kind=kind, event=event: is_read(kind, event))
    report.figure("lorawan_failed", failed if total else None, exactly=0 if total else None)
    report.figure("chirpstack_failed", events_failed if heard else None, exactly=0 if heard else None)
    report.figure("unknown_models", unknown if total else None)


if __name__ == "__main__":
    sys.exit(conform("edge", score, default="edge"))
