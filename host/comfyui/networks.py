"""Our transformers with the call of a ComfyUI network.

The host calls with one tensor and one timestep. The network's own timestep of a pyramid and its history come beside it,
see `PyramidRun.velocity`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import comfy.conds
import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ...models.checkpoint_kinds import network_classes
from ...models.layers import patch_grid, patchify
from ...models.transformer import PyramidTransformer
from .block_patches import block_patch
from .conds import PaddedText, TextLengths, text_mask, without_padding
from .forward import attention_for, compute_dtype, prepared

WrappersMP = comfy.patcher_extension.WrappersMP


class HostNetwork(nn.Module):
    """Put in front of any of our transformers, gives it the call of a ComfyUI network; it is called by `predict`."""

    config: Any
    join_texts: Callable[..., tuple[Tensor, Tensor | None]]
    predict: Callable[..., Tensor]

    def __init__(self, network_config: Any, dtype: torch.dtype, device: Any = None, operations: Any = None) -> None:
        super().__init__(network_config, ops=operations, device=device, dtype=dtype)
        self.dtype = dtype

    def conds(self, tokens: Tensor, pooled: Tensor | None, mask: Tensor | None) -> dict[str, Any]:
        """What the host batches of a CONDITIONING: tokens, how many of them are real, and the pooled vector."""
        if self.config.text_tokens is not None:
            conds = {"text": comfy.conds.CONDRegular(self.join_texts([tokens])[0])}
        else:
            tokens, lengths = without_padding(tokens, mask)
            conds = {"text": PaddedText(tokens), "text_lengths": TextLengths(lengths)}
        return {**conds, "pooled": comfy.conds.CONDRegular(pooled)} if self.config.pooled_width else conds

    @contextmanager
    def prepared(
        self, model: Any, x: Tensor, options: dict[str, Any], inputs: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """The `inputs` of a forward: those of `conds`, and the history and timestep that ride in `options`."""
        pyramid = options.get("pyramid", {})
        yield {
            **inputs,
            "history": pyramid.get("history"),
            "attention": attention_for(options, x.device, compute_dtype(model)),
            "patch": block_patch(self, options),
            "pyramid": (pyramid.get("timestep"),),  # a tuple: the host changes the type of a tensor
        }

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **inputs: Any,
    ) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        wrappers = comfy.patcher_extension.get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        if not wrappers or "easycache" not in options:
            return executor.execute(x, timestep, context, transformer_options=options, **inputs)
        # EasyCache adds its memory to the x that it is given, of which the host has no copy in float32, and older hosts
        # add that of every prompt in a batch to all of its rows. So each prompt gets an x of its own.
        outputs, rows = [], len(x) // len(options["uuids"])
        for number, start in enumerate(range(0, len(x), rows)):
            part = slice(start, start + rows)
            alone = {**options, **{key: [options[key][number]] for key in ("uuids", "cond_or_uncond")}}
            given = {**self.rows_of(inputs, part), "transformer_options": alone}
            outputs.append(executor.execute(x[part].clone(), timestep[part], None, **given))
        return torch.cat(outputs)

    def rows_of(self, inputs: dict[str, Any], part: slice) -> dict[str, Any]:
        """The inputs of some rows of a batch."""
        keys = ("text", "text_lengths", "pooled", "past")
        rows = {key: inputs[key][part] for key in keys if inputs.get(key) is not None}
        return {**inputs, **rows, **({"plan": inputs["plan_of"](part)} if "plan_of" in inputs else {})}

    def _forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **inputs: Any,
    ) -> Tensor:
        (own_timestep,) = inputs["pyramid"]
        if own_timestep is not None:
            # The host brings its own tensors to the card of a part of a batch, but none that rides in options.
            timestep = own_timestep.to(x.device).expand(x.shape[0])
        return self.output(x, timestep, inputs)

    def output(self, x: Tensor, timestep: Tensor, inputs: dict[str, Any]) -> Tensor:
        """What the network predicts at `timestep (b,)`; `inputs` are those of `prepared`."""
        text, lengths = inputs["text"], inputs.get("text_lengths")
        mask = None if lengths is None else text_mask(lengths, text.shape[1])
        given = {name: inputs[name] for name in ("attention", "patch")}
        return self.predict(x, timestep, inputs["history"], text, mask, inputs.get("pooled"), **given)


class HostPyramid(HostNetwork):
    """For the transformers of Pyramid Flow: what the steps of a stage share is prepared outside the network."""

    velocity: Callable[..., Tensor]

    @contextmanager
    def prepared(
        self, model: Any, x: Tensor, options: dict[str, Any], inputs: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        with prepared(model, x, options, inputs) as given:
            yield given

    def output(self, x: Tensor, timestep: Tensor, inputs: dict[str, Any]) -> Tensor:
        tokens, past = patchify(x), inputs.get("past")
        if past is not None:
            tokens = torch.cat((past, tokens), dim=1)
        return self.velocity(tokens, patch_grid(x), timestep, inputs["text"], inputs["pooled"], inputs["plan"])


@cache
def host_network(kind: str) -> type[HostNetwork]:
    """The class of the host's network for a kind of transformer."""
    network = network_classes(kind)[1]
    front = HostPyramid if issubclass(network, PyramidTransformer) else HostNetwork
    return type(f"Host{network.__name__}", (front, network), {})
