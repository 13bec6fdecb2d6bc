"""The contract between gateway and cloud: topics, packs, watermarks, records, commands.

Everything the protocol needs is in topic and payload, so that a plain MQTT 3.1.1 broker will do.

``data``, ``record`` and ``event`` messages carry ``(epoch, seq)`` in the topic and share one sequence per
gateway. The epoch names one spool (new spool, new epoch); the cloud answers with a cumulative watermark
(:class:`Ack`), and only that lets the gateway forget. A pack is SenML JSON (RFC 8428), deflated or not,
with two extra labels that other SenML readers may ignore: ``q`` (:class:`Quality`, absent = good) and
``c`` (calibration id). A record without a value is legal only with ``q >= 4``.

What a person or an actuator relies on — farm records, status, commands and their results — is signed with
the gateway's secret. The signature covers the exact bytes of the JSON text inside the envelope
``{"hmac": hex, "signed": text}``: no canonical form is needed, so any language can check it.
"""

from edge.wire.exports import export_head, export_line, read_export
from edge.wire.messages import Ack, Applied, Command, Event, Record, Result, Status, Wanted
from edge.wire.packs import DEFAULT_LIMITS, Limits, Pack, Quality, Reading, decode_pack, encode_pack, identity
from edge.wire.texts import MAX_SEQ, WireError, parse
from edge.wire.topics import PREFIX, Kind, Topic, parse_topic

__all__ = [
    "DEFAULT_LIMITS",
    "MAX_SEQ",
    "PREFIX",
    "Ack",
    "Applied",
    "Command",
    "Event",
    "Kind",
    "Limits",
    "Pack",
    "Quality",
    "Reading",
    "Record",
    "Result",
    "Status",
    "Topic",
    "Wanted",
    "WireError",
    "decode_pack",
    "encode_pack",
    "export_head",
    "export_line",
    "identity",
    "parse",
    "parse_topic",
    "read_export",
]
