"""Colours of films in numbers of a common screen: matrices of YUV, wide primaries, and HDR mapped to SDR.

Transfer, primaries and matrix have the numbers of ITU-T H.273, which FFmpeg uses too.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

UNSPECIFIED = 2
PQ, HLG = 16, 18  # transfers: SMPTE ST 2084, ARIB STD-B67
BT2020, DCI_P3, DISPLAY_P3 = 9, 11, 12  # primaries
MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}  # as FFmpeg's scale names them
HD = (1280, 720)  # width or height from which players take a film without tags for BT.709
SDR_WHITE = 203.0  # nits of paper white in HDR (ITU-R BT.2408)
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2  # nits and system gamma of the nominal display (ITU-R BT.2100)
KNEE = 0.8  # linear light from which highlights are compressed

TO_BT709 = {
    BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),  # ITU-R BT.2087
    DISPLAY_P3: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
TO_BT709[DCI_P3] = TO_BT709[DISPLAY_P3]


def matrix_name(colorspace: int, width: int, height: int) -> str:
    """The matrix of a YUV film as FFmpeg's filters name it; ValueError for one that is not known."""
    if colorspace in (0, UNSPECIFIED, 3):
        return "bt709" if width >= HD[0] or height >= HD[1] else "bt601"
    if colorspace not in MATRICES:
        raise ValueError(f"has colours that are not read here (matrix {colorspace} of H.273); convert it to BT.709")
    return MATRICES[colorspace]


def is_wide(transfer: int, primaries: int) -> bool:
    """Whether `to_srgb` has anything to do."""
    return transfer in (PQ, HLG) or primaries in TO_BT709


def to_srgb(pixels: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Map pictures `(h, w, 3)` of 16 bits, in HDR or with wide primaries, to sRGB bytes.

    Paper white of HDR (203 nits) becomes white; what is brighter is compressed, keeping its hue.
    """
    light = light_table(transfer)[pixels]
    if transfer == HLG:  # the display's curve works on luminance
        luminance = light @ np.array((0.2627, 0.6780, 0.0593), np.float32)
        light *= np.maximum(luminance, 1e-6)[..., None] ** (HLG_GAMMA - 1) * (HLG_PEAK / SDR_WHITE)
    wide = TO_BT709.get(primaries, TO_BT709[BT2020] if transfer in (PQ, HLG) else None)
    if wide is not None:
        light = light @ np.array(wide, np.float32).T
    if transfer in (PQ, HLG):
        peak = light.max(-1, keepdims=True)
        above = np.maximum(peak - KNEE, 0) / (1 - KNEE)
        light *= np.where(above > 0, (KNEE + (1 - KNEE) * (1 - np.exp(-above))) / np.maximum(peak, KNEE), 1)
    levels = np.round(light.clip(0, 1) * (len(srgb_table()) - 1)).astype(np.uint16)
    return srgb_table()[levels]


@lru_cache
def light_table(transfer: int) -> np.ndarray:
    """Linear light of every value of 16 bits: 1 is paper white, for HLG the brightest light of the scene."""
    value = np.linspace(0, 1, 1 << 16)
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # SMPTE ST 2084
        root = value ** (1 / m2)
        light = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) * 10000 / SDR_WHITE
    elif transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073  # ARIB STD-B67
        light = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    else:
        light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@lru_cache
def srgb_table() -> np.ndarray:
    """Bytes of sRGB for linear light of 16 bits."""
    light = np.linspace(0, 1, 1 << 16)
    return np.round(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).astype(
        np.uint8
    )
