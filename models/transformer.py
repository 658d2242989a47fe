"""What both Pyramid Flow transformers do around their blocks: check, embed, lay out the tokens, read the last clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import Attention, TokenLayout, frame_ends, plan_text
from .layers import PATCH, Conditioning, FinalNorm, patch_grid, patchify, unpatchify
from .network_config import NetworkConfig
from .rotary import Grid, rotation_table


@dataclass(frozen=True)
class TransformerConfig(NetworkConfig):
    """Sizes and rules of a Pyramid Flow transformer.

    `input_skip` is ours: the noisy clip is added to the answer, each patch feature times a gain that the timestep and
    the text steer. A narrow network then need not carry the noise through all blocks only to give it back.
    """

    input_skip: bool = field(default=False, kw_only=True)

    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        {"use_flash_attn", "use_gradient_checkpointing", "gradient_checkpointing_ratio", "max_num_frames"}
    )

    @property
    def text_width(self) -> int:
        """Features of a token of text."""
        return self.joint_attention_dim

    @property
    def pooled_width(self) -> int:
        """Features of the vector that sums up a text."""
        return self.pooled_projection_dim


class PyramidTransformer(nn.Module):
    """The frame around the blocks; `attention` may be any function `(q, k, v) -> out` on `(b, heads, n, d)`."""

    name: ClassVar[str]

    def __init__(self, config: TransformerConfig, rotary_sizes: tuple[int, ...], ops, **factory) -> None:
        super().__init__()
        self.config = config
        self.rotary_sizes = rotary_sizes
        self.attention: Attention = F.scaled_dot_product_attention
        self.gradient_checkpointing = False
        self.time_text_embed = Conditioning(config.pooled_projection_dim, config.width, ops, **factory)
        self.context_embedder = ops.Linear(config.joint_attention_dim, config.width, **factory)
        self.norm_out = FinalNorm(config.width, ops, **factory)
        self.proj_out = ops.Linear(config.width, 4 * config.latent_channels, **factory)
        self.skip = ops.Linear(config.width, 4 * config.latent_channels, **factory) if config.input_skip else None

    def enable_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Trade time for memory in training: keep only what goes into each block, and work the rest out again."""
        self.gradient_checkpointing = enabled

    def forward(
        self, clips: Sequence[Tensor], timestep: Tensor, text: Tensor, text_mask: Tensor | None, pooled: Tensor
    ) -> Tensor:
        """Return the velocity `(b, c, t, h, w)` of the last clip.

        clips: latents `(b, c, t, h, w)` in time order, the noisy one last; it sets the type of the computation.
        timestep: `(b,)`, 0 to 1000. text: `(b, n, d)`. text_mask: `(b, n)`, 1 = real, None = all real.
        pooled: `(b, p)`. A mask on the CPU costs no device sync. Raises ValueError when a shape does not fit.
        """
        config = self.config
        check_clips(self.name, clips, config.latent_channels)
        check_conditioning(self.name, clips[-1].shape[0], timestep, text, text_mask, pooled, config)
        device, dtype = clips[-1].device, clips[-1].dtype
        plan = plan_text(len(text), text_mask if config.use_t5_mask else None, device)
        grids = tuple(patch_grid(clip) for clip in clips)
        text = self.context_embedder(plan.pack(text.to(dtype)))
        steer = F.silu(self.time_text_embed(plan.sort(timestep), plan.sort(pooled.to(dtype))))
        x = torch.cat([self.embed(plan.sort(clip.to(dtype)), grids[-1]) for clip in clips], dim=1)
        layout = TokenLayout(
            rows=plan.rows,
            ends=frame_ends(text.shape[1], grids, config.use_temporal_causal),
            rotation=self.rotation(text.shape[1], grids, device),
            attention=self.attention,
        )
        x = self.run_blocks(x, text, steer, layout)
        frames, rows, columns = grids[-1]
        last = x[:, -frames * rows * columns :]
        answer = self.proj_out(self.norm_out(last, steer))
        if self.skip is not None:
            answer = torch.addcmul(answer, self.skip(steer).unsqueeze(1), patchify(plan.sort(clips[-1])))
        return plan.unsort(unpatchify(answer, grids[-1]))

    def embed(self, clip: Tensor, last: Grid) -> Tensor:
        """Turn one clip into tokens `(b, n, width)`; `last` is the patch grid of the last clip."""
        raise NotImplementedError

    def run_blocks(self, x: Tensor, text: Tensor, steer: Tensor, layout: TokenLayout) -> Tensor:
        """Return the image tokens after all blocks; `steer (b, width)` is the activated conditioning."""
        raise NotImplementedError

    def rotation(self, text_tokens: int, grids: tuple[Grid, ...], device: torch.device) -> Tensor | None:
        """Return the table that queries and keys turn by, None for no rotation."""
        return rotation_table(text_tokens, grids, self.rotary_sizes, self.config.interp_condition_pos, device)

    def run(self, block: nn.Module, *inputs):
        """Run one block, keeping only its inputs when gradient checkpointing is on. Nothing in a block is random."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return block(*inputs)


def check_clips(name: str, clips: Sequence[Tensor], channels: int) -> None:
    """Raise a ValueError that says which clips this model takes."""
    if not clips:
        raise ValueError(f"this {name} model got no clips; the last clip is the one it works on")
    batch = clips[-1].shape[0]
    for number, clip in enumerate(clips, 1):
        what, shape = f"clip {number} of {len(clips)}", tuple(clip.shape)
        if len(shape) != 5 or shape[1] != channels:
            raise ValueError(
                f"{what} has the shape {shape}, this {name} model takes (batch, {channels}, frames, rows, columns); "
                f"wire a latent made with the VAE of this model"
            )
        if shape[0] != batch:
            raise ValueError(f"{what} has a batch of {shape[0]} and the last clip one of {batch}; make them the same")
        if 0 in shape or shape[3] % PATCH or shape[4] % PATCH:
            rows, columns = (max(PATCH, size - size % PATCH) for size in shape[3:])
            raise ValueError(
                f"{what} has {shape[2]} frames of {shape[3]}x{shape[4]} latent pixels, which do not divide "
                f"into {PATCH}x{PATCH} patches; the nearest size is {rows}x{columns}"
            )


def check_conditioning(
    name: str,
    batch: int,
    timestep: Tensor,
    text: Tensor,
    mask: Tensor | None,
    pooled: Tensor,
    config: TransformerConfig,
) -> None:
    """Raise a ValueError that says which text features, pooled vector and timestep this model takes."""
    for what, tensor, axes, width in (
        ("text features", text, 3, config.joint_attention_dim),
        ("a pooled text vector", pooled, 2, config.pooled_projection_dim),
    ):
        if tensor.ndim != axes or tensor.shape[-1] != width:
            raise ValueError(
                f"this {name} model expects {what} {width} wide, got {tensor.shape[-1]} (shape {tuple(tensor.shape)}): "
                f"wire the text encoder that belongs to this model"
            )
        if tensor.shape[0] != batch:
            raise ValueError(
                f"got {what} for {tensor.shape[0]} rows and clips for {batch}; give every clip its own row"
            )
    if timestep.shape != (batch,):
        raise ValueError(
            f"timestep has the shape {tuple(timestep.shape)}; expected ({batch},), one number for every clip"
        )
    if mask is not None and mask.shape != text.shape[:2]:
        raise ValueError(
            f"the text mask has the shape {tuple(mask.shape)}; expected {tuple(text.shape[:2])} as the text has"
        )
