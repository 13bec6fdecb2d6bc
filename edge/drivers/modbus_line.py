"""Modbus frames: requests built, answers checked to the last bit. Bytes in, bytes out; no device in sight.

A slave on a real RS-485 line is silent, late, cut short, disturbed, or answers for somebody else; every one of these
is an error with its own code, never a value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from edge import EdgeError

READ_HOLDING, READ_INPUT, WRITE_COIL, WRITE_REGISTER = 3, 4, 5, 6
_EXCEPTION = 0x80
_HEADER = struct.Struct(">HHHB")


class ModbusError(EdgeError):
    """No usable answer.

    Codes: ``silent``, ``short``, ``bad_crc``, ``wrong_slave``, ``wrong_function``, ``exception``, ``line``.
    """


class Line(Protocol):
    """A half-duplex byte line. ``read`` gives what came within the time, possibly nothing."""

    def write(self, data: bytes) -> None:
        """Send all of it; raises ``OSError`` where the line is gone."""

    def read(self, wanted: int, timeout_s: float) -> bytes:
        """Up to ``wanted`` bytes; returns early when they are there."""

    def flush(self) -> None:
        """Throw away what came late."""

    def close(self) -> None:
        """Let go of it; the next use opens it again."""


def crc16(data: bytes) -> bytes:
    """CRC-16/MODBUS, low byte first as on the line."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


def read_request(function: int, address: int, count: int) -> bytes:
    """Function code and body for reading ``count`` registers."""
    return struct.pack(">BHH", function, address, count)


def write_request(function: int, address: int, value: int) -> bytes:
    """Function code and body for writing one coil (0 or 0xFF00) or register."""
    return struct.pack(">BHH", function, address, value)


def ask_rtu(line: Line, slave: int, body: bytes, *, timeout_s: float) -> bytes:
    """Send a request on a serial line and return the answer's body (function code first).

    A device that echoes what it hears (two-wire adapters do) is tolerated: the echo is skipped.
    """
    request = bytes((slave,)) + body
    request += crc16(request)
    line.flush()
    line.write(request)
    wanted = _answer_bytes(body)
    answer = line.read(5, timeout_s)
    # The answer to a write repeats the request, so only before a read can an echo be told from it.
    if answer == request[:5] and body[0] in {READ_HOLDING, READ_INPUT}:
        answer += line.read(len(request) - 5, timeout_s)
        if answer == request:
            answer = line.read(5, timeout_s)
    return _checked(line, answer, slave, body, wanted, timeout_s)


def _checked(line: Line, answer: bytes, slave: int, body: bytes, wanted: int, timeout_s: float) -> bytes:
    if not answer:
        raise ModbusError("silent", f"slave {slave} does not answer")
    total = 5 if len(answer) > 1 and answer[1] & _EXCEPTION else wanted
    if len(answer) < total:
        answer += line.read(total - len(answer), timeout_s)
    if len(answer) < total:
        raise ModbusError("short", f"slave {slave}: {len(answer)} of {total} bytes")
    answer = answer[:total]
    if crc16(answer[:-2]) != answer[-2:]:
        raise ModbusError("bad_crc", f"slave {slave}: checksum does not fit")
    if answer[0] != slave:
        raise ModbusError("wrong_slave", f"slave {answer[0]} answers for {slave}")
    return _body(answer[1:-2], body, slave)


def _body(answer: bytes, request: bytes, slave: int) -> bytes:
    if answer[0] == request[0] | _EXCEPTION:
        raise ModbusError("exception", f"slave {slave}: exception {answer[1]}")
    if answer[0] != request[0]:
        raise ModbusError("wrong_function", f"slave {slave}: function {answer[0]} for {request[0]}")
    return answer


def _answer_bytes(body: bytes) -> int:
    """Length of a good answer on a serial line, checksum included."""
    return 5 + 2 * int.from_bytes(body[3:5], "big") if body[0] in {READ_HOLDING, READ_INPUT} else 8


def registers_of(answer: bytes, count: int) -> list[int]:
    """The registers of a read answer; raises ``ModbusError`` where it holds another number of them."""
    if len(answer) != 2 + 2 * count or answer[1] != 2 * count:
        raise ModbusError("short", f"{len(answer)} bytes for {count} registers")
    return [word[0] for word in struct.iter_unpack(">H", answer[2:])]


def ask_tcp(
    line: Line, transaction: int, slave: int, body: bytes, *, timeout_s: float, clock: Callable[[], float]
) -> bytes:
    """The same over TCP; answers of earlier, late requests are skipped by their transaction number."""
    line.write(_HEADER.pack(transaction, 0, len(body) + 1, slave) + body)
    deadline = clock() + timeout_s
    while True:
        head = _exactly(line, _HEADER.size, deadline - clock(), slave)
        number, protocol, length, unit = _HEADER.unpack(head)
        if protocol != 0 or not 2 <= length <= 260:  # noqa: PLR2004 - the longest frame there is
            raise ModbusError("line", f"slave {slave}: not Modbus TCP")
        answer = _exactly(line, length - 1, deadline - clock(), slave)
        if number != transaction:
            continue
        if unit != slave:
            raise ModbusError("wrong_slave", f"slave {unit} answers for {slave}")
        return _body(answer, body, slave)


def _exactly(line: Line, wanted: int, timeout_s: float, slave: int) -> bytes:
    data = line.read(wanted, max(0.0, timeout_s))
    if not data:
        raise ModbusError("silent", f"slave {slave} does not answer")
    if len(data) < wanted:
        raise ModbusError("short", f"slave {slave}: {len(data)} of {wanted} bytes")
    return data
