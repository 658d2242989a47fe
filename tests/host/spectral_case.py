"""ComfyUI in this process, and one of its kinds of models with prompts, noise and a schedule to be checked with."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SEED, STEPS = 5, 5
VIDEOS_FROM_PICTURES = ("wan2.1 i2v", "wan2.2 i2v", "hunyuan1.5")


def open_comfyui(comfyui: Path, root: Path) -> SimpleNamespace:
    """ComfyUI on the CPU in this process, the pack, and the tiny models."""
    sys.path.insert(0, str(comfyui))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.sample
    import comfy.samplers
    import comfy.sd
    import comfy.utils
    import folder_paths  # noqa: F401 what the pack looks for
    import torch
    import utils.extra_config  # noqa: F401 as the server does, before it puts its inner folder on the path

    spec = importlib.util.spec_from_file_location(
        "pyramid_video", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    package = sys.modules["pyramid_video"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    import spectral_models as models
    import wan_guides
    from pyramid_video.host.comfyui.spectral import SpectralSampler
    from pyramid_video.samplers.spectral_stages import SpectralStages

    models.KINDS |= {name: each.kind for name, each in wan_guides.GUIDED.items()}
    ours = {"Sampler": SpectralSampler, "Stages": SpectralStages, "guides": wan_guides.GUIDED}
    return SimpleNamespace(torch=torch, comfy=comfy, models=models, **ours)


class Case:
    """One kind of model with its prompts, noise and schedule."""

    def __init__(self, inside: SimpleNamespace, kind: str) -> None:
        self.inside, self.kind, self.torch = inside, kind, inside.torch
        self.model = inside.models.make_model(kind)
        extras = {}
        if kind in VIDEOS_FROM_PICTURES:
            channels, frames = inside.models.KINDS[kind].latent
            mask = self.torch.ones(1, 1, frames, 12, 16)
            mask[:, :, 0] = 0
            extras = {"concat_latent_image": inside.models.noise(1, channels, frames, 12, 16, seed=9)}
            extras |= {"concat_mask": mask}
        self.extras = extras
        self.positive = inside.models.prompt(kind, 2, **extras)
        self.negative = inside.models.prompt(kind, 3, **extras)
        sampling = self.model.get_model_object("model_sampling")
        self.sigmas = inside.comfy.samplers.calculate_sigmas(sampling, "simple", STEPS)
        self.middle = self.share(2)  # two steps are walked before

    def share(self, step: int) -> float:
        """The share of noise where a step begins; a little more, because floats are rounded."""
        sigma = float(self.sigmas[step])
        return 1e-6 + (sigma if float(self.sigmas[0]) < 1.5 else sigma / (1 + sigma))

    def core(self, name: str = "euler"):
        return self.inside.comfy.samplers.sampler_object(name)

    def pyramid(self, *levels: float, scales=None, inner=None):
        scales = scales or ((0.5, 1.0) if len(levels) == 1 else (0.25, 0.5, 1.0))
        return self.inside.Sampler(self.inside.Stages(scales=scales, levels=levels), inner or self.core())

    def guider(self, model=None):
        guider = self.inside.comfy.samplers.CFGGuider(model or self.model)
        guider.set_conds(self.positive, self.negative)
        guider.set_cfg(2.0)
        return guider

    def sample(self, sampler, latent=None, noise=None, sigmas=None, guider=None, **rest) -> Any:
        latent = self.inside.models.empty(self.kind) if latent is None else latent
        if noise is None:
            noise = self.inside.comfy.sample.prepare_noise(latent, SEED)
        sigmas = (self.sigmas if sigmas is None else sigmas).clone()  # UniPC writes into it
        guider = guider or self.guider()
        return guider.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=SEED, **rest)

    def streams(self, latent) -> list:
        return list(latent.unbind()) if getattr(latent, "is_nested", False) else [latent]

    def same(self, one, other, tolerance: float = 1e-4) -> None:
        for a, b in zip(self.streams(one), self.streams(other), strict=True):
            self.torch.testing.assert_close(a, b, rtol=0, atol=tolerance * float(b.std()) + 1e-12)

    def seen(self, work: Callable[[], Any]) -> list[dict[str, Any]]:
        """What the network is shown in every forward while `work` runs."""
        calls = []

        def keep(module, args, kwargs):
            shown = {f"input {number}": value for number, value in enumerate(args)} | kwargs
            calls.append({key: copied(value) for key, value in shown.items() if key != "transformer_options"})

        handle = self.model.model.diffusion_model.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            work()
        finally:
            handle.remove()
        return calls


def copied(value: Any) -> Any:
    """Tensors of a value, as they are now."""
    if isinstance(value, list | tuple):
        return [copied(each) for each in value]
    return value.clone() if hasattr(value, "clone") else value


def compare(case, made: Any, wanted: Any, name: str) -> None:
    if isinstance(wanted, list):
        assert len(made) == len(wanted), name
        for one, other in zip(made, wanted, strict=True):
            compare(case, one, other, name)
    elif isinstance(wanted, case.torch.Tensor):
        case.torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4, msg=lambda text: f"{name}: {text}")
