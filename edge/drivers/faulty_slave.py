"""A Modbus slave that misbehaves on demand, on a real pseudo-terminal or TCP socket: for tests and for vendors.

Simulators answer politely even for absent devices; a real line is silent, late, cut short, disturbed, answers for
somebody else, or echoes.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
import tty

from edge.drivers.modbus_line import crc16

MOODS = ("good", "silent", "late", "short", "noise", "wrong_slave", "bad_crc", "echo", "exception", "wrong_function")


class FaultySlave:
    """Slave 1 with holding and input registers alike; ``mood`` says how it answers, ``port`` is its line's name.

    With ``tcp`` it listens on a free port of 127.0.0.1, found in ``tcp_port``.
    """

    def __init__(self, registers: list[int], *, tcp: bool = False) -> None:
        self.registers, self.mood, self.late_s = registers, "good", 0.5
        self.asked = self.answered = 0  # requests seen, and dealt with
        self.tcp_port = 0
        self.port = ""
        self._stop = threading.Event()
        if tcp:
            self._door = socket.create_server(("127.0.0.1", 0))
            self.tcp_port = self._door.getsockname()[1]
            work = self._serve_tcp
        else:
            self._master, slave = os.openpty()
            tty.setraw(slave)
            self.port, self._slave = os.ttyname(slave), slave
            work = self._serve_rtu
        self._thread = threading.Thread(target=work, daemon=True, name="faulty-slave")
        self._thread.start()

    def close(self) -> None:
        """Pull the plug."""
        self._stop.set()
        self._thread.join(3.0)
        if self.tcp_port:
            self._door.close()
        else:
            os.close(self._master)
            os.close(self._slave)

    def _serve_rtu(self) -> None:
        waiting = b""
        while not self._stop.is_set():
            if select.select([self._master], [], [], 0.05)[0]:
                waiting += os.read(self._master, 256)
            if len(waiting) >= 8:  # noqa: PLR2004 - every request here has eight bytes
                request, waiting = waiting[:8], waiting[8:]
                for piece in self._answer_rtu(request):
                    os.write(self._master, piece)
                self.answered += 1

    def _answer_rtu(self, request: bytes) -> list[bytes]:
        self.asked += 1
        if self.mood == "silent" or request[0] != 1 or crc16(request[:-2]) != request[-2:]:
            return []
        body = self._body(request[1:6])
        frame = bytes((2 if self.mood == "wrong_slave" else 1,)) + body
        frame += crc16(frame)
        if self.mood == "late":
            time.sleep(self.late_s)
        if self.mood == "short":
            frame = frame[:-3]
        if self.mood == "bad_crc":
            frame = frame[:-1] + bytes((frame[-1] ^ 0x55,))
        if self.mood == "noise":
            frame = b"\xff\x00" + frame
        return [request, frame] if self.mood == "echo" else [frame]

    def _body(self, body: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", body)
        if self.mood == "exception" or (function in {3, 4} and address + count > len(self.registers)):
            return bytes((function | 0x80, 2))
        if self.mood == "wrong_function":
            function = 1
        if function in {5, 6}:
            if function == 6:  # noqa: PLR2004 - write one register
                self.registers[address] = count
            return body
        words = self.registers[address : address + count]
        return bytes((function, 2 * count)) + b"".join(word.to_bytes(2, "big") for word in words)

    def _serve_tcp(self) -> None:
        self._door.settimeout(0.05)
        while not self._stop.is_set():
            try:
                line, _ = self._door.accept()
            except TimeoutError:
                continue
            with line, contextlib.suppress(ConnectionError):  # a master that was killed hangs up without a word
                self._serve_client(line)

    def _serve_client(self, line: socket.socket) -> None:
        line.settimeout(0.05)
        while not self._stop.is_set():
            try:
                request = line.recv(260)
            except TimeoutError:
                continue
            if not request:
                return
            line.sendall(self._answer_tcp(request))

    def _answer_tcp(self, request: bytes) -> bytes:
        self.asked += 1
        number, _, _, unit = struct.unpack_from(">HHHB", request)
        if self.mood == "silent":
            return b""
        if self.mood == "late":
            time.sleep(self.late_s)
        body = self._body(request[7:12])
        unit = 2 if self.mood == "wrong_slave" else unit
        frame = struct.pack(">HHHB", number, 0, len(body) + 1, unit) + body
        return frame[:-2] if self.mood == "short" else frame
