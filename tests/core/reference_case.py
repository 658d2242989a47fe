"""A reference case read from its JSON and safetensors, with the tolerance and bookkeeping that every check shares."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from pyramid_video.models.causal_vae import CausalVAEConfig, CausalVideoVAE
from pyramid_video.models.latent_format import LatentFormat
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.mmdit import MMDiTConfig, MMDiTTransformer
from safetensors.torch import load_file
from torch import Tensor, nn

REFERENCE = Path(os.environ.get("PYRAMID_VIDEO_REFERENCE") or Path(__file__).parents[1] / "reference")
NETWORKS = {
    "flux": (MiniFluxConfig, MiniFluxTransformer),
    "mmdit": (MMDiTConfig, MMDiTTransformer),
    "vae": (CausalVAEConfig, CausalVideoVAE),
}
MANIFESTS = {
    "miniflux": (MiniFluxConfig, MiniFluxTransformer),
    "sd3_mmdit": (MMDiTConfig, MMDiTTransformer),
    "causal_video_vae": (CausalVAEConfig, CausalVideoVAE),
}


class Case:
    """One JSON with its tensors, which knows what of its results is still unchecked."""

    def __init__(self, path: Path) -> None:
        self.facts = json.loads(path.read_text(encoding="utf-8"))
        self.folder = path.parent
        tensors = path.with_suffix(".safetensors")
        self.tensors = read_tensors(tensors) if tensors.exists() else {}
        self.unchecked = {key for key in self.tensors if key.startswith(("out.", "grad."))}

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def entry(self, key: str) -> dict:
        """What the JSON says of the tensor `key`."""
        return self.facts["tensors"][key]

    def check(self, ours: Tensor, key: str) -> None:
        """Compare with the tensor `key`, within the tolerance that the case states for it."""
        atol = self.entry(key)["suggested_atol"]
        torch.testing.assert_close(ours.float(), self[key], rtol=0, atol=atol, msg=lambda text: f"{key}: {text}")
        self.unchecked.discard(key)

    def network(self) -> nn.Module:
        """The model of the case, with its weights."""
        weights = self.folder / self.facts["weights_file"]
        return build_network(Case(weights.with_suffix(".json")))


def build_network(weights: Case) -> nn.Module:
    """The model that a weights file describes."""
    config, network = NETWORKS[weights.facts["model"]]
    model = network(config.from_dict(weights.facts["config"]))
    model.load_state_dict({key.removeprefix("weights."): value for key, value in weights.tensors.items()})
    return model.eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, cloned: unaligned memory alone moves results by 1e-6."""
    return {key: value.clone() for key, value in load_file(path).items()}


def latent_format(factors: dict[str, float]) -> LatentFormat:
    """The latent format of a case; image-to-video cases state the numbers of the first frame only."""
    first = factors["vae_shift_factor"], factors["vae_scale_factor"]
    shift, scale = factors.get("vae_video_shift_factor", first[0]), factors.get("vae_video_scale_factor", first[1])
    return LatentFormat("case", shift=shift, scale=scale, first_shift=first[0], first_scale=first[1])
