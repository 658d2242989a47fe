"""Checks of the text encoders in ComfyUI, run by `door.py`."""

from __future__ import annotations

from door_tools import same


def check_plain_text_encode_gives_our_numbers(door):
    tokens, extras = door.core.CLIPTextEncode().encode(door.clip, "a tiger")[0][0]
    same(door, tokens, door.positive[0][0])
    same(door, extras["pooled_output"], door.positive[0][1]["pooled_output"])
