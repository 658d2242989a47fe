"""LoRA: small additions to the linear layers of a transformer that stays as it is (Hu et al. 2021, arXiv 2106.09685).

`y = W x + strength * alpha / rank * up(down(x))`. Files have the keys that ComfyUI's LoRA loaders take for any model,
`diffusion_model.<layer>.lora_down.weight`, `.lora_up.weight` and `.alpha`. PEFT's `lora_A` and `lora_B`, the prefixes
of PEFT and diffusers and kohya's `lora_unet_<layer>` with strokes for dots are read too.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from .attention import JointAttention
from .checkpoint_files import CheckpointError, check_bytes, is_safetensors, read_safetensors, scan_safetensors
from .checkpoints import FLOAT8, write_tensors
from .families import ModelFamily

PREFIX = "diffusion_model."
OTHER_PREFIXES = ("base_model.model.", "transformer.", "unet.")  # of PEFT, which may stand before these of diffusers
KOHYA_PREFIX = "lora_unet_"
DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"
PEFT = {".lora_A.weight": DOWN, ".lora_B.weight": UP, ".lora_A.default.weight": DOWN, ".lora_B.default.weight": UP}
LARGEST_RANK = 1024
Part = tuple[Tensor, Tensor, float]  # down (rank, in), up (out, rank), scale
BLOCKS = ("transformer_blocks.", "single_transformer_blocks.")
TARGETS: dict[str, Callable[[str], bool]] = {  # which linears inside the blocks
    "attention": lambda name: ".attn." in name,
    "mlp": lambda name: ".ff" in name or name.endswith((".proj_mlp", ".proj_out")),
    "all": lambda name: ".norm" not in name,
}


@dataclass(frozen=True)
class LoRASettings:
    """How large the additions are and where; `alpha / rank` scales them, so that the rank may change alone."""

    rank: int = 8
    alpha: float = 8.0
    targets: str = "attention"

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= LARGEST_RANK:
            raise ValueError(f"a LoRA of rank {self.rank}; expected 1 to {LARGEST_RANK} (4 to 64 are usual)")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha is {self.alpha}; expected a number above 0, usually the rank")
        if self.targets not in TARGETS:
            raise ValueError(f"unknown targets {self.targets!r}; expected one of {', '.join(TARGETS)}")


class LoRALayer(nn.Module):
    """What is added to one linear layer; nothing at first."""

    def __init__(self, inputs: int, outputs: int, settings: LoRASettings, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.down = nn.Parameter(torch.empty(settings.rank, inputs).uniform_(-bound, bound, generator=generator))
        self.up = nn.Parameter(torch.zeros(outputs, settings.rank))
        self.scale = settings.alpha / settings.rank

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))


class LoRA(nn.Module):
    """LoRA layers beside chosen layers of `network`, which is frozen; while attached they are part of its forward.

    `layers` by name are those of a network that is not ours; of ours `target_layers` chooses them.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: LoRASettings,
        generator: torch.Generator,
        layers: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        layers = layers or target_layers(network, settings.targets)
        self.names = tuple(layers)
        self.additions = nn.ModuleList(
            LoRALayer(layer.in_features, layer.out_features, settings, generator) for layer in layers.values()
        )
        network.requires_grad_(False)
        self._hooks: list[RemovableHandle] = []
        self.attach(network)

    def parts(self, state: Mapping[str, Tensor]) -> dict[str, Part]:
        """The additions by layer, with the numbers of `state`, a state dict of this LoRA."""
        scale = self.settings.alpha / self.settings.rank
        return {
            name: (state[f"additions.{number}.down"], state[f"additions.{number}.up"], scale)
            for number, name in enumerate(self.names)
        }

    def attach(self, network: nn.Module) -> None:
        """Put the additions beside the layers of `network` that they are for."""
        self._attached: tuple[nn.Module, ...] = (
            network,
        )  # not as a module of this one, which has no weights but its own
        for name, addition in zip(self.names, self.additions, strict=True):
            self._hooks.append(
                network.get_submodule(name).register_forward_hook(
                    lambda _, inputs, output, addition=addition: output + addition(inputs[0])
                )
            )

    def enable_gradient_checkpointing(self) -> None:
        """Turn it on in the network that the additions are part of."""
        for network in self._attached:
            network.enable_gradient_checkpointing()  # type: ignore[operator]  # torch takes it for a tensor

    def detach(self) -> None:
        """Take the additions out of the network again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def target_layers(network: nn.Module, targets: str) -> dict[str, nn.Linear]:
    """The linear layers inside the blocks that `targets`, a key of `TARGETS`, means."""
    # The last block of an SD3 transformer has a query for text that nothing uses: an addition to it would never learn.
    silent = {
        f"{name}.add_q_proj"
        for name, module in network.named_modules()
        if isinstance(module, JointAttention) and not module.text_output
    }
    chosen = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith(BLOCKS) and name not in silent and TARGETS[targets](name)
    }
    if not chosen:
        raise ValueError(f"this {type(network).__name__} has no layers that {targets!r} means")
    return chosen


def lora_state(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """The tensors of a file."""
    state = {}
    for name, (down, up, scale) in parts.items():
        state[PREFIX + name + DOWN] = down.detach().float().cpu().contiguous()
        state[PREFIX + name + UP] = up.detach().float().cpu().contiguous()
        state[PREFIX + name + ALPHA] = torch.tensor(scale * len(down))
    return state


def save_lora(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any], replace: bool = True) -> Path:
    """Write what `lora_state` made; `about` goes into the metadata, `replace` is as for `checkpoints.save`."""
    return write_tensors(Path(path), state, about, replace)


def load_lora(path: Path) -> dict[str, Part]:
    """The additions in a file by layer; CheckpointError for anything else."""
    path = Path(path)
    if not is_safetensors(path):
        raise CheckpointError(f"{path} is not read here: LoRAs come from safetensors files")
    check_bytes(path)
    tensors, _ = scan_safetensors(path, described=False)  # what it says of itself changes nothing
    return lora_parts(dict(read_safetensors(path, list(tensors))), str(path))


def trained_family(path: Path) -> ModelFamily | None:
    """The family of the model that a file of ours was trained on; None where the file does not say it."""
    try:
        _, about = scan_safetensors(path)
        return ModelFamily.from_dict(about["base"]["family"])
    except (ValueError, LookupError, TypeError):  # as files of other programs may have it
        return None


def lora_parts(state: Mapping[str, Tensor], source: str) -> dict[str, Part]:
    """The additions in the tensors of a file by layer; CheckpointError names `source` where they are none."""
    state = {own_name(key): tensor for key, tensor in state.items()}
    found, known = {}, set()
    for key, down in state.items():
        name = key.removesuffix(DOWN)
        if name == key:
            continue
        up = state.get(name + UP)
        if up is None or down.ndim != 2 or up.ndim != 2 or len(down) != up.shape[1]:
            raise CheckpointError(f"{source} is a damaged LoRA: its {DOWN} and {UP} of {name} do not fit each other")
        alpha_tensor = state.get(name + ALPHA, torch.tensor(float(len(down))))
        if not len(down) or alpha_tensor.numel() != 1 or not (down.is_floating_point() and up.is_floating_point()):
            raise CheckpointError(f"{source} is a damaged LoRA: {name} has no rank, no single alpha or no numbers")
        down, up, alpha = down.float(), up.float(), float(alpha_tensor)
        if not (torch.isfinite(down).all() and torch.isfinite(up).all() and math.isfinite(alpha)):
            raise CheckpointError(f"{source} holds NaN or infinite numbers in {name}")
        found[name.removeprefix(PREFIX)] = (down, up, alpha / len(down))
        known |= {key, name + UP, name + ALPHA}
    if not found or state.keys() - known:
        first = next(iter(state.keys() - known), "nothing")
        raise CheckpointError(
            f"{source} is no LoRA of a model of this pack: those hold {PREFIX}<layer>{DOWN}, {UP} and {ALPHA}; "
            f"this one holds {first}"
        )
    return found


def own_name(key: str) -> str:
    """The key of a tensor as we write it, from that or from PEFT's or diffusers' form; kohya's keeps its layer."""
    for prefix in OTHER_PREFIXES:
        key = key.removeprefix(prefix)
    for ending, ours in PEFT.items():
        if key.endswith(ending):
            return key.removesuffix(ending) + ours
    return key


@torch.no_grad()
def merge_lora(
    network: nn.Module,
    lora: Mapping[str, Part],
    strength: float,
    float8_to: torch.dtype = torch.bfloat16,
    name: str = "this LoRA",
) -> nn.Module:
    """A copy of `network` with a LoRA in its weights, sharing all that is not changed.

    float8 is too coarse for most changes: weights stored in it become `float8_to` where they change, for layers that
    cast at use. ValueError, which calls the LoRA by `name`, when it belongs to another model.
    """
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    changed = copy.deepcopy(network, shared)
    layers = dict(changed.named_modules())
    of_kohya = {KOHYA_PREFIX + layer.replace(".", "_"): layer for layer in layers}
    for written, (down, up, scale) in lora.items():
        layer = of_kohya.get(written, written)
        weight = getattr(layers.get(layer), "weight", None)
        if weight is None or tuple(weight.shape) != (len(up), down.shape[1]):
            has = "no such layer" if weight is None else f"a layer of {tuple(weight.shape)}"
            shape = (len(up), down.shape[1])
            raise ValueError(
                f"{name} is of another model: it changes {layer} of {shape}, and this one has {has}. Load the model "
                "that it was trained on, or train it anew on this one"
            )
        if strength:
            addition = strength * scale * (up @ down).to(weight.device)
            dtype = float8_to if weight.dtype in FLOAT8 else weight.dtype
            layers[layer].weight = nn.Parameter((weight.float() + addition).to(dtype), requires_grad=False)
    return changed
