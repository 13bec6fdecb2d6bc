"""Byte lines of the operating system: serial ports by termios, TCP sockets. No library needed."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import termios
import time
import tty

_BAUD = {rate: getattr(termios, f"B{rate}") for rate in (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)}


class SerialLine:
    """A serial port, opened when first used and again after it was unplugged; name it by ``/dev/serial/by-path``."""

    def __init__(self, path: str, *, baud: int = 9600, parity: str = "none", stop_bits: int = 1) -> None:
        self._path, self._baud, self._parity, self._stop_bits = path, baud, parity, stop_bits
        self._port = -1

    def write(self, data: bytes) -> None:
        """Send all; raises ``OSError`` where the port is gone."""
        port = self._open()
        try:
            while data:
                data = data[os.write(port, data) :]
        except OSError:
            self.close()
            raise

    def read(self, wanted: int, timeout_s: float) -> bytes:
        """Up to ``wanted`` bytes within the time."""
        port, found, deadline = self._open(), b"", time.monotonic() + timeout_s
        while len(found) < wanted:
            ready, _, _ = select.select([port], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                break
            try:
                piece = os.read(port, wanted - len(found))
            except OSError:
                self.close()
                raise
            if not piece:
                self.close()
                raise OSError(errno.ENODEV, f"{self._path} was unplugged")
            found += piece
        return found

    def flush(self) -> None:
        """Throw away what waits."""
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(self._open(), termios.TCIFLUSH)

    def close(self) -> None:
        """Let go of the port."""
        port, self._port = self._port, -1
        if port >= 0:
            with contextlib.suppress(OSError):
                os.close(port)

    def _open(self) -> int:
        if self._port < 0:
            port = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                self._configure(port)
            except termios.error as why:
                os.close(port)
                raise OSError(errno.ENOTTY, f"{self._path} is no serial port: {why}") from None
            self._port = port
        return self._port

    def _configure(self, port: int) -> None:
        tty.setraw(port)
        mode = termios.tcgetattr(port)
        mode[2] |= termios.CLOCAL | termios.CREAD
        mode[2] &= ~(termios.PARENB | termios.PARODD | termios.CSTOPB)
        mode[2] |= {"none": 0, "even": termios.PARENB, "odd": termios.PARENB | termios.PARODD}[self._parity]
        mode[2] |= termios.CSTOPB if self._stop_bits > 1 else 0
        mode[4] = mode[5] = _BAUD[self._baud]
        termios.tcsetattr(port, termios.TCSANOW, mode)


class TcpLine:
    """A TCP connection, made when first used and again after it broke."""

    def __init__(self, host: str, port: int) -> None:
        self._where = (host, port)
        self._socket: socket.socket | None = None

    def write(self, data: bytes) -> None:
        """Send all; raises ``OSError``."""
        try:
            self._open().sendall(data)
        except OSError:
            self.close()
            raise

    def read(self, wanted: int, timeout_s: float) -> bytes:
        """Up to ``wanted`` bytes within the time."""
        line, found, deadline = self._open(), b"", time.monotonic() + timeout_s
        while len(found) < wanted:
            line.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                piece = line.recv(wanted - len(found))
            except TimeoutError:
                break
            except OSError:
                self.close()
                raise
            if not piece:
                self.close()
                break
            found += piece
        return found

    def flush(self) -> None:
        """Late answers are told by their transaction number: nothing to do."""

    def close(self) -> None:
        """Hang up."""
        line, self._socket = self._socket, None
        if line is not None:
            line.close()

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._where, timeout=5.0)
        return self._socket
