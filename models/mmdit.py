"""The Pyramid Flow SD3 transformer: the velocity of the last clip, given the clips before it and a text.

Jin et al. 2024 (arXiv 2410.05954) with the blocks of Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206):
double-stream throughout, a fixed table of positions in space, rotation in time. State-dict keys are those of the
official checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import ForwardPlan, last_tokens
from .layers import PATCH, Device, DoubleBlock, Dtype, init_weights
from .rotary import Grid, wavelengths
from .transformer import PyramidTransformer, TransformerConfig

__all__ = ["MMDiTConfig", "MMDiTTransformer", "init_weights"]

RMS_NORM_EPS = 1e-5


@dataclass(frozen=True)
class MMDiTConfig(TransformerConfig):
    """Sizes of an SD3 transformer; the defaults are those of the released models, loader's flags included."""

    in_channels: int = 16  # of the latent
    num_layers: int = 24
    attention_head_dim: int = 64
    num_attention_heads: int = 24
    caption_projection_dim: int = 1536  # the width again
    pooled_projection_dim: int = 2048
    sample_size: int = 128  # with pos_embed_max_size: how far apart neighbouring positions are
    pos_embed_max_size: int = 192  # edge of the table of positions, in patches
    patch_size: int = PATCH
    qk_norm: str = "rms_norm"
    pos_embed_type: str = "sincos"
    temp_pos_embed_type: str = "rope"
    add_temp_pos_embed: bool = True  # rotation in time

    MODEL: ClassVar[str] = "SD3"
    FIXED: ClassVar[dict[str, object]] = {
        "patch_size": PATCH,
        "qk_norm": "rms_norm",
        "pos_embed_type": "sincos",
        "temp_pos_embed_type": "rope",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.caption_projection_dim != self.width:
            raise ValueError(
                f"the SD3 transformer's caption_projection_dim is {self.caption_projection_dim}; "
                f"only its width {self.width} is known here"
            )
        if self.attention_head_dim % 2 or self.width % 4:
            raise ValueError(
                f"attention_head_dim {self.attention_head_dim} must be even and the width {self.width} divisible by 4"
            )

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that go in and come out."""
        return self.in_channels


def sincos_table(size: int, step: float, width: int) -> Tensor:
    """Return `(1, size^2, width)` sines and cosines, half for the column, half for the row, `step` apart."""
    angles = (torch.arange(size, dtype=torch.float64) * step)[:, None] / wavelengths(width // 2)
    line = torch.cat((angles.sin(), angles.cos()), dim=1).float()
    columns = line.expand(size, size, width // 2)
    return torch.cat((columns, columns.transpose(0, 1)), dim=-1).view(1, size * size, width)


class PatchEmbedding(nn.Module):
    """Patches by convolution, plus where each one is: the centre of a fixed table, stretched for smaller clips."""

    pos_embed: Tensor

    def __init__(self, config: MMDiTConfig, ops: Any, device: Device, dtype: Dtype) -> None:
        super().__init__()
        self.size, self.stretch = config.pos_embed_max_size, config.interp_condition_pos
        self.proj = ops.Conv2d(
            config.in_channels, config.width, kernel_size=PATCH, stride=PATCH, device=device, dtype=dtype
        )
        if torch.device(device or torch.get_default_device()).type == "meta":
            table = torch.empty(1, self.size**2, config.width, device="meta", dtype=dtype)
        else:
            step = config.sample_size / PATCH / config.pos_embed_max_size
            table = sincos_table(self.size, step, config.width).to(device, dtype)
        self.register_buffer("pos_embed", table)
        self.last_crop: tuple[object, Tensor] = None, torch.empty(0)

    def centre(self, rows: int, columns: int) -> Tensor:
        """Return the centre `(1, width, rows, columns)` of the table."""
        if max(rows, columns) > self.size:
            raise ValueError(
                f"a clip of {rows}x{columns} patches is larger than the {self.size}x{self.size} places of this SD3 "
                f"model; make the video smaller"
            )
        top, left = (self.size - rows) // 2, (self.size - columns) // 2
        table = self.pos_embed.view(1, self.size, self.size, -1)
        return table[:, top : top + rows, left : left + columns].permute(0, 3, 1, 2)

    def crop_of(self, grids: tuple[Grid, ...], like: Tensor) -> Tensor:
        """Return `(tokens, width)` of all clips, on the device and in the type of `like`; the last one is kept."""
        table = self.pos_embed
        version = None if table.is_inference() else table._version
        key = grids, like.device, like.dtype, id(table), version
        if self.last_crop[0] != key:
            with torch.inference_mode(False), torch.no_grad():
                self.last_crop = key, self.make_crop(grids, like)
        return self.last_crop[1]

    def make_crop(self, grids: tuple[Grid, ...], like: Tensor) -> Tensor:
        tables = {}
        for _, *size in grids:
            table = self.centre(*(grids[-1][1:] if self.stretch else size)).to(like.device)
            if list(table.shape[-2:]) != size:
                table = F.interpolate(table.float(), size=size, mode="bilinear", align_corners=False)
            tables[tuple(size)] = table.to(like.dtype).flatten(2)[0].T
        return torch.cat([tables[rows, columns] for frames, rows, columns in grids for _ in range(frames)])

    def forward(self, tokens: Tensor, crop: Tensor) -> Tensor:
        """Embed patches `(b, n, 4c)`: the convolution sees them side by side, as one strip."""
        strip = rearrange(tokens, "b n (p q c) -> b c p (n q)", p=PATCH, q=PATCH)
        return self.proj(strip).squeeze(2).transpose(1, 2) + crop


class MMDiTTransformer(PyramidTransformer):
    """Predict velocities as `PyramidDiffusionMMDiT` does; `init_weights` prepares it for training from nothing."""

    name = "SD3"
    config: MMDiTConfig

    def __init__(self, config: MMDiTConfig, ops: Any = nn, device: Device = None, dtype: Dtype = None) -> None:
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        # Time alone turns a head, and all of it.
        super().__init__(config, (config.attention_head_dim,), ops, **factory_kwargs)
        self.pos_embed = PatchEmbedding(config, ops, **factory_kwargs)
        self.transformer_blocks = nn.ModuleList(
            DoubleBlock(
                config.width,
                config.num_attention_heads,
                RMS_NORM_EPS,
                "norm_add",
                ops,
                text_output=number < config.num_layers - 1,
                **factory_kwargs,
            )
            for number in range(config.num_layers)
        )
        self.number_layers()

    @property
    def blocks(self) -> list[nn.Module]:
        return [*self.transformer_blocks]

    def embed(self, tokens: Tensor, pos_embed: Tensor | None) -> Tensor:
        return self.pos_embed(tokens, pos_embed)

    def position_embedding(self, grids: tuple[Grid, ...], like: Tensor) -> Tensor:
        return self.pos_embed.crop_of(grids, like)

    def rotation(self, text_tokens: int, grids: tuple[Grid, ...], device: torch.device) -> Tensor | None:
        return super().rotation(text_tokens, grids, device) if self.config.add_temp_pos_embed else None

    def run_blocks(self, x: Tensor, text: Tensor | None, temb: Tensor, plan: ForwardPlan) -> Tensor:
        for block in self.transformer_blocks:
            x, text = self.run_double(block, x, text, temb, plan)
        return last_tokens(x, plan.last)
