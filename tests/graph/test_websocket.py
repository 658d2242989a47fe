"""Events of a server arrive whole, however its websocket cuts them."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading

import pytest
from pyramid_video.runner.connection import Connection


def frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    """A frame as a server sends it (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    else:
        length = b"\x7e" + struct.pack(">H", size) if size < 1 << 16 else b"\x7f" + struct.pack(">Q", size)
    return bytes([opcode | (0x80 if final else 0)]) + length + payload


@pytest.fixture
def speak():
    """Starts a websocket server that sends bytes in the given pieces; returns its address and what it was sent."""
    listening = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def start(*pieces: bytes):
        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                request = peer.recv(4096).decode()
                key = request.split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
                accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
                head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                head += f"Sec-WebSocket-Accept: {base64.b64encode(accept).decode()}\r\n\r\n"
                peer.sendall(head.encode())
                for piece in pieces:
                    peer.sendall(piece)
                while data := peer.recv(4096):
                    heard.append(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        return Connection(f"http://127.0.0.1:{listening.getsockname()[1]}"), heard, thread

    yield start
    listening.close()


def test_messages_arrive_whole_however_they_are_cut(speak):
    long, longer = "l" * 300, "m" * 70_000
    stream = frame(1, b"he", final=False) + frame(9, b"?") + frame(0, b"llo") + frame(2, b"\0\1 a preview")
    stream += frame(1, long.encode()) + frame(1, longer.encode())
    connection, heard, thread = speak(*(stream[i : i + 1000] for i in range(0, len(stream), 1000)))
    listener = connection.listen("x")
    assert [listener.next_text(5), listener.next_text(5), listener.next_text(5)] == ["hello", long, longer]
    assert listener.next_text(0.01) is None
    listener.close()
    connection.close()
    thread.join(5)
    pong = b"".join(heard)
    mask, masked = pong[2:6], pong[6:7]  # a goodbye follows
    assert pong[:2] == b"\x8a\x81" and bytes(a ^ b for a, b in zip(masked, mask[:1], strict=True)) == b"?"


def test_a_closed_connection_is_an_oserror(speak):
    connection, *_ = speak(frame(8, b""))
    listener = connection.listen("x")
    with pytest.raises(OSError, match="closed"):
        listener.next_text(5)
    connection.close()
