"""The event side of `./dev bench trace`: hashing, checking, following lots, printing codes.

Called by trace.py, and a program of its own (`trace_events`) for whoever works on this side only.
"""

import io
import json
import random
import sys
import time

from measuring import bench
from sheets import decoded

from traceability.custody import Genealogy
from traceability.demo import demo_chains
from traceability.events import CONTEXT, parse_document, parse_event, transformation_event
from traceability.hashing import event_id
from traceability.label_sheets import TEMPLATES, write_pdf
from traceability.qr_batch import SymbolBatch
from traceability.recall import recall_scope
from traceability.serials import issue

NOW_MS = 1_780_000_000_000
LINK = "HTTPS://TRACE.EXAMPLE.CN/01/02000015300018/10/P261121/21/"
ROUNDS = 3  # the best of so many: others use the machine too


def measure(args, report):
    events = [event for chain in demo_chains(NOW_MS) for event in chain.events]
    report.figure("event_bytes", sum(len(json.dumps(event)) for event in events) / len(events))
    many = [other_things(event, number) for number in range(200) for event in events]
    seconds = best(lambda: [event_id(event) for event in many])
    report.figure("event_hash_ps", len(many) / seconds, at_least=5_000)
    documents = [document(many[n : n + 100]) for n in range(0, len(many), 100)]
    seconds = best(lambda: [parse_document(each) for each in documents])
    report.figure("validate_ps", len(many) / seconds, at_least=20_000)
    measure_custody(report)
    measure_labels(report)


def other_things(event, number):
    """The same event about other animals and packs: no name repeats, so nothing is gained by remembering names."""
    text = json.dumps(event).replace("ear:1500153", f"ear:1500{number:03d}").replace("/21/", f"/21/{number:03d}")
    return json.loads(text.replace(":lot:", f":lot:{number:03d}-"))


def best(work):
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def document(events):
    return {
        "@context": CONTEXT,
        "type": "EPCISDocument",
        "schemaVersion": "2.0",
        "creationDate": "2026-11-01T00:00:00.000Z",
        "epcisBody": {"eventList": [{k: v for k, v in event.items() if k != "@context"} for event in events]},
    }


def measure_custody(report):
    """A pack with 329 ancestors, and one feed lot that went into 125,000 things."""
    events = [transformation_event("assembling", 0, took=["urn:x:mill"], made=["urn:x:feed"])]
    for herd in range(250):
        name = f"urn:x:herd-{herd}"
        fed = {"took": ["urn:x:feed", f"urn:x:grain-{herd}"], "made": [name]}
        packs = [f"urn:x:pack-{herd}-{n}" for n in range(499)]
        events.append(transformation_event("assembling", 1, **fed))
        events.append(transformation_event("assembling", 2, took=[name], made=packs))
    animals = [f"urn:x:animal-{n}" for n in range(300)]
    events += [transformation_event("assembling", 1, took=[f"urn:x:dam-{n}"], made=[animals[n]]) for n in range(28)]
    events.append(transformation_event("assembling", 3, took=animals, made=["urn:x:mince"]))
    events.append(transformation_event("assembling", 4, took=["urn:x:mince"], made=["urn:x:pack"]))
    genealogy = Genealogy(map(parse_event, events))

    def back():
        return json.dumps([genealogy.back("urn:x:pack"), genealogy.resolution("urn:x:pack").candidates])

    report.figure("trace_back_ancestors", len(genealogy.back("urn:x:pack")), exactly=329)
    report.figure("trace_back_ms", 1000 * best(back), at_most=5)
    seconds = best(lambda: recall_scope(genealogy, ["urn:x:feed"], known_ms=NOW_MS))
    report.figure(
        "recall_things", len(recall_scope(genealogy, ["urn:x:feed"], known_ms=NOW_MS).affected), at_least=125_000
    )
    report.figure("recall_s", seconds, at_most=1)


def measure_labels(report):
    serials = issue(random.Random(7).randbytes(32), "bench", 100_000)
    batch = SymbolBatch(LINK, len(serials[0]), sample=serials)
    report.figure("qr_ps", len(serials) / best(lambda: batch.bitmaps(serials)), at_least=200_000)
    template, sheets = TEMPLATES["a4-65"], []

    def sheet(dpi=203):
        out = io.BytesIO()
        size = write_pdf(out, batch, serials, template, lines=["承诺达标合格证", "P261121"], dpi=dpi)
        sheets[:] = [(out.getvalue(), size)]

    report.figure("pdf_labels_ps", len(serials) / best(sheet), at_least=20_000)
    report.figure("pdf_bytes_per_label", sheets[0][1] / len(serials), at_most=250)
    right = wanted = 0
    for dpi in (300, 203):
        sheet(dpi)
        for page in (0, len(serials) // template.on_page // 2):
            expected = {LINK + serial for serial in serials[page * template.on_page : (page + 1) * template.on_page]}
            right += len(decoded(sheets[0][0], page, dpi) & expected)
            wanted += len(expected)
    report.figure("labels_decoded_share", right / wanted, cases=wanted, wrong=wanted - right, at_least=1.0)


if __name__ == "__main__":
    sys.exit(bench("trace_events", measure))
