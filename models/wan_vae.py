"""The VAE of Wan 2.1 as Helios uses it: a clip is a row of units, each encoded and decoded as a clip of its own.

The network is diffusers' `AutoencoderKLWan`; this file gives it the methods and the checks of our own video VAE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from .causal_vae import Posterior
from .causal_vae_config import check_tensor
from .history_levels import UNIT_FRAMES
from .network_config import JSONConfig, check_sizes
from .vae_pieces import Move, OnChunk, counted, unmoved
from .vae_tiling import TilePlan, plan_tiles

TIME, SPACE = 4, 8  # how many times smaller a latent is
UNIT_PICTURES = TIME * (UNIT_FRAMES - 1) + 1
# Numbers alive at once for each pixel, whatever the length: the network itself works on few frames at a time.
DECODE_NUMBERS, ENCODE_NUMBERS = 6000, 4300


@dataclass(frozen=True)
class WanVAEConfig(JSONConfig):
    """What the official `config.json` says; the defaults are those of Wan 2.1."""

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: tuple[float, ...] = ()
    temperal_downsample: tuple[bool, ...] = (False, True, True)

    def __post_init__(self) -> None:
        check_sizes(self)
        if len(self.dim_mult) != 4 or sum(self.temperal_downsample) != 2 or len(self.temperal_downsample) != 3:
            raise ValueError(
                f"a Wan VAE with dim_mult {list(self.dim_mult)} and temperal_downsample "
                f"{list(self.temperal_downsample)}; only ones that shrink {SPACE} times in space and {TIME} in time "
                "are known here"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> WanVAEConfig:
        """Read an official config; ValueError for the VAE of Wan 2.2, which is another network."""
        if values.get("is_residual") or values.get("patch_size"):
            raise ValueError("this is the VAE of Wan 2.2; Helios needs that of Wan 2.1")
        known = {field.name for field in fields(cls)}
        kept = {key: value for key, value in values.items() if key in known}
        settings: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in kept.items()}
        return cls(**settings)

    unit = UNIT_FRAMES
    time_compression = TIME
    space_compression = SPACE

    @property
    def latent_channels(self) -> int:
        return self.z_dim

    def check_latent(self, latent: Tensor) -> None:
        """Raise ValueError unless `latent` can be decoded."""
        check_tensor(latent, self.z_dim, "latent")

    def check_video(self, video: Tensor) -> None:
        """Raise ValueError unless `video` can be encoded: whole units, the last one of any length 4k + 1."""
        check_tensor(video, 3, "video")
        frames, height, width = video.shape[2:]
        rest = frames % UNIT_PICTURES
        if rest and (rest - 1) % TIME:
            raise ValueError(
                f"{frames} frames cannot be encoded: this VAE takes {UNIT_PICTURES} frames at a time, the last time "
                f"{TIME}k + 1; the nearest shorter is {frames - (rest - 1) % TIME}"
            )
        if height % SPACE or width % SPACE:
            raise ValueError(f"{width}x{height} pixels cannot be encoded: the sides must be multiples of {SPACE}")

    def decode_numbers(self, shape: tuple[int, ...], chunk: int | None) -> float:
        """Numbers alive at once while latents of `shape` are decoded, beside the weights."""
        return DECODE_NUMBERS * shape[3] * shape[4] * SPACE**2

    def encode_numbers(self, shape: tuple[int, ...], chunk: int | None) -> float:
        """Numbers alive at once while video of `shape` is encoded, beside the weights."""
        return ENCODE_NUMBERS * shape[3] * shape[4]


class WanVAE(nn.Module):
    """Video `(b, 3, t, h, w)` in -1..1 to latents `(b, c, t', h / 8, w / 8)` in the VAE's own scale, and back."""

    def __init__(self, config: WanVAEConfig, ops: Any = None, device: Any = None, dtype: Any = None) -> None:
        """`ops` is ignored: the layers are those of diffusers. ImportError when diffusers is too old."""
        super().__init__()
        try:
            from diffusers import AutoencoderKLWan
        except ImportError as error:
            raise ImportError("the Wan VAE needs diffusers 0.33 or newer: pip install -U diffusers") from error
        self.config = config
        with torch.device(device or torch.get_default_device()):
            make: Any = AutoencoderKLWan  # diffusers has no types
            self.network: Any = make(**config.to_dict())
        nn.Module.to(self.network, dtype)  # diffusers' own `to` warns of layers that this network has not

    def state_dict(self, *args: Any, **kw: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Under the official keys."""
        return self.network.state_dict(*args, **kw)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Under the official keys."""
        return self.network.load_state_dict(state_dict, strict=strict, assign=assign)

    def encode(
        self,
        video: Tensor,
        chunk: int | None = None,
        tile: int | None = None,
        on_chunk: OnChunk | None = None,
        bring: Move = unmoved,
    ) -> Posterior:
        """Encode unit after unit; `chunk` is ignored, the rest is as in `CausalVideoVAE`."""
        self.config.check_video(video)
        plan = None if tile is None else plan_tiles(tile, SPACE, encode=True)
        moments = self._run(lambda part: self._to_moments(bring(part)), video, UNIT_PICTURES, plan, on_chunk)
        return Posterior.from_moments(torch.cat(list(moments), dim=2))

    def decode(
        self,
        latent: Tensor,
        chunk: int | None = None,
        tile: int | None = None,
        on_chunk: OnChunk | None = None,
        leave: Move = unmoved,
    ) -> Tensor:
        """Decode unit after unit; `chunk` is ignored, the rest is as in `CausalVideoVAE`."""
        self.config.check_latent(latent)
        plan = None if tile is None else plan_tiles(tile, SPACE, encode=False)
        units = self._run(lambda part: leave(self._to_video(part)), latent, UNIT_FRAMES, plan, on_chunk)
        return torch.cat(list(units), dim=2)

    def iter_decode(self, latent: Tensor, chunk: int, on_chunk: OnChunk | None = None) -> Iterator[Tensor]:
        """Yield the units of `decode(latent)` in time order, as soon as each is ready."""
        self.config.check_latent(latent)
        return self._run(self._to_video, latent, UNIT_FRAMES, None, on_chunk)

    @staticmethod
    def _run(
        work: Callable[[Tensor], Tensor], x: Tensor, length: int, plan: TilePlan | None, on_chunk: OnChunk | None
    ) -> Iterator[Tensor]:
        """`work` on each `length` frames of `x`, tile by tile where there is a plan."""
        units = x.split(length, dim=2)
        done = (plan.run(work, unit) if plan is not None and plan.needed(unit) else work(unit) for unit in units)
        return counted(done, len(units), on_chunk)

    @torch.no_grad()
    def _to_moments(self, video: Tensor) -> Tensor:
        return self.network.encode(video).latent_dist.parameters

    @torch.no_grad()
    def _to_video(self, latent: Tensor) -> Tensor:
        return self.network.decode(latent).sample
