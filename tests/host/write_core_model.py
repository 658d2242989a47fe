"""A tiny model of ComfyUI's own with random weights: `write_core_model.py COMFYUI ROOT BASE`, with ComfyUI's Python."""

from __future__ import annotations

import sys
from pathlib import Path

NAME = "core_tiny.safetensors"  # Stable Diffusion 3 with two blocks, which reads the text of the pack's tiny model
TEXT_WIDTH, CHANNELS, BLOCKS = 24, 16, 2


def main(comfyui: str, root: str, base: str) -> None:
    sys.path.insert(0, comfyui)
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.ops
    import torch
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT
    from safetensors.torch import save_file

    width = 64 * BLOCKS
    text = {"target": "torch.nn.Linear", "params": {"in_features": TEXT_WIDTH, "out_features": width}}
    network = MMDiT(
        input_size=None,
        in_channels=CHANNELS,
        depth=BLOCKS,
        adm_in_channels=TEXT_WIDTH,
        context_embedder_config=text,
        num_patches=256,
        pos_embed_max_size=16,
        operations=comfy.ops.manual_cast,
    )
    generator = torch.Generator().manual_seed(9)
    state = {
        key: torch.randn(tensor.shape, generator=generator) / width**0.5 for key, tensor in network.state_dict().items()
    }
    save_file(state, Path(base) / "models" / "diffusion_models" / NAME)


if __name__ == "__main__":
    main(*sys.argv[1:])
