"""A load of MQTT messages, QoS 1, from prepared bytes over a raw socket: no client library in the way.

As a program: `python mqtt_load.py FILE PORT [--rate N] [--window N]` sends what `prepare` wrote and prints one JSON
line with the messages that the broker acknowledged and the seconds it took.
"""

import argparse
import json
import socket
import struct
import threading
import time
from pathlib import Path

_ID_BYTES = 2


def prepare(path, messages):
    """Write (topic, payload) pairs as PUBLISH packets whose identifiers are filled in when they are sent."""
    with path.open("wb") as out:
        for topic, payload in messages:
            name = topic.encode()
            body = len(name) + 2 + _ID_BYTES + len(payload)
            head = b"\x32" + _varint(body) + struct.pack(">H", len(name)) + name
            out.write(struct.pack(">II", len(head), len(payload)) + head + payload)


def _varint(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def packets(path):
    """The prepared packets, with running identifiers."""
    data = path.read_bytes()
    at, number = 0, 0
    while at < len(data):
        head, body = struct.unpack_from(">II", data, at)
        at += 8
        number = number % 65535 + 1
        yield data[at : at + head] + struct.pack(">H", number) + data[at + head : at + head + body]
        at += head + body


def send(path, port, rate=None, window=2000):
    """Send everything; (messages acknowledged by the broker, seconds)."""
    line = socket.create_connection(("127.0.0.1", port))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04load")
    if line.recv(4)[3:] != b"\x00":
        raise ConnectionError("the broker does not take us")
    ready = list(packets(path))
    acked = threading.Semaphore(0)
    done = threading.Event()

    def listen():
        rest = b""
        seen = 0
        while seen < len(ready):
            rest += line.recv(1 << 16)
            whole = len(rest) // 4
            rest = rest[4 * whole :]
            seen += whole
            acked.release(whole) if whole else None
        done.set()

    threading.Thread(target=listen, daemon=True).start()
    began = time.monotonic()
    free = window
    for start in range(0, len(ready), 50):
        some = ready[start : start + 50]
        while free < len(some):
            acked.acquire()
            free += 1
        free -= len(some)
        line.sendall(b"".join(some))
        if rate is not None:
            time.sleep(max(0.0, began + (start + len(some)) / rate - time.monotonic()))
    done.wait(120)
    line.sendall(b"\xe0\x00")
    line.close()
    return len(ready), time.monotonic() - began


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--window", type=int, default=2000)
    args = parser.parse_args()
    sent, seconds = send(args.file, args.port, args.rate, args.window)
    print(json.dumps({"sent": sent, "seconds": seconds}))


if __name__ == "__main__":
    main()
