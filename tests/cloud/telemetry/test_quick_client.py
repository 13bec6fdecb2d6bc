"""Cutting packets by ourselves gives what paho would have given, and leaves to paho whatever is not plain."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as mqtt

from cloud.telemetry.quick_client import QuickClient, cut_published


def varint(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def packet(topic, payload, mid=7, qos=1, flags=0, properties=None):
    body = struct.pack(">H", len(topic)) + topic + (struct.pack(">H", mid) if qos else b"")
    body += b"" if properties is None else varint(len(properties)) + properties
    body += payload
    return bytes([0x30 | qos << 1 | flags]) + varint(len(body)) + body


MESSAGES = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=20),
        st.binary(max_size=40) | st.binary(min_size=120, max_size=300),
        st.integers(1, 65535),
        st.integers(0, 1),
        st.sampled_from([0, 1, 8, 9]),  # duplicate and retained
    ),
    max_size=5,
)


@given(messages=MESSAGES, five=st.booleans(), tail=st.binary(max_size=3), at=st.integers(0, 3))
def test_whole_messages_are_cut_out_and_the_rest_is_where_it_begins(messages, five, tail, at):
    stream = b"".join(packet(*one, properties=b"" if five else None) for one in messages)
    torn = stream + (packet(b"t", b"payload", properties=b"" if five else None) + tail)[: -1 - len(tail)]
    found, rest = cut_published(b"\xff" * at + torn, at, properties=five)
    assert [(one.topic, one.payload, one.mid, one.qos, one.retain) for one in found] == [
        (topic, payload, mid if qos else 0, qos, bool(flags & 1)) for topic, payload, mid, qos, flags in messages
    ]
    assert rest == at + len(stream)


def test_properties_of_mqtt_5_are_passed_over():
    (one,), _ = cut_published(packet(b"t", b"p", properties=b"\x01\x01"), 0, properties=True)
    assert one.payload == b"p"


@pytest.mark.parametrize(
    "bytes_",
    [
        b"",
        b"\x32",
        b"\x32\x00",
        b"\x32\x01\x00",
        b"\x32\xff\xff\xff\xff\x7f",
        b"\x32\x03\x00\x01t",  # no packet identifier
        packet(b"", b"p"),  # an alias stands for the topic
        packet(b"t", b"p", qos=2),
        b"\x40\x02\x00\x01",  # an acknowledgement
        packet(b"t", b"p", properties=b"x" * 130),
        packet(b"t", b"")[:-1] + b"\x05",  # properties beyond the end
    ],
)
def test_what_is_not_plain_is_left_to_paho(bytes_):
    assert cut_published(bytes_, 0, properties=True) == ([], 0)


@given(noise=st.binary(max_size=60), five=st.booleans())
def test_noise_is_never_an_exception(noise, five):
    found, rest = cut_published(noise, 0, properties=five)
    assert 0 <= rest <= len(noise)
    assert bool(found) == (rest > 0)


def test_the_hooks_of_paho_that_it_rests_on_are_there():
    client = QuickClient(mqtt.CallbackAPIVersion.VERSION2)
    assert callable(mqtt.Client._create_socket)
    assert client._in_packet["command"] == 0
    assert client._msgtime_mutex
    assert client._last_bytes_received > 0
    assert not client.reading()
