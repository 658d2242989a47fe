"""Our transformers with the call of a ComfyUI network.

The host calls with one tensor and one timestep. Of a pyramid, the true timestep and the past come beside it as
`pyramid`, see `VideoModel.apply_model`.
"""

from __future__ import annotations

from typing import Any

import comfy.patcher_extension
import torch
from torch import Tensor

from ..models.helios import HeliosTransformer
from ..models.miniflux import MiniFluxTransformer
from ..models.mmdit import MMDiTTransformer
from .comfy_conds import mask_of

WrappersMP = comfy.patcher_extension.WrappersMP


class HostNetwork:
    """Put in front of one of our networks, gives it the call of a ComfyUI network."""

    def __init__(self, network_config: Any, dtype: torch.dtype, device: Any = None, operations: Any = None) -> None:
        super().__init__(network_config, ops=operations, device=device, dtype=dtype)
        self.dtype = dtype

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        transformer_options: dict | None = None,
        **extra,
    ) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        wrappers = comfy.patcher_extension.get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._velocity, self, wrappers)
        if not wrappers or "easycache" not in options:
            return executor.execute(x, timestep, context, transformer_options=options, **extra)
        # EasyCache adds its memory to the x that it is given, of which the host has no copy in float32, and older hosts
        # add that of every prompt in a batch to all of its rows. So each prompt gets an x of its own.
        answers, rows = [], len(x) // len(options["uuids"])
        for number, start in enumerate(range(0, len(x), rows)):
            part = slice(start, start + rows)
            alone = {**options, **{key: [options[key][number]] for key in ("uuids", "cond_or_uncond")}}
            text = {key: extra[key][part] for key in ("text", "text_lengths", "pooled") if key in extra}
            inputs = {**extra, **text, "transformer_options": alone}
            answers.append(executor.execute(x[part].clone(), timestep[part], None, **inputs))
        return torch.cat(answers)

    def _velocity(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        transformer_options: dict | None = None,
        **extra,
    ) -> Tensor:
        if "pyramid" not in extra:
            return self.ask(x, timestep, (), extra)
        true_timestep, history = extra["pyramid"]
        return self.ask(x, true_timestep.expand(x.shape[0]), history, extra)

    def ask(self, x: Tensor, timestep: Tensor, history: tuple[Tensor, ...], extra: dict[str, Any]) -> Tensor:
        """The velocity at `timestep (b,)`; `extra` is what `VideoModel.extra_conds` made of the prompts."""
        text = extra["text"]
        mask = mask_of(extra["text_lengths"], text.shape[1])
        clips = (*(placed(clip, x) for clip in history), x)
        return super().forward(clips, timestep, text, mask, extra["pooled"])


class HostMiniFlux(HostNetwork, MiniFluxTransformer):
    pass


class HostMMDiT(HostNetwork, MMDiTTransformer):
    pass


class HostHelios(HostNetwork, HeliosTransformer):
    def ask(self, x: Tensor, timestep: Tensor, history: Any, extra: dict[str, Any]) -> Tensor:
        """As above; `history` is a `HeliosMemory`, or empty."""
        memory = history.each(lambda clip: placed(clip, x)) if history else None
        return HeliosTransformer.forward(self, x, timestep, extra["text"], memory)


NETWORKS = {"miniflux": HostMiniFlux, "mmdit": HostMMDiT, "helios": HostHelios}


def placed(clip: Tensor, x: Tensor) -> Tensor:
    """The past `(b, ...)` beside `x`, in its type, again and again until it has as many rows.

    The host asks for positive and negative in one batch; both have the same past.
    """
    return clip.to(x).repeat(x.shape[0] // clip.shape[0], *[1] * (clip.ndim - 1))
