"""What surrounds a forward of Pyramid Flow in the host: the plan of its tokens, the packed past, keys that are kept.

All of it is made outside the network: it is the same for all steps of a stage, and a compiler sees tensors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import comfy.ldm.modules.attention as host_attentions
import comfy.model_management
import comfy.patcher_extension
import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.attention_forms import Attention
from ...models.cached_tokens import CachedTokens
from ...models.input_checks import check_clips
from ...models.kv_cache import KVCache
from ...models.layers import patch_grid, patchify
from .block_patches import block_patch
from .patchers import free_beside_weights

WrappersMP = comfy.patcher_extension.WrappersMP
# Patches that change what a network makes of the same input, or whether it is called at all.
COMPILED = "torch.compile"  # key of core's wrapper
HALF_ONLY = ("attention_sage", "attention3_sage", "attention_flash")
CHANGING = ("optimized_attention_override", "patches", "patches_replace", "patches_points", "easycache")


@dataclass(eq=False)
class StageMemory:
    """What the steps of one stage share; a new one is begun with every stage of every unit."""

    past: dict[tuple[int, torch.dtype, torch.device], Tensor] = field(default_factory=dict)
    checked: set[Any] = field(default_factory=set)

    def packed(self, history: tuple[Tensor, ...], rows: int, like: Tensor) -> Tensor | None:
        """The past as patches `(rows, n, 4c)`, on the device and in the type of `like`."""
        key = rows, like.dtype, like.device
        if history and key not in self.past:
            patches = torch.cat([patchify(clip.to(like)) for clip in history], dim=1)
            self.past[key] = patches.repeat(rows // len(patches), 1, 1)
        return self.past.get(key)


@dataclass(eq=False)
class KeptRun:
    """What one run keeps from unit to unit, and what it was worked out from."""

    cache: KVCache
    sources: dict[Any, tuple[Tensor, ...]] = field(default_factory=dict)  # prompts and stage: text, pooled, old frames

    def is_true(self, source: Any, now: tuple[Tensor, ...]) -> bool:
        """Whether what is kept of a `source` comes from the same text and frames; makes the device wait, once a stage.

        If not, it is dropped.
        """
        before = self.sources.get(source)
        self.sources[source] = now
        if before is None:
            return True
        same = [a.shape == b[:, : a.shape[1]].shape for a, b in zip(before, now, strict=True)]
        if all(same):
            equal = [(a == b[:, : a.shape[1]]).all() for a, b in zip(before, now, strict=True)]
            if bool(torch.stack(equal).all()):
                return True
        self.cache.forget(lambda place: isinstance(place, tuple) and place[0] == source)
        return False


def compute_dtype(model: Any) -> torch.dtype:
    """What the network of a host's model computes in, whatever its weights are kept in."""
    return getattr(model, "manual_cast_dtype", None) or model.get_dtype()


def attention_for(options: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Attention:
    """The attention that the user chose for the host or for this model; torch's own where neither was chosen.

    Some know no float32: the host would say so in its log at every call, and take torch's own.
    """
    of_host = host_attentions.optimized_attention
    unfit = (host_attentions.attention_pytorch,)
    if dtype == torch.float32:
        unfit += tuple(getattr(host_attentions, name, None) for name in HALF_ONLY)
    chosen = of_host not in unfit and device.type != "cpu"
    if not chosen and "optimized_attention_override" not in options:
        return F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return host_attentions.optimized_attention(
            query,
            key,
            value,
            query.shape[1],
            skip_reshape=True,
            skip_output_reshape=True,
            transformer_options=options,
        )

    return attention


@contextmanager
def prepared(model: Any, x: Tensor, options: dict[str, Any], inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The `inputs` of the network, of `VideoModel.extra_conds`, and what its forward needs besides."""
    network, pyramid = model.diffusion_model, options.get("pyramid", {})
    like = x.new_empty(0, dtype=compute_dtype(model))
    history = pyramid.get("history", ())
    check_clips(network.name, [x], network.config.latent_channels)
    grids = (*map(patch_grid, history), patch_grid(x))
    memory: StageMemory = pyramid.get("memory") or StageMemory()
    past = memory.packed(history, len(x), like)
    with keeping(model, x, options, inputs, past, like) as kept:
        real = tokens_of_lengths(inputs["text_lengths"], inputs["text"].shape[1], network.config.use_t5_mask)
        attention = attention_for(options, x.device, like.dtype)
        patch = block_patch(network, options)
        plan = network.plan(grids, real, like, kept, attention, patch=patch)
        if COMPILED in apply_wrappers(options):
            plan.mark_growing(past)
        yield {
            **inputs,
            "plan": plan,
            "plan_of": lambda rows: network.plan(grids, real[rows], like, None, attention, patch=patch),
            "past": past,
            "pyramid": (pyramid.get("timestep"),),  # a tuple: the host changes the type of a tensor
        }


def tokens_of_lengths(lengths: tuple[int, ...], tokens: int, masked: bool) -> tuple[tuple[bool, ...], ...]:
    """Which of so many tokens of each row are text."""
    return tuple((True,) * (length if masked else tokens) + (False,) * (tokens - length) * masked for length in lengths)


@contextmanager
def keeping(
    model: Any, x: Tensor, options: dict[str, Any], inputs: dict[str, Any], past: Tensor | None, like: Tensor
) -> Iterator[CachedTokens | None]:
    """What a forward takes over from an earlier unit, None where that is not the same; what it leaves is kept after."""
    pyramid, network = options.get("pyramid", {}), model.diffusion_model
    settled, later = pyramid.get("settled", 0), pyramid.get("settled_later", 0)
    if not settled or past is None or not network.config.use_temporal_causal or is_changed(model, options, inputs):
        yield None
        return
    run: KeptRun = pyramid["kept"](model, x)
    _, rows, columns = patch_grid(pyramid["history"][0])
    text = max(inputs["text_lengths"]) if network.config.use_t5_mask else inputs["text"].shape[1]
    prompts = tuple(options.get("uuids", ())), inputs["text_lengths"], len(x), x.device
    source = pyramid["stage"], prompts
    if source not in pyramid["memory"].checked:
        pyramid["memory"].checked.add(source)
        frames = past[:, : settled * rows * columns]
        run.is_true(source, (inputs["text"], inputs["pooled"], frames))
    place = source, pyramid["step"], pyramid["network_timestep"]

    def shape(tokens: int) -> tuple[int, ...]:
        return network.cache_shape(len(x), tokens)

    most = text + later * rows * columns if later else 0
    kept = run.cache.take(place, shape, like, text + settled * rows * columns, most)
    yield kept
    run.cache.put(place, kept)


def is_changed(model: Any, options: dict[str, Any], inputs: dict[str, Any]) -> bool:
    """Whether anything may change what the network predicts in another unit, or skip it."""
    if any(options.get(key) for key in CHANGING) or inputs.get("control") is not None:
        return True
    patcher = getattr(model, "current_patcher", None)
    if getattr(patcher, "current_hooks", None) is not None:
        return True
    if any(name.startswith("diffusion_model") for name in getattr(patcher, "object_patches", ())):
        return True
    wrappers: Callable[[str], list[Any]] = lambda kind: comfy.patcher_extension.get_all_wrappers(kind, options)  # noqa: E731
    if wrappers(WrappersMP.DIFFUSION_MODEL):
        return True
    return bool(apply_wrappers(options) - {COMPILED})


def apply_wrappers(options: dict[str, Any]) -> set[str]:
    """Who wraps the call of the network, by key."""
    return set(options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {}))


def room_for_keys(model: Any, shape: list[int], device: torch.device) -> int:
    """Bytes that a run may fill: what is free, less twice what its forwards take for activations."""
    needed = 2 * model.memory_required(shape) + comfy.model_management.minimum_inference_memory()
    return max(0, int(free_beside_weights(getattr(model, "current_patcher", None), device) - needed))
