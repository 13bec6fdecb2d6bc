"""Messages that came on a stick instead of by the broker: the export of a gateway's spool."""

from collections.abc import Callable, Iterable
from itertools import islice

from cloud.problems import Invalid
from cloud.telemetry.dead_letters import Message
from cloud.telemetry.pipeline import Pipeline
from edge.wire import Ack, WireError, read_export

__all__ = ["take_export"]

_AT_ONCE = 1000


def take_export(pipeline: Pipeline, lines: Iterable[bytes], clock: Callable[[], int]) -> tuple[int, dict[str, Ack]]:
    """Take every message of an export as if the broker had brought it: how many there were, and the watermarks.

    Taking a file twice changes nothing, nor does a file whose messages came by the broker meanwhile. Raises `Invalid`
    naming the line that cannot be read; what stood before it has been taken, and may be taken again.
    """
    messages = (Message(topic.text, payload, clock()) for topic, payload in read_export(lines))
    count, acks = 0, dict[str, Ack]()
    while True:
        try:
            batch = list(islice(messages, _AT_ONCE))
        except WireError as why:
            raise Invalid(str(why), code=why.code) from why
        if not batch:
            return count, acks
        acks |= pipeline.take(batch)
        count += len(batch)
