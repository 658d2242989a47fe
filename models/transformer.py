"""What both Pyramid Flow transformers do around their blocks: check, embed, lay out the tokens, read the last clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import ForwardPlan, HeadsAttention
from .attention_forms import Attention, choose_form
from .block_patches import BlockPatch
from .cached_tokens import CachedTokens
from .input_checks import check_clips, check_mask, check_text, check_timestep
from .kv_cache import CacheSlot
from .layers import AdaLayerNorm, Conditioning, FinalNorm, patch_grid, patchify, timestep_frequencies, unpatchify
from .network_config import NetworkConfig
from .rotary import Grid, rotation_table, table_of_chosen
from .text_features import lengths_to_mask
from .token_layout import frame_ends, in_order, text_order, token_layout

CONDITIONING = -1  # where the conditioning is kept among the vectors of adaptive norms, which are numbered from 0


@dataclass(frozen=True)
class TransformerConfig(NetworkConfig):
    """Sizes and rules of a Pyramid Flow transformer.

    `input_skip` is ours: the noisy clip is added to the output, each patch feature times a gain that depends on the
    timestep and the text. A narrow network then need not carry the noise through all blocks only to give it back.
    """

    joint_attention_dim: int = 4096  # width of the text features
    pooled_projection_dim: int = 768
    use_temporal_causal: bool = True  # frames see only earlier frames
    use_t5_mask: bool = True  # text padding is left out
    interp_condition_pos: bool = True  # history clips span the grid of the last clip
    input_skip: bool = field(default=False, kw_only=True)

    HARMLESS: ClassVar[frozenset[str]] = frozenset(
        {"use_flash_attn", "use_gradient_checkpointing", "gradient_checkpointing_ratio", "max_num_frames"}
    )

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that go in and come out."""
        raise NotImplementedError

    @staticmethod
    def frames_at_once(frames: int) -> float:
        """How many frames of full size have as many tokens as a unit of a clip of `frames` and the past it sees.

        The frame in work, the newest of the past at full size, one of half its size, all others at a 16th.
        """
        return min(frames, 2.25 + (frames - 3) / 16)

    @property
    def text_width(self) -> int:
        """Features of a token of text."""
        return self.joint_attention_dim

    @property
    def pooled_width(self) -> int:
        """Features of the vector that sums up a text."""
        return self.pooled_projection_dim


class PyramidTransformer(nn.Module):
    """The frame around the blocks; `attention` may be any function `(q, k, v) -> out` on `(b, heads, n, d)`.

    Torch's own is called in whatever form is fastest, see `token_layout`; any other without a mask.
    """

    name: ClassVar[str]

    def __init__(
        self, config: TransformerConfig, rotary_sizes: tuple[int, ...], ops: Any, **factory_kwargs: Any
    ) -> None:
        super().__init__()
        self.config = config
        self.rotary_sizes = rotary_sizes
        self.attention: Attention = F.scaled_dot_product_attention
        self.gradient_checkpointing = False
        self.time_text_embed = Conditioning(config.pooled_projection_dim, config.width, ops, **factory_kwargs)
        self.context_embedder = ops.Linear(config.joint_attention_dim, config.width, **factory_kwargs)
        self.norm_out = FinalNorm(config.width, ops, **factory_kwargs)
        self.proj_out = ops.Linear(config.width, 4 * config.latent_channels, **factory_kwargs)
        self.skip = (
            ops.Linear(config.width, 4 * config.latent_channels, **factory_kwargs) if config.input_skip else None
        )

    def enable_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Trade time for memory in training: keep only what goes into each block, and work the rest out again."""
        self.gradient_checkpointing = enabled

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks, in the order in which they work."""
        raise NotImplementedError

    def number_layers(self) -> None:
        """Number the attentions and adaptive norms of all blocks, once they are made, for what is kept of each."""
        for number, attention in enumerate(part for part in self.modules() if isinstance(part, HeadsAttention)):
            attention.layer = number
        for number, norm in enumerate(part for part in self.modules() if isinstance(part, AdaLayerNorm)):
            norm.number = number

    def cache_shape(self, rows: int, tokens: int) -> tuple[int, ...]:
        """The shape of `CachedTokens.past` for so many tokens."""
        layers = sum(isinstance(module, HeadsAttention) for module in self.modules())
        return layers, 2, rows, tokens, self.config.num_attention_heads, self.config.attention_head_dim

    def forward(
        self,
        clips: Sequence[Tensor],
        timestep: Tensor,
        text: Tensor,
        text_mask: Tensor | None,
        pooled: Tensor,
        kept: CachedTokens | None = None,
        attention: Attention | None = None,
    ) -> Tensor:
        """Return the velocity `(b, c, t, h, w)` of the last clip.

        clips: latents `(b, c, t, h, w)` in time order, the noisy one last; it sets the type of the computation.
        timestep: `(b,)`, 0 to 1000. text: `(b, n, d)`. text_mask: `(b, n)`, 1 = real, None = all real.
        pooled: `(b, p)`. kept: keys and values of the text and the first frames, from a forward that had the same
        text, timestep and frames. attention: another than the network's own. A mask on the CPU costs no
        device sync. Raises ValueError when a shape does not fit.
        """
        config = self.config
        self.check_inputs(clips, timestep, text, text_mask, pooled)
        last = clips[-1]
        grids, dtype = tuple(patch_grid(clip) for clip in clips), last.dtype
        real = real_tokens(text, text_mask if config.use_t5_mask else None)
        plan = self.plan(grids, real, last, kept, attention)
        tokens = torch.cat([patchify(clip.to(dtype)) for clip in clips], dim=1)
        return self.velocity(tokens, grids[-1], timestep, text.to(dtype), pooled.to(dtype), plan)

    def check_inputs(
        self, clips: Sequence[Tensor], timestep: Tensor, text: Tensor, text_mask: Tensor | None, pooled: Tensor
    ) -> None:
        """Raise ValueError when a shape of what `forward` is given does not fit."""
        config = self.config
        check_clips(self.name, clips, config.latent_channels)
        rows = len(clips[-1])
        check_text(self.name, "text features", text, 3, config.text_width, rows)
        check_text(self.name, "a pooled text vector", pooled, 2, config.pooled_width, rows)
        check_timestep(timestep, rows)
        check_mask(text_mask, text)

    def predict(
        self,
        x: Tensor,
        timestep: Tensor,
        history: Sequence[Tensor] | None,
        text: Tensor,
        mask: Tensor | None,
        pooled: Tensor | None,
        cache_slot: CacheSlot | None = None,
        attention: Attention | None = None,
    ) -> Tensor:
        """Return the velocity of `x (b, c, t, h, w)`, called as every transformer here is.

        history: clips, oldest first, anywhere and of fewer rows. cache_slot: spares what an earlier unit has worked
        out. attention: another than the network's own. The others are those of `forward`.
        """
        clips = *(rows_like(clip, x) for clip in history or ()), x
        if pooled is None:
            raise ValueError(f"this {self.name} model reads a pooled text vector; the prompt has none")
        with nullcontext() if cache_slot is None else cache_slot.of(self, clips, text, mask) as kept:
            return self(clips, timestep, text, mask, pooled, kept, attention)

    @staticmethod
    def join_texts(texts: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Stack texts `(b, n, d)` of any length: the shorter are filled up with zeros, which a mask tells from text."""
        lengths = [text.shape[1] for text in texts]
        joined = torch.cat([F.pad(text, (0, 0, 0, max(lengths) - text.shape[1])) for text in texts])
        if min(lengths) == max(lengths):
            return joined, None
        real = torch.tensor([length for text, length in zip(texts, lengths, strict=True) for _ in text])
        return joined, lengths_to_mask(real, max(lengths))

    def plan(
        self,
        grids: tuple[Grid, ...],
        real: tuple[tuple[bool, ...], ...],
        like: Tensor,
        kept: CachedTokens | None = None,
        attention: Attention | None = None,
        chosen: Tensor | None = None,
        patch: BlockPatch | None = None,
    ) -> ForwardPlan:
        """Return what forwards with these clips and texts share, for the device and type of `like`.

        grids: patches of the clips. real: of each row, which of its tokens are text. attention: another than the
        network's own. chosen: `(b, k)` patches of a single clip, where the others are left out and frames see all
        frames. patch: runs the blocks. What it holds is made once a stage, when small tables are copied to the device.
        """
        config, device, attention = self.config, like.device, attention or self.attention
        padding, order = text_order(real, device)
        text_tokens = len(real[0]) if order is None else order.shape[1]
        rotation, pos_embed = self.rotation(text_tokens, grids, device), self.position_embedding(grids, like)
        if chosen is not None:
            rotation = None if rotation is None else table_of_chosen(rotation, text_tokens, chosen)
            pos_embed = None if pos_embed is None else pos_embed[chosen]
            grids = ((1, 1, chosen.shape[1]),)
        last = math.prod(grids[-1])
        ends = frame_ends(text_tokens, grids, config.use_temporal_causal)
        first, settled = (0, 0) if kept is None else (kept.tokens, kept.settled)
        form = choose_form(
            attention, device, like.dtype, config.attention_head_dim, torch.is_grad_enabled(), kept is not None
        )
        if text_tokens in padding:  # a row without any text: only runs leave all of its padding unread
            form = "runs"
        form_of_last = "masked" if form == "settled" else form  # nothing of the last clip is kept
        return ForwardPlan(
            layout=token_layout(form, padding, ends, first, settled, device),
            last=last,
            last_layout=token_layout(form_of_last, padding, ends, ends[-1] - last, settled, device),
            rotation=rotation,
            pos_embed=pos_embed,
            text_order=order,
            frequencies=timestep_frequencies(device),
            attention=attention,
            kept=kept,
            patch=patch,
        )

    def velocity(
        self, tokens: Tensor, grid: Grid, timestep: Tensor, text: Tensor, pooled: Tensor, plan: ForwardPlan
    ) -> Tensor:
        """Return the velocity `(b, c, *grid)` from patches `tokens (b, n, 4c)` of all clips and a `plan` for them."""
        return unpatchify(self.velocity_of_patches(tokens, timestep, text, pooled, plan), grid)

    def velocity_of_patches(
        self, tokens: Tensor, timestep: Tensor, text: Tensor, pooled: Tensor, plan: ForwardPlan
    ) -> Tensor:
        """Return the velocity `(b, m, 4c)` of the patches of the last clip; the rest as in `velocity`."""
        temb = self.embed_conditioning(timestep, pooled, plan)
        first = 0 if plan.kept is None else plan.kept.tokens  # the text's and those of the first frames are kept
        embedded_text, known = None, 0
        if not first:
            embedded_text = self.context_embedder(in_order(text, plan.text_order))
        else:
            known = max(0, first - (text if plan.text_order is None else plan.text_order).shape[1])
        x = self.embed(tokens[:, known:].contiguous(), None if plan.pos_embed is None else plan.pos_embed[known:])
        x = self.run_blocks(x, embedded_text, temb, plan)
        velocity = self.proj_out(self.norm_out(x, temb, plan))
        if self.skip is None:
            return velocity
        return torch.addcmul(velocity, self.skip(temb).unsqueeze(1), tokens[:, -plan.last :])

    def embed_conditioning(self, timestep: Tensor, pooled: Tensor, plan: ForwardPlan) -> Tensor:
        """Return `temb (b, width)`, activated; kept as the vectors of adaptive norms are."""
        kept = plan.modulation
        if CONDITIONING not in kept:
            kept[CONDITIONING] = (F.silu(self.time_text_embed(timestep, pooled, plan.frequencies)),)
        return kept[CONDITIONING][0]

    def embed(self, tokens: Tensor, pos_embed: Tensor | None) -> Tensor:
        """Turn patches `(b, n, 4c)` of all clips into tokens `(b, n, width)`."""
        raise NotImplementedError

    def run_blocks(self, x: Tensor, text: Tensor | None, temb: Tensor, plan: ForwardPlan) -> Tensor:
        """Return the tokens of the last clip after all blocks; `temb (b, width)` is the activated conditioning.

        Without `text` its keys and values are those that were kept. In the last block nothing else is asked: what
        becomes of the other tokens there is read by nobody.
        """
        raise NotImplementedError

    def rotation(self, text_tokens: int, grids: tuple[Grid, ...], device: torch.device) -> Tensor | None:
        """Return the table that queries and keys turn by, None for no rotation."""
        return rotation_table(text_tokens, grids, self.rotary_sizes, self.config.interp_condition_pos, device)

    def position_embedding(self, grids: tuple[Grid, ...], like: Tensor) -> Tensor | None:
        """Return `(tokens, width)` in the type of `like` that tells where patches are, None where rotation does."""
        return None

    def run_double(
        self, block: nn.Module, x: Tensor, text: Tensor | None, temb: Tensor, plan: ForwardPlan
    ) -> tuple[Tensor, Tensor | None]:
        """Run a block of two streams, patched where the plan says so."""
        if plan.patch is None:
            return self.run(block, x, text, temb, plan)
        return plan.patch(block, lambda x, text: self.run(block, x, text, temb, plan), x, text, temb)

    def run_single(self, block: nn.Module, x: Tensor, temb: Tensor, plan: ForwardPlan, is_last: bool) -> Tensor:
        """Run a block of one stream; a patch may compare what goes in and comes out, so it gets all tokens of both."""
        if plan.patch is None:
            return self.run(block, x, temb, plan, is_last)
        return plan.patch(block, lambda x, text: (self.run(block, x, temb, plan, False), text), x, None, temb)[0]

    def run(self, block: nn.Module, *inputs: Any) -> Any:
        """Run one block, keeping only its inputs when gradient checkpointing is on. Nothing in a block is random."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return block(*inputs)


def rows_like(clip: Tensor, x: Tensor) -> Tensor:
    """A `clip (b, ...)` of the past beside `x`, in its type, repeated until it has as many rows."""
    return clip.to(x).repeat(len(x) // len(clip), *[1] * (clip.ndim - 1))


def real_tokens(text: Tensor, mask: Tensor | None) -> tuple[tuple[bool, ...], ...]:
    """Which tokens of each row of `text (b, n, d)` a `mask (b, n)` lets through."""
    if mask is None:
        return ((True,) * text.shape[1],) * text.shape[0]
    return tuple(map(tuple, (mask.detach().cpu() != 0).tolist()))
