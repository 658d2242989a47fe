"""Animated pictures: every frame is kept whole, whoever writes them."""

import io

from PIL import Image, ImageDraw
from pyramid_video.media.webp import save_webp


def chunks(webp: bytes) -> list[tuple[bytes, bytes]]:
    """Names and bodies of the chunks of a RIFF file."""
    found, at = [], 12
    while at < len(webp):
        length = int.from_bytes(webp[at + 4 : at + 8], "little")
        found.append((webp[at : at + 4], webp[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def test_every_frame_covers_the_whole_picture() -> None:
    pictures = []
    for step in range(6):  # little moves, so a writer that keeps what changes would keep little
        pictures.append(Image.new("RGB", (64, 48), "green"))
        ImageDraw.Draw(pictures[-1]).rectangle((step, 10, step + 8, 20), fill="white")
    file = io.BytesIO()
    save_webp(file, pictures, 250, quality=80, effort=0)
    frames = [body for name, body in chunks(file.getvalue()) if name == b"ANMF"]
    numbers = [[int.from_bytes(frame[at : at + 3], "little") for at in (0, 3, 6, 9, 12)] for frame in frames]
    assert numbers == [[0, 0, 64 - 1, 48 - 1, 250]] * 6  # left, top, width - 1, height - 1, milliseconds
