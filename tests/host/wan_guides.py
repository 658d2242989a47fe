"""Wan's models that are shown more than a prompt: tiny ones, and what core's blocks write into their prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spectral_models import WAN, Kind, noise

LATENT = (16, 3)  # channels and frames
ROWS, COLUMNS = 12, 16


@dataclass(frozen=True)
class Guided:
    """A kind, and tensors for its prompts: those with rows and columns of the picture, and others."""

    kind: Kind
    sized: dict[str, Any]
    others: dict[str, Any]


def guided(config: str, network: dict[str, Any], sized: dict[str, Any], others: dict[str, Any] | None = None) -> Guided:
    return Guided(Kind(config, {**WAN, **network}, LATENT), sized, others or {})


def latent(channels: int, frames: int, rows: int = ROWS, columns: int = COLUMNS):
    return noise(1, channels, frames, rows, columns, seed=channels + frames)


CONTROL = {"model_type": "i2v", "in_dim": 48, "in_dim_ref_conv": 16}
GUIDED = {
    "fun control": guided(
        "WAN21_FunControl2V", CONTROL, {"concat_latent_image": latent(32, 3), "reference_latents": [latent(16, 1)]}
    ),
    "camera": guided(
        "WAN21_Camera",
        {"model_type": "camera", "in_dim": 32},
        {"concat_latent_image": latent(16, 3), "camera_conditions": latent(24, 3, 8 * ROWS, 8 * COLUMNS)},
    ),
    "phantom": guided("WAN21_T2V", {"model_type": "t2v"}, {"time_dim_concat": latent(16, 2)}),
    "humo": guided(
        "WAN21_HuMo",
        {"model_type": "humo", "in_dim": 36},
        {"reference_latents": [latent(16, 1)]},
        {"audio_embed": noise(1, 3, 8, 5, 1280)},
    ),
    "scail": guided(
        "WAN21_SCAIL",
        {"model_type": "scail", "in_dim": 20},
        {"reference_latents": [latent(16, 1)], "pose_video_latent": latent(16, 3, ROWS // 2, COLUMNS // 2)},
    ),
    "animate 2": guided(
        "WAN_Animate2",
        {"model_type": "animate2", "in_dim": 36},
        {"concat_latent_image": latent(16, 3), "pose_video_latent": latent(16, 2)},
    ),
}
