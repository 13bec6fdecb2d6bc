"""EPCIS in XML, read into the same JSON form that everything else here works on.

`read_xml` takes a document of EPCIS 2.0 or 1.x. Document types are refused before a single entity can grow,
and depth and size are bounded, so a hostile file costs nothing. Names in a namespace become ``prefix:name``
with the prefix in the ``@context``; the ``extension`` wrappers of 1.x vanish; words of the standard written as
URNs or short forms become bare words. What comes out still has to pass `traceability.events.parse_document`.
Of the header only the master data is read.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final
from xml.parsers import expat

from traceability import TraceError
from traceability import epcis_vocabulary as words
from traceability.epcis_checks import LONGEST_NUMBER, prints_back
from traceability.events import EPCIS_CONTEXT

__all__ = ["XmlError", "read_xml"]

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 64
_LISTS: Final = {
    "epcList": "epc", "childEPCs": "epc", "inputEPCList": "epc", "outputEPCList": "epc",
    "correctiveEventIDs": "correctiveEventID",
}  # fmt: skip
_QUANTITY_LISTS: Final = ("quantityList", "childQuantityList", "inputQuantityList", "outputQuantityList")
_TYPED_LISTS: Final = {
    "bizTransactionList": ("bizTransaction", words.TRANSACTION_TYPES),
    "sourceList": ("source", words.PARTY_TYPES),
    "destinationList": ("destination", words.PARTY_TYPES),
}
_WORDS: Final = {
    "bizStep": words.BIZ_STEPS,
    "disposition": words.DISPOSITIONS,
    "set": words.DISPOSITIONS,
    "unset": words.DISPOSITIONS,
    "reason": words.ERROR_REASONS,
    "component": words.COMPONENTS,
    "type": words.MEASUREMENTS,
    "exception": words.SENSOR_ALERTS,
}
_NUMBERS: Final = frozenset(("quantity", "value", "minValue", "maxValue", "meanValue", "sDev", "percRank", "percValue"))
_STANDARD_PREFIXES: Final = (
    "urn:epcglobal:cbv:bizstep:", "urn:epcglobal:cbv:disp:", "urn:epcglobal:cbv:btt:", "urn:epcglobal:cbv:sdt:",
    "urn:epcglobal:cbv:er:", "cbv:BizStep-", "cbv:Disp-", "cbv:BTT-", "cbv:SDT-", "cbv:ER-", "cbv:Comp-", "gs1:",
    *(f"https://ref.gs1.org/cbv/{kind}-" for kind in ("BizStep", "Disp", "BTT", "SDT", "ER", "Comp")),
    "https://gs1.org/voc/", "https://ref.gs1.org/voc/",
)  # fmt: skip
# XML Schema's decimal and double; Python's own reading would also take underscores and digits of other scripts.
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII).fullmatch
_WHOLE = re.compile(r"[+-]?\d{1,40}", re.ASCII).fullmatch
_GS1: Final = {"gs1": "https://gs1.org/voc/", "cbv": "https://ref.gs1.org/cbv/"}
_NO_PREFIX: Final = frozenset({"http", "https", "urn", "ni", ""})
_SCHEMA_INSTANCE: Final = "http://www.w3.org/2001/XMLSchema-instance"


class XmlError(TraceError):
    """The XML cannot be read as EPCIS; the message names line and column where there is one."""

    default_code = "bad_xml"


@dataclass(slots=True)
class _Element:
    name: str  # "local", or "uri local" when in a namespace
    attributes: dict[str, str]
    children: list["_Element"] = field(default_factory=list)
    text: str = ""

    @property
    def local(self) -> str:
        return self.name.rpartition(" ")[2]

    def find(self, *path: str) -> "_Element | None":
        """The first descendant along local names, wherever their namespaces are."""
        if not path:
            return self
        for child in self.children:
            if child.local == path[0] and (found := child.find(*path[1:])) is not None:
                return found
        return None


def read_xml(data: bytes) -> dict[str, Any]:
    """An EPCISDocument or EPCISQueryDocument in its JSON form. Raises `XmlError`."""
    if len(data) > MAX_BYTES:
        raise XmlError(f"{len(data)} bytes are more than the {MAX_BYTES} allowed")
    tree = _Tree()
    root = tree.parse(data)
    if root.local == "EPCISDocument":
        path, key = ("EPCISBody", "EventList"), "EPCISDocument"
    elif root.local == "EPCISQueryDocument":
        path, key = ("resultsBody", "EventList"), "EPCISQueryDocument"
    else:
        raise XmlError(f"the root is {root.local}, not EPCISDocument or EPCISQueryDocument")
    body = root.find("EPCISBody", "QueryResults") or root
    events = (root if key == "EPCISDocument" else body).find(*path)
    if events is None:
        raise XmlError(f"{root.local} holds no {' / '.join(path)}")
    return _Reader(tree.prefixes()).document(root, body, events, key)


class _Tree:
    """A plain tree of elements, built without ever expanding an entity."""

    def __init__(self) -> None:
        self._namespaces: list[tuple[str, str]] = []
        self._open: list[_Element] = [_Element("", {})]

    def parse(self, data: bytes) -> _Element:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartNamespaceDeclHandler = self._namespace
        parser.StartDoctypeDeclHandler = self._doctype
        parser.buffer_text = True
        try:
            parser.Parse(data, True)  # noqa: FBT003 - expat takes "this is the end" by position
        except expat.ExpatError as why:
            raise XmlError(f"not XML: {expat.ErrorString(why.code)}, line {why.lineno}, column {why.offset}") from why
        except (ValueError, LookupError) as why:
            raise XmlError(f"not XML: {why}") from why
        return self._open[0].children[0]

    def prefixes(self) -> dict[str, str]:
        """A prefix of its own for every namespace that was declared.

        Never one with which a value begins: what is a whole URI in XML would become a short name in JSON.
        """
        chosen: dict[str, str] = {}
        begun = _schemes(self._open[0])
        for prefix, uri in self._namespaces:
            if uri in chosen or uri == _SCHEMA_INSTANCE or uri.startswith("urn:epcglobal:epcis"):
                continue
            name = "ns" if prefix in _NO_PREFIX else prefix
            while name in chosen.values() or name in begun:
                name += "x"
            chosen[uri] = name
        return chosen

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > MAX_DEPTH:
            raise XmlError(f"elements are nested deeper than {MAX_DEPTH}")
        element = _Element(name, attributes)
        self._open[-1].children.append(element)
        self._open.append(element)

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _characters(self, text: str) -> None:
        self._open[-1].text += text

    def _namespace(self, prefix: str | None, uri: str | None) -> None:
        self._namespaces.append((prefix or "", uri or ""))

    def _doctype(self, *_: Any) -> None:
        raise XmlError("a document type declaration is not allowed: it can define entities")


def _schemes(root: _Element) -> set[str]:
    """What stands before the first colon of every text and attribute."""
    found: set[str] = set()
    todo = [root]
    for element in todo:
        found.update(text.strip().partition(":")[0] for text in (element.text, *element.attributes.values()))
        todo += element.children
    return found


class _Reader:
    def __init__(self, prefixes: dict[str, str]) -> None:
        self._prefixes = prefixes

    def document(self, root: _Element, body: _Element, events: _Element, kind: str) -> dict[str, Any]:
        out: dict[str, Any] = {
            # XML uses the two short names of GS1's own words without declaring them; JSON declares what it uses.
            "@context": [EPCIS_CONTEXT, _GS1 | {prefix: uri for uri, prefix in self._prefixes.items()}],
            "type": kind,
            "schemaVersion": root.attributes.get("schemaVersion", ""),
            "creationDate": root.attributes.get("creationDate", ""),
        }
        own = self._own(root.children)
        event_list = [self._event(each) for each in _flat(events.children)]
        if kind == "EPCISDocument":
            if (header := self._master_data(root)) is not None:
                out["epcisHeader"] = header
            return out | own | {"epcisBody": {"eventList": event_list}}
        results: dict[str, Any] = {"queryName": ""}
        for name in ("queryName", "subscriptionID"):
            if (element := body.find(name)) is not None:
                results[name] = element.text.strip()
        results |= self._own(body.children) if body is not root else {}
        return out | own | {"epcisBody": {"queryResults": results | {"resultsBody": {"eventList": event_list}}}}

    def _master_data(self, root: _Element) -> dict[str, Any] | None:
        lists = root.find("EPCISHeader", "extension", "EPCISMasterData", "VocabularyList") or root.find(
            "EPCISHeader", "EPCISMasterData", "VocabularyList"
        )
        if lists is None:
            return None
        return {"epcisMasterData": {"vocabularyList": [self._vocabulary(each) for each in lists.children]}}

    def _vocabulary(self, element: _Element) -> dict[str, Any]:
        items = element.find("VocabularyElementList")
        return {
            "type": element.attributes.get("type", ""),
            "vocabularyElementList": [self._vocabulary_element(e) for e in (items.children if items else [])],
        }

    def _vocabulary_element(self, element: _Element) -> dict[str, Any]:
        children = element.find("children")
        out: dict[str, Any] = {"id": element.attributes.get("id", "")}
        out["attributes"] = [
            {"id": e.attributes.get("id", ""), "attribute": self._value(e, with_attributes=False)}
            for e in element.children
            if e.local == "attribute"
        ]
        if children is not None:
            out["children"] = [e.text.strip() for e in children.children]
        return out

    def _event(self, element: _Element) -> dict[str, Any]:
        out: dict[str, Any] = {"type": self._name(element.name)}
        for child in _flat(element.children):
            if " " in child.name:
                _add(out, self._name(child.name), self._value(child))
            else:
                self._field(out, child)
        return out

    def _field(self, out: dict[str, Any], child: _Element) -> None:
        name = child.name
        special: dict[str, Callable[[_Element], Any]] = {
            **dict.fromkeys(_LISTS, lambda e: [each.text.strip() for each in e.children]),
            **dict.fromkeys(_QUANTITY_LISTS, lambda e: [self._record(each) for each in e.children]),
            **dict.fromkeys(_TYPED_LISTS, lambda e: [self._typed(e.name, each) for each in e.children]),
            "sensorElementList": lambda e: [self._sensor(each) for each in e.children],
            "readPoint": self._record,
            "bizLocation": self._record,
            "ilmd": self._record,
            "errorDeclaration": self._event_part,
            "persistentDisposition": self._dispositions,
        }
        if name in special:
            out[name] = special[name](child)
        else:
            _add(out, name, _typed_text(name, child.text))

    def _event_part(self, element: _Element) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for child in _flat(element.children):
            if " " in child.name:
                _add(out, self._name(child.name), self._value(child))
            else:
                self._field(out, child)
        return out

    def _dispositions(self, element: _Element) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for child in element.children:
            out.setdefault(child.name, []).append(_typed_text(child.name, child.text))
        return out

    def _typed(self, list_name: str, element: _Element) -> dict[str, Any]:
        name, known = _TYPED_LISTS[list_name]
        kind = element.attributes.get("type")
        front = {} if kind is None else {"type": _bare(kind, known)}
        return front | {name: element.text.strip()}

    def _sensor(self, element: _Element) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for child in _flat(element.children):
            if child.name == "sensorReport":
                out.setdefault("sensorReport", []).append(self._record(child))
            else:
                _add(
                    out,
                    self._name(child.name),
                    self._record(child) if child.name == "sensorMetadata" else self._value(child),
                )
        return out

    def _record(self, element: _Element) -> dict[str, Any]:
        """Attributes and children as members, with the types the standard gives them."""
        out = {self._name(k): _typed_text(k, v) for k, v in self._attributes(element)}
        for child in _flat(element.children):
            name = self._name(child.name)
            _add(out, name, self._value(child) if " " in child.name else _typed_text(name, child.text))
        return out

    def _own(self, elements: Iterable[_Element]) -> dict[str, Any]:
        """Members of an own namespace; the standard's wrappers are left to the caller."""
        out: dict[str, Any] = {}
        for element in elements:
            name = self._name(element.name)
            if ":" in name:
                _add(out, name, self._value(element))
        return out

    def _value(self, element: _Element, *, with_attributes: bool = True) -> Any:
        """An own element: text alone, or an object of what it holds."""
        attributes = list(self._attributes(element)) if with_attributes else []
        text = element.text.strip()
        if not attributes and not element.children:
            return text
        out: dict[str, Any] = {self._name(k): v for k, v in attributes}
        for child in element.children:
            _add(out, self._name(child.name), self._value(child))
        return out | ({"#text": text} if text else {})

    def _attributes(self, element: _Element) -> Iterable[tuple[str, str]]:
        return ((k, v) for k, v in element.attributes.items() if not k.startswith(_SCHEMA_INSTANCE))

    def _name(self, name: str) -> str:
        uri, space, local = name.rpartition(" ")
        prefix = self._prefixes.get(uri) if space else None
        return local if prefix is None else f"{prefix}:{local}"


def _flat(elements: Iterable[_Element]) -> Iterable[_Element]:
    """The elements with the wrappers of EPCIS 1.x taken away."""
    for element in elements:
        if element.name in {"extension", "baseExtension"}:
            yield from _flat(element.children)
        else:
            yield element


def _add(out: dict[str, Any], name: str, value: Any) -> None:
    """A name met again becomes a list."""
    if name not in out:
        out[name] = value
    elif isinstance(out[name], list):
        out[name].append(value)
    else:
        out[name] = [out[name], value]


def _bare(text: str, known: frozenset[str]) -> str:
    for prefix in _STANDARD_PREFIXES:
        if text.startswith(prefix) and text[len(prefix) :] in known:
            return text[len(prefix) :]
    return text


def _exactly(text: str) -> int | float:
    if len(text) <= LONGEST_NUMBER:
        if _WHOLE(text):
            return int(text)
        if prints_back(text, number := float(text)) or not isfinite(number):  # the check that follows says where
            return number
    raise XmlError(f"the number {text[:LONGEST_NUMBER]} cannot be kept exactly", code="not_a_number")


def _typed_text(name: str, text: str) -> Any:
    text = text.strip()
    if name in _WORDS:
        return _bare(text, _WORDS[name])
    if name == "booleanValue":
        return {"true": True, "1": True, "false": False, "0": False}.get(text, text)
    if name in _NUMBERS and _NUMBER(text):
        return _exactly(text)
    return text  # the check that follows names what is no number
