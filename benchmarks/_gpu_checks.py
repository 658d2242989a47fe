"""Is a device right: the official code's numbers in three precisions, and clips that are those of the CPU."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import _package
import torch
from _small_models import SmallModels
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.models import attention_forms
from pyramid_video.models.quantising import is_large_matrix, quantised_weight
from torch import Tensor, nn

sys.path.append(str(_package.ROOT / "tests" / "core"))
from reference_case import REFERENCE, Case  # noqa: E402

# Relative errors allowed: three times and more what a CPU shows, and sums in another order for float32.
ALLOWED = {
    ("transformer", "fp32"): 1e-4,
    ("transformer", "bf16"): 0.03,
    ("transformer", "fp8"): 0.13,
    ("vae", "fp32"): 1e-4,
    ("vae", "bf16"): 0.15,
}
CLIP_DB = 45.0  # of the same seed on the CPU


@dataclass(frozen=True)
class Check:
    """What was compared; `measured` is a relative error or, where `allowed` is in dB, a PSNR."""

    name: str
    measured: float
    allowed: float
    right: bool


def checks(device: torch.device, steps: int) -> Iterator[Check]:
    """All of them; `steps` of the samplers of the small models."""
    with float32_in_full():
        yield from reference_checks(device)
    yield from clip_checks(device, steps)  # as people run them


@contextmanager
def float32_in_full() -> Iterator[None]:
    """Products and convolutions of float32 without TF32, which torch's convolutions use by default."""
    settings = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [each.allow_tf32 for each in settings]
    try:
        for each in settings:
            each.allow_tf32 = False
        yield
    finally:
        for each, allowed in zip(settings, before, strict=True):
            each.allow_tf32 = allowed


def reference_checks(device: torch.device) -> Iterator[Check]:
    """The cases of transformers and VAEs in `tests/reference`, with tiny random weights."""
    for path in sorted(REFERENCE.glob("*.json")):
        case = Case(path)
        kind = case.facts.get("kind")
        for precision in [precision for of, precision in ALLOWED if of == kind and "factors" not in case.facts]:
            error = largest_error(case, in_precision(case.network(), precision, device), kind, device)
            yield Check(f"{path.stem} {precision}", error, ALLOWED[kind, precision], error <= ALLOWED[kind, precision])


def in_precision(network: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """The network on the device; fp8 is a scale a matrix of the blocks, computed in bf16."""
    if precision == "fp8":
        for key, parameter in network.named_parameters():
            if is_large_matrix(key, parameter):
                numbers, scale = quantised_weight(parameter.data, "fp8")
                parameter.data = numbers.float() * scale
    return network.to(device, torch.float32 if precision == "fp32" else torch.bfloat16)


@torch.no_grad()
def largest_error(case: Case, network: nn.Module, kind: str, device: torch.device) -> float:
    """Of all calls of a case, relative to what the official code answers."""
    dtype, errors = next(network.parameters()).dtype, []

    def placed(key: str) -> Tensor:
        tensor = case[key]
        return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)

    for call in case.facts["calls"]:
        if kind == "transformer":
            text = (placed(call["prompt_embeds"]), case[call["prompt_mask"]], placed(call["pooled"]))
            clips = [placed(key) for key in call["clips"]]
            answers = {"velocity": network(clips, case[call["timestep"]].to(device), *text)}
        elif call["op"] == "encode":
            answers = {"mean": network.encode(placed(call["input"]), chunk=call["window"], tile=call["tile"]).mean}
        else:
            answers = {"output": network.decode(placed(call["input"]), chunk=call["window"], tile=call["tile"])}
        for name, answer in answers.items():
            expected = case[call[name]]
            errors.append(float((answer.float().cpu() - expected).norm() / expected.norm()))
    return max(errors)


def clip_checks(device: torch.device, steps: int) -> Iterator[Check]:
    """The small models: every family with one seed here and on the CPU."""
    plain, here = small_clips(torch.device("cpu"), steps), small_clips(device, steps)
    for family, clip in here.items():
        yield alike(f"{family}: the clip of the CPU", clip, plain[family])


@torch.no_grad()
def small_clips(device: torch.device, steps: int) -> dict[str, Tensor]:
    """Pictures of the small models."""
    use_host(StandaloneHost(device=str(device), silent=True))
    try:
        small = SmallModels(None)
        return {
            "pyramid": small.pyramid(stages=small_stages(steps)),
            "flow": small.flow(steps=steps),
            "diffusion": small.ddim(steps=2 * steps),
            "gan": small.gan(),
        }
    finally:
        use_host(None)


def small_stages(steps: int):
    from pyramid_video.samplers.stages import make_stages

    return make_stages(first_steps=2 * steps, video_steps=steps)


def alike(name: str, clip: Tensor, other: Tensor) -> Check:
    error = float((clip.float() - other.float()).square().mean())
    psnr = min(120.0, -10 * math.log10(error)) if error else 120.0
    return Check(f"{name}, dB", round(psnr, 1), CLIP_DB, psnr >= CLIP_DB)


def attention_form(device: torch.device, dtype: torch.dtype, head: int) -> str:
    """How the transformer's attention is worked out on this device."""
    with torch.no_grad():
        return attention_forms.choose_form(
            nn.functional.scaled_dot_product_attention, device, dtype, head, grad=False, kept=False
        )
