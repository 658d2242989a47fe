"""Our transformers with the call of a ComfyUI network.

The host calls with one tensor and one timestep. The true timestep of a pyramid and its past come beside it, see
`comfy_forward`.
"""

from __future__ import annotations

from typing import Any

import comfy.patcher_extension
import torch
from torch import Tensor

from ...models.helios import HeliosTransformer
from ...models.layers import patch_grid, patchify
from ...models.miniflux import MiniFluxTransformer
from ...models.mmdit import MMDiTTransformer

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
            inputs = {**self.rows_of(extra, part), "transformer_options": alone}
            answers.append(executor.execute(x[part].clone(), timestep[part], None, **inputs))
        return torch.cat(answers)

    def rows_of(self, extra: dict[str, Any], part: slice) -> dict[str, Any]:
        """The inputs of some rows of a batch."""
        keys = ("text", "text_lengths", "pooled", "past")
        rows = {key: extra[key][part] for key in keys if extra.get(key) is not None}
        return {**extra, **rows, **({"plan": extra["plan_of"](part)} if "plan_of" in extra else {})}

    def _velocity(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        transformer_options: dict | None = None,
        **extra,
    ) -> Tensor:
        (true_timestep,) = extra["pyramid"]
        if true_timestep is not None:
            timestep = true_timestep.expand(x.shape[0])
        return self.ask(x, timestep, extra)

    def ask(self, x: Tensor, timestep: Tensor, extra: dict[str, Any]) -> Tensor:
        """The velocity at `timestep (b,)`; `extra` is what `comfy_forward.prepared` made of the prompts."""
        tokens, past = patchify(x), extra.get("past")
        if past is not None:
            tokens = torch.cat((past, tokens), dim=1)
        return self.velocity(tokens, patch_grid(x), timestep, extra["text"], extra["pooled"], extra["plan"])


class HostMiniFlux(HostNetwork, MiniFluxTransformer):
    pass


class HostMMDiT(HostNetwork, MMDiTTransformer):
    pass


class HostHelios(HostNetwork, HeliosTransformer):
    def ask(self, x: Tensor, timestep: Tensor, extra: dict[str, Any]) -> Tensor:
        """As above, with a `HistoryLevels` or nothing as `history`."""
        history = extra.get("history")
        memory = history.each(lambda clip: placed(clip, x)) if history else None
        return HeliosTransformer.forward(self, x, timestep, extra["text"], memory, extra["attention"])


NETWORKS = {"miniflux": HostMiniFlux, "mmdit": HostMMDiT, "helios": HostHelios}


def placed(clip: Tensor, x: Tensor) -> Tensor:
    """The past `(b, ...)` beside `x`, in its type, again and again until it has as many rows.

    The host asks for positive and negative in one batch; both have the same past.
    """
    return clip.to(x).repeat(x.shape[0] // clip.shape[0], *[1] * (clip.ndim - 1))
