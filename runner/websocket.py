"""Just enough of the WebSocket protocol (RFC 6455) to listen to a server's events; the standard library has none."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import struct
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
LARGEST_MESSAGE = 1 << 28  # bytes; previews are far smaller
LARGEST_CONTROL = 125  # bytes of a ping, by the protocol


class Listener:
    """A connection that is only read; answers pings, skips binary messages. Raises OSError when it cannot go on."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        """Connect to `url` (http, https, ws or wss)."""
        parts = urlsplit(url)
        secure = parts.scheme in ("https", "wss")
        port = parts.port or (443 if secure else 80)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", port), timeout)
        try:
            if secure:
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=parts.hostname)
            self._buffer = b""
            self._message = (TEXT, b"")  # kind and beginning of a message that comes in several frames
            self._greet(parts.netloc.rpartition("@")[2], f"{parts.path or '/'}?{parts.query}")
        except BaseException:
            self._socket.close()
            raise

    def _greet(self, host: str, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ConnectionError("the server takes no websocket here")

    def next_text(self, timeout: float) -> str | None:
        """The next text message, or None when none has come for `timeout` seconds."""
        self._socket.settimeout(timeout)
        try:
            while True:
                # A frame leaves the buffer only when it is whole, so a timeout in its middle loses nothing.
                final, opcode, payload = self._frame()
                if opcode == PING:
                    self._send(PONG, payload)
                elif opcode == CLOSE:
                    raise ConnectionError("the server closed the connection")
                elif opcode in (CONTINUATION, TEXT, BINARY):
                    kind, begun = self._message if opcode == CONTINUATION else (opcode, b"")
                    self._message = (kind, begun + payload)
                    if final and kind == TEXT:
                        return self._message[1].decode("utf-8", "replace")
        except TimeoutError:
            return None

    def _frame(self) -> tuple[bool, int, bytes]:
        self._fill(2)
        first, second = self._buffer[:2]
        size, start = second & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            self._fill(2 + width)
            size, start = struct.unpack(">H" if width == 2 else ">Q", self._buffer[2 : 2 + width])[0], 2 + width
        if size > LARGEST_MESSAGE or (first & 0x08 and size > LARGEST_CONTROL):
            raise ConnectionError(f"a message of {size} bytes is too large")
        self._fill(start + size)
        payload, self._buffer = self._buffer[start : start + size], self._buffer[start + size :]
        return bool(first & 0x80), first & 0x0F, payload

    def _fill(self, count: int) -> None:
        while len(self._buffer) < count:
            self._receive()

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data

    def _send(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self._socket.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)

    def close(self) -> None:
        self._socket.close()
