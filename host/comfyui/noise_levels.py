"""Whether a MODEL still has the noise levels that it was trained with: blocks between may have given it others.

Core's ModelSampling blocks put the arithmetic of another kind of model into a MODEL. With it our networks are
called at wrong timesteps, and make noise without an error.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...models.model_info import ModelInfo

INSTEAD = {
    "pyramid": "the noise levels of a pyramid come from 'Pyramid stages', which has a 'shift' of its own",
    "gan": "a GAN makes its clip in one pass and has no noise levels",
    "flow": "'Sample flow' has a 'shift' of its own",
    "diffusion": "a diffusion model keeps the levels that it was trained with",
}


def check_noise_levels(patcher: Any) -> None:
    """Raise ValueError where a block has given the MODEL `patcher` noise levels that it does not know.

    A flow may have another shift, as ModelSamplingSD3 gives it.
    """
    patched = patcher.object_patches.get("model_sampling")
    if patched is None:
        return
    info: ModelInfo = patcher.model.info
    if info.family.rules.any_sampler and is_alike(patcher.model.trained_sampling[0], patched):
        return
    kind = next(each.__name__ for each in type(patched).__mro__ if each.__module__ != type(patched).__module__)
    raise ValueError(
        f"a ModelSampling block ({kind}) gives {info.name}, which is a {info.family}, the noise levels of another "
        f"kind of model: take that block away; {INSTEAD[info.family.name]}"
    )


def is_alike(trained: Any, patched: Any) -> bool:
    """Whether the network is called alike at the same noise, and its output read alike."""
    levels = trained.sigmas[[0, len(trained.sigmas) // 2, -1]]
    try:
        pairs = [(probe(trained, level), probe(patched, level)) for level in levels]
    except Exception:  # arithmetic of another kind may not even take these levels
        return False
    return all(torch.allclose(one, other, rtol=1e-3, atol=1e-3) for one, other in pairs)


def probe(sampling: Any, level: Tensor) -> Tensor:
    """What a `model_sampling` of the host makes of one noise level and of three made-up values."""
    sigma = level.reshape(1).to(sampling.sigmas)
    x, output = sigma.new_tensor([[-1.0, 0.5, 2.0]]), sigma.new_tensor([[0.3, -0.7, 1.1]])
    given, clean = sampling.calculate_input(sigma, x), sampling.calculate_denoised(sigma, output, x)
    return torch.cat([sampling.timestep(sigma).reshape(1, 1), given, clean], dim=1).float().cpu()
