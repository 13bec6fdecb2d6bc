"""The event side of `./dev conform trace`: documents, event hashes and Digital Links against public files.

`score(data, report)` judges everything under the folder of the traceability data. Files are found by where
they lie, never by name: other files of the same kinds are judged the same way.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
from measuring import Report

from traceability.digital_link import LinkError, parse_link
from traceability.epcis_shape import check_query
from traceability.epcis_xml import read_xml
from traceability.events import check_document, parse_document, unchecked_document
from traceability.hashing import document_event_ids

JSON_NAMES = ("*.json", "*.jsonld")


def score(data: Path, report: Report) -> None:
    """Judge every case of the five figures; an absent set is null."""
    official = official_schema(data)
    with report.cases("epcis_valid_accepted", at_least=1.0) as judge:
        for path in valid_documents(data):
            judge(str(path.relative_to(data)), lambda path=path: accepted(load(path), official))
    with report.cases("epcis_roundtrip_equal", at_least=1.0) as judge:
        for path in valid_documents(data):
            judge(str(path.relative_to(data)), lambda path=path: comes_back_equal(path))
    with report.cases("epcis_invalid_refused", at_least=1.0) as judge:
        for path in invalid_documents(data):
            judge(str(path.relative_to(data)), lambda path=path: refused_with_pointer(path))
    with report.cases("event_hash", at_least=1.0) as judge:
        for path in hashed_documents(data):
            judge(path.name, lambda path=path: hashes_agree(path))
    with report.cases("digital_link", at_least=1.0) as judge:
        for vector, also_valid in link_vectors(data):
            judge(vector["uri"], lambda vector=vector, also=also_valid: link_judged_right(vector, also_valid=also))


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def official_schema(data: Path) -> Any:
    """GS1's own schema, where it lies beside the documents; it only settles what an oddity is."""
    found = sorted(data.glob("gs1-epcis/**/EPCIS-JSON-Schema.json"))
    return jsonschema_rs.validator_for(load(found[0]), validate_formats=True) if found else None


def below(data: Path, *folders: str) -> Iterator[Path]:
    for folder in folders:
        for pattern in JSON_NAMES:
            yield from sorted((data / folder).rglob(pattern))


def valid_documents(data: Path) -> Iterator[Path]:
    for path in below(data, "gs1-epcis/examples", "openepcis"):
        if "Invalid" not in path.parts and "Queries" not in path.parts:
            yield path


def invalid_documents(data: Path) -> Iterator[Path]:
    return (path for path in below(data, "gs1-epcis/examples", "openepcis") if "Invalid" in path.parts)


def accepted(value: Any, official: Any) -> bool:
    """Accepted; or refused with a reason at a pointer, where the official schema refuses it too (an oddity)."""
    problems = check_document(value)
    if not problems:
        return True
    return all(p.pointer for p in problems) and official is not None and not official.is_valid(value)


def comes_back_equal(path: Path) -> bool:
    value = load(path)
    if check_document(value):
        return True  # an oddity is judged by the figure before
    document = parse_document(value)
    document_event_ids(document)  # naming the events must not touch them
    original = load(path)
    events = original.get("epcisBody", {})
    events = events.get("queryResults", {}).get("resultsBody", events).get("eventList", [original])
    again = [json.loads(json.dumps(event.body)) for event in document.events]
    return bool(document.body == original and again == events)


def refused_with_pointer(path: Path) -> bool:
    value = load(path)
    problems = check_query(value) if "Queries" in path.parts else check_document(value)
    return bool(problems) and all(problem.pointer for problem in problems or ())


def hashed_documents(data: Path) -> Iterator[Path]:
    for hashes in sorted((data / "event-hash").rglob("*.hashes")):
        for suffix in (".jsonld", ".json", ".xml"):
            if (path := hashes.with_suffix(suffix)).exists():
                yield path


def hashes_agree(path: Path) -> bool:
    value = read_xml(path.read_bytes()) if path.suffix == ".xml" else load(path)
    wanted = path.with_suffix(".hashes").read_text(encoding="utf-8").split()
    return list(document_event_ids(unchecked_document(value))) == wanted


def link_vectors(data: Path) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each vector, and whether the same text is also expected to be valid under another setting of the origin."""
    for path in sorted((data / "gs1-digital-link").rglob("*.json")):
        vectors = load(path)
        valid = {vector["uri"] for vector in vectors if vector["valid"]}
        yield from ((vector, vector["uri"] in valid) for vector in vectors)


def link_judged_right(vector: dict[str, Any], *, also_valid: bool) -> bool:
    """A valid link is read, strictly or leniently, as the expected data; an invalid one is refused.

    The origin has settings that the vectors do not record: what is also expected to be valid under another one need
    only be refused by the strict reading.
    """
    answers = []
    for lenient in (False, True):
        try:
            answers.append(parse_link(vector["uri"], lenient=lenient).element_string)
        except LinkError:
            answers.append(None)
    if vector["valid"]:
        return vector["element_string"] in answers
    return answers[0] is None and (also_valid or answers[1] is None)
