"""The Helios transformer: the velocity of nine latent frames, given the past in three levels and a text.

Helios (arXiv 2603.04379) is Wan 2.1 14B made autoregressive. State-dict keys are those of the official checkpoints.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention_forms import Attention
from .block_patches import BlockPatch
from .families import HELIOS
from .helios_blocks import BlockRules, HeliosBlock, HeliosConditioning, HeliosOutputNorm, Streams
from .history_levels import UNIT_FRAMES, HistoryLevel, HistoryLevels, history_rotation, whole_patches
from .input_checks import check_clips, check_text, check_timestep
from .kv_cache import CacheSlot
from .layers import PATCH, TIMESTEP_FEATURES, Device, Dtype, init_weights, patch_grid, unpatchify
from .network_config import NetworkConfig
from .rotary import BASE
from .transformer import rows_like

__all__ = [
    "UNIT_FRAMES",
    "HeliosConfig",
    "HeliosTransformer",
    "HistoryLevel",
    "HistoryLevels",
    "init_weights",
    "text_window",
]

TEXT_TOKENS = 512  # every text is filled up with zeros to this length, and they are read like text
PAST_FRAMES = 2.5  # of full size have as many tokens as the whole past in its patches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeliosConfig(NetworkConfig):
    """Sizes and rules under the names of the official `config.json`; the defaults are those of the released models."""

    patch_size: tuple[int, ...] = (1, PATCH, PATCH)
    num_attention_heads: int = 40
    attention_head_dim: int = 128
    in_channels: int = 16
    out_channels: int | None = 16  # None: as many as go in
    text_dim: int = 4096
    freq_dim: int = TIMESTEP_FEATURES
    ffn_dim: int = 13824
    num_layers: int = 40
    cross_attn_norm: bool = True
    qk_norm: str = "rms_norm_across_heads"
    eps: float = 1e-6
    added_kv_proj_dim: int | None = None
    rope_dim: tuple[int, ...] = (44, 42, 42)  # features of a head that turn with time, row, column
    rope_theta: float = BASE
    guidance_cross_attn: bool = True  # only what is made reads the text, the past does not
    zero_history_timestep: bool = True  # the past has timestep 0, as it is clean, not that of what is made
    has_multi_term_memory_patch: bool = True  # there is a history
    is_amplify_history: bool = False  # keys of the past have a learned scale ...
    history_scale_mode: str = "per_head"  # ... one for each head, or "scalar" for one

    made_for: ClassVar[str] = HELIOS
    unit_frames: ClassVar[int] = UNIT_FRAMES
    text_tokens: ClassVar[int | None] = TEXT_TOKENS
    live_widths: ClassVar[float] = 12.7

    MODEL: ClassVar[str] = "Helios"
    FIXED: ClassVar[dict[str, object]] = {
        "patch_size": (1, PATCH, PATCH),
        "freq_dim": TIMESTEP_FEATURES,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "added_kv_proj_dim": None,
        "rope_theta": BASE,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.rope_dim
        if len(sizes) != 3 or any(size % 2 for size in sizes) or sum(sizes) != self.attention_head_dim:
            raise ValueError(
                f"rope_dim is {list(sizes)}; expected three even numbers that add up to "
                f"attention_head_dim = {self.attention_head_dim}"
            )
        if self.out_channels not in (None, self.in_channels):
            raise ValueError(f"out_channels is {self.out_channels}; expected in_channels = {self.in_channels}")
        if self.history_scale_mode not in ("per_head", "scalar"):
            raise ValueError(f"history_scale_mode is {self.history_scale_mode!r}; expected 'per_head' or 'scalar'")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> HeliosConfig:
        """Read a config as the official loader does: a key that it does not know is logged and left out."""
        known = {each.name for each in fields(cls)}
        if unknown := sorted(key for key in values.keys() - known if not key.startswith("_")):
            log.warning("Helios: unknown keys of its config.json are ignored: %s", ", ".join(unknown))
        return super().from_dict({key: value for key, value in values.items() if key in known})

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that go in and come out."""
        return self.in_channels

    @staticmethod
    def frames_at_once(frames: int) -> float:
        """As `TransformerConfig` has it: a unit, and a past that costs as much whatever the length of the clip."""
        return UNIT_FRAMES + PAST_FRAMES

    @property
    def text_width(self) -> int:
        """Features of a token of text."""
        return self.text_dim

    @property
    def pooled_width(self) -> int:
        """No vector sums up the text."""
        return 0

    @property
    def block_rules(self) -> BlockRules:
        """What every block is made by."""
        scales = {"per_head": self.num_attention_heads, "scalar": 1}
        return BlockRules(
            width=self.width,
            heads=self.num_attention_heads,
            inner=self.ffn_dim,
            eps=self.eps,
            past_reads_text=not self.guidance_cross_attn,
            history_key_scale=scales[self.history_scale_mode] if self.is_amplify_history else None,
        )


class HeliosTransformer(nn.Module):
    """Predict velocities as `HeliosTransformer3DModel` does; `attention` may be any function `(q, k, v) -> out`."""

    name = "Helios"
    KEEPS_FLOAT32: ClassVar[tuple[str, ...]] = ("time_embedder", "scale_shift_table", "norm2", "history_key_scale")

    def __init__(self, config: HeliosConfig, ops: Any = nn, device: Device = None, dtype: Dtype = None) -> None:
        super().__init__()
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        self.config = config
        self.attention: Attention = F.scaled_dot_product_attention
        self.patch_embedding = self.patches(1, ops, factory_kwargs)
        if config.has_multi_term_memory_patch:
            self.patch_short = self.patches(1, ops, factory_kwargs)
            self.patch_mid = self.patches(2, ops, factory_kwargs)
            self.patch_long = self.patches(4, ops, factory_kwargs)
        self.condition_embedder = HeliosConditioning(config.text_dim, config.width, ops, **factory_kwargs)
        self.blocks = nn.ModuleList(
            HeliosBlock(config.block_rules, ops, **factory_kwargs) for _ in range(config.num_layers)
        )
        self.norm_out = HeliosOutputNorm(config.width, config.eps, device)
        self.proj_out = ops.Linear(config.width, config.latent_channels * PATCH**2, **factory_kwargs)

    def patches(self, size: int, ops: Any, factory_kwargs: dict[str, Any]) -> nn.Module:
        """The convolution that makes tokens of patches, `size` times the finest 1x2x2."""
        shape = (size, PATCH * size, PATCH * size)
        return ops.Conv3d(self.config.in_channels, self.config.width, kernel_size=shape, stride=shape, **factory_kwargs)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        text: Tensor,
        history: HistoryLevels | None = None,
        attention: Attention | None = None,
        patch: BlockPatch | None = None,
    ) -> Tensor:
        """Return the velocity `(b, c, t, h, w)` of the frames that are made.

        x: noisy latents `(b, c, t, h, w)`; they set the type of the computation. timestep: `(b,)`, 0 to 1000.
        text: `(b, n, d)`, as `text_window` makes it. history: of any size; without one the frames are the
        first of all. attention: another than the network's own. patch: runs the blocks; to it both streams are one.
        Raises ValueError when a shape does not fit.
        """
        history = history or HistoryLevels(tuple(range(x.shape[2])))
        self.check(x, timestep, text, history)
        dtype, grid = x.dtype, patch_grid(x)

        made = tokens(self.patch_embedding(x))
        past = made[:, :0]
        places = [(history.frames, *grid[1:], 1)]
        if history.levels:
            embedders = {"short": self.patch_short, "mid": self.patch_mid, "long": self.patch_long}
            past = torch.cat(
                [
                    tokens(embedders[name](whole_patches(level.latents.to(dtype), size)))
                    for name, level, size in history.levels
                ],
                dim=1,
            )
            places = [
                (level.frames, *patch_grid(level.latents)[1:], size) for _, level, size in history.levels
            ] + places
        rotation = history_rotation(tuple(places), self.config.rope_dim, x.device)

        # The past is clean: its timestep, 0, is embedded in the same batch.
        temb, block_temb = self.condition_embedder(torch.cat((timestep, timestep.new_zeros(1))), dtype)
        temb, now, clean = temb[:-1], block_temb[:-1], block_temb[-1:]
        block_tembs = (clean if self.config.zero_history_timestep else now, now)
        text = self.condition_embedder.text_embedder(text.to(dtype))

        streams = (past, made)
        for block in self.blocks:
            run = partial(block, block_tembs=block_tembs, rotation=rotation, attention=attention or self.attention)
            streams = run(streams, text=text) if patch is None else patched(patch, block, run, streams, text, now)
        return unpatchify(self.proj_out(self.norm_out(streams[1], temb)), grid)

    def predict(
        self,
        x: Tensor,
        timestep: Tensor,
        history: HistoryLevels | None,
        text: Tensor,
        mask: Tensor | None = None,
        pooled: Tensor | None = None,
        cache_slot: CacheSlot | None = None,
        attention: Attention | None = None,
        patch: BlockPatch | None = None,
    ) -> Tensor:
        """As `PyramidTransformer.predict`; every token of the text is read, and nothing is kept from unit to unit."""
        past = history.each(lambda clip: rows_like(clip, x)) if history else None
        # By its class: in ComfyUI the network has another forward in front.
        return HeliosTransformer.forward(self, x, timestep, text, past, attention, patch)

    @staticmethod
    def join_texts(texts: Sequence[Tensor]) -> tuple[Tensor, None]:
        """Stack texts `(b, n, d)` as `text_window` brings them to one length; padding is read too, so no mask."""
        return torch.cat([text_window(text) for text in texts]), None

    def check(self, x: Tensor, timestep: Tensor, text: Tensor, history: HistoryLevels) -> None:
        """Raise a ValueError that says what this model takes."""
        config, past = self.config, [level.latents for _, level, _ in history.levels]
        check_clips(self.name, [*past, x], config.in_channels)
        if len(history.frames) != x.shape[2]:
            raise ValueError(f"a history for {len(history.frames)} frames was given with {x.shape[2]} frames to make")
        if past and not config.has_multi_term_memory_patch:
            raise ValueError("this Helios model has no history (its config says has_multi_term_memory_patch: false)")
        encoder = "a UMT5-XXL text encoder (core's CLIPLoader of type wan, or the official folder)"
        check_text(self.name, "text features", text, 3, config.text_dim, len(x), encoder)
        check_timestep(timestep, len(x))


def patched(
    patch: BlockPatch, block: nn.Module, run: Callable[..., Streams], streams: Streams, text: Tensor, temb: Tensor
) -> Streams:
    """What a patch makes of a block, which gets the past and what is made as one stream."""
    lengths = [x.shape[1] for x in streams]

    def run_joined(x: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        past, made = x.split(lengths, dim=1)
        return torch.cat(run((past, made), text=text), dim=1), text

    past, made = patch(block, run_joined, torch.cat(streams, dim=1), text, temb)[0].split(lengths, dim=1)
    return past, made


def text_window(text: Tensor) -> Tensor:
    """Bring texts `(b, n, d)` into the form that the model was trained with, `(b, TEXT_TOKENS, d)`.

    The first words of each row, then zeros. Tokens that are all zero are no text, wherever they stand: text encoders
    fill up with them, and texts that are joined then have them in the middle.
    """
    rows = [row[row.any(dim=-1)][:TEXT_TOKENS] for row in text]
    return torch.stack([F.pad(row, (0, 0, 0, TEXT_TOKENS - len(row))) for row in rows])


def tokens(patches: Tensor) -> Tensor:
    """(b, width, t, h, w) -> (b, t h w, width)"""
    return patches.flatten(2).transpose(1, 2)
