"""What the pyramid for any model saves: operations and tokens of whole runs, counted on meta tensors, not timed.

    COMFYUI_DIR=/path/to/ComfyUI /path/to/its/python benchmarks/spectral_cost.py

Networks of ComfyUI's own classes are built at their real widths without weights, and PyTorch counts the operations of a
forward at every size of latent. Blocks are alike, so one and two of them are counted and the rest follows. A run is 20
steps with guidance (two forwards a step) and the model's usual shift.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import _package  # noqa: F401
import torch
from pyramid_video.samplers.flow import flow_sigmas
from pyramid_video.samplers.spectral import FLOW, Size
from pyramid_video.samplers.spectral_stages import CAREFUL, FAST, SpectralStages
from pyramid_video.samplers.spectrum import WAN

STEPS, FORWARDS = 20, 2
HEIGHTS = {"480p": (480, 832), "720p": (720, 1280), "1080p": (1080, 1920)}
LEVELS = {
    "1/2, careful": ((0.5, 1.0), CAREFUL),
    "1/2, fast": ((0.5, 1.0), FAST),
    "1/4 + 1/2, fast": ((0.25, 0.5, 1.0), FAST),
}
TEXT = 512  # tokens of a prompt


@dataclass(frozen=True)
class Kind:
    """A network by its widths, its latents, and how many blocks it has."""

    build: Callable[[int], torch.nn.Module]  # so many blocks
    blocks: int
    latent: Callable[[Size], tuple[int, ...]]  # of a picture of latent cells
    cell: int  # pixels of a latent cell
    patch: int
    shift: float
    run: Callable[[torch.nn.Module, torch.Tensor], Any]


def kinds() -> dict[str, Kind]:
    """Networks at the widths that their makers released."""
    import comfy.ops
    from comfy.ldm.hunyuan_video.model import HunyuanVideo
    from comfy.ldm.lightricks.model import LTXVModel
    from comfy.ldm.wan.model import WanModel

    place: dict[str, Any] = {"device": "meta", "dtype": torch.bfloat16, "operations": comfy.ops.disable_weight_init}

    def wan(dim: int, ffn: int, heads: int) -> Callable[[int], torch.nn.Module]:
        return lambda blocks: WanModel(dim=dim, ffn_dim=ffn, num_heads=heads, num_layers=blocks, **place)

    def hunyuan(blocks: int) -> torch.nn.Module:
        widths = {"in_channels": 65, "out_channels": 32, "patch_size": [1, 1, 1], "hidden_size": 2048, "num_heads": 16}
        words = {"vec_in_dim": None, "context_in_dim": 3584, "guidance_embed": False, "byt5": False}
        rest = {"axes_dim": [16, 56, 56], "theta": 256, "mlp_ratio": 4.0, "qkv_bias": True, "depth_single_blocks": 0}
        more = {"meanflow": False, "meanflow_sum": False, "use_cond_type_embedding": False, "vision_in_dim": None}
        return HunyuanVideo(**widths, **words, **rest, **more, depth=blocks, **place)

    def words_of(width: int) -> torch.Tensor:
        return torch.empty(1, TEXT, width, device="meta", dtype=torch.bfloat16)

    def time() -> torch.Tensor:
        return torch.empty(1, device="meta")

    def run_wan(network: torch.nn.Module, x: torch.Tensor) -> Any:
        return network(x, time(), words_of(4096))

    def run_ltx(network: torch.nn.Module, x: torch.Tensor) -> Any:
        return network(x, time(), words_of(3840), None)

    def run_hunyuan(network: torch.nn.Module, x: torch.Tensor) -> Any:
        return network(x, time(), words_of(3584), attention_mask=None)

    def ltx(blocks: int) -> torch.nn.Module:
        widths = {"cross_attention_dim": 4096, "attention_head_dim": 128, "caption_channels": 3840}
        return LTXVModel(num_layers=blocks, **widths, **place)

    def frames(channels: int, count: int) -> Callable[[Size], tuple[int, ...]]:
        return lambda size: (1, channels, count, *size)

    return {
        "Wan 1.3B": Kind(wan(1536, 8960, 12), 30, frames(16, 21), 8, 2, 5.0, run_wan),
        "Wan 14B": Kind(wan(5120, 13824, 40), 40, frames(16, 21), 8, 2, 5.0, run_wan),
        "LTX-2, picture": Kind(ltx, 48, frames(128, 16), 32, 1, 2.37, run_ltx),
        "HunyuanVideo 1.5": Kind(hunyuan, 54, frames(65, 31), 16, 1, 7.0, run_hunyuan),
    }


@cache
def operations(kind: Kind, size: Size) -> float:
    """Operations of a forward: those of one block and of what is around the blocks, times how many there are."""
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for blocks in (1, 2):
        network = kind.build(blocks)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            kind.run(network, torch.empty(kind.latent(size), device="meta", dtype=torch.bfloat16))
        counts.append(counter.get_total_flops())
    return counts[0] + (kind.blocks - 1) * (counts[1] - counts[0])


def row(name: str, kind: Kind, resolution: str) -> list[str]:
    """One line of the table: a model at a size, plain and with each pyramid."""
    height, width = HEIGHTS[resolution]
    size = (round(height / kind.cell / kind.patch) * kind.patch, round(width / kind.cell / kind.patch) * kind.patch)
    sigmas = flow_sigmas(STEPS, kind.shift)
    plain = STEPS * FORWARDS * operations(kind, size)
    tokens = kind.latent(size)[2] * size[0] * size[1] // kind.patch**2
    cells = [name, resolution, f"{tokens:,}", f"{plain / 1e15:,.0f}"]
    for scales, delta in LEVELS.values():
        # Of the others the spectrum is not published: they get the levels of Wan at the same size in pixels.
        levels = SpectralStages(scales, delta, WAN).shares((height // 8, width // 8))
        segments = SpectralStages(scales, levels=levels).plan(size, kind.patch, sigmas, FLOW)
        climbed = FORWARDS * sum(segment.steps * operations(kind, segment.size) for segment in segments)
        cells.append(f"{plain / climbed:.2f}")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names of models")
    options = parser.parse_args()
    checkout = os.environ.get("COMFYUI_DIR")
    if checkout is None:
        sys.exit("error: this needs a real ComfyUI: set COMFYUI_DIR, and run it with ComfyUI's Python")
    sys.path.insert(0, checkout)
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    comfy.cli_args.args.use_pytorch_cross_attention = True  # the others cut attention by the memory that is free
    print("| model | size | tokens | plain, 10^15 operations |" + "".join(f" {name} |" for name in LEVELS))
    print("|---" * (4 + len(LEVELS)) + "|")
    for name, kind in kinds().items():
        if options.only and name not in options.only:
            continue
        for resolution in HEIGHTS:
            print("| " + " | ".join(row(name, kind, resolution)) + " |", flush=True)


if __name__ == "__main__":
    main()
