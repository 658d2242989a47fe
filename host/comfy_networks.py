"""Our transformers with the call of a ComfyUI network.

The host calls with one tensor and one timestep. Of a pyramid, the past and the true timestep come beside it, in
`transformer_options["pyramid"]`, where `PyramidSampler` puts them.
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
        return executor.execute(x, timestep, context, transformer_options=options, **extra)

    def _velocity(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        transformer_options: dict | None = None,
        **extra,
    ) -> Tensor:
        pyramid = transformer_options.get("pyramid")
        if pyramid is None:
            return self.ask(x, timestep, (), extra)
        return self.ask(x, pyramid["timestep"].expand(x.shape[0]), pyramid["history"], extra)

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
