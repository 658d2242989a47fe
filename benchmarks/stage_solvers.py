"""How near the solvers of a stage come to the exact way through the stages, at the same number of steps.

    python benchmarks/stage_solvers.py

With the small model; the exact way is taken to be Euler's in 160 steps a stage. Prints the root mean square distance of
the finished latents, over three prompts and two seeds. Solvers of distilled models follow no flow and are left out.
"""

from __future__ import annotations

import argparse

import _package  # noqa: F401  (makes the checkout importable)
import torch
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.samplers.guidance import PyramidGuidance
from pyramid_video.samplers.names import DISTILLED_SOLVERS, STAGE_SOLVER_NAMES
from pyramid_video.samplers.stages import make_stages

PROMPTS = (
    "a tiger moving left on a blue background",
    "a penguin going up on a red background",
    "a whale standing still on a green background",
)
SOLVERS = [name for name in STAGE_SOLVER_NAMES if name not in DISTILLED_SOLVERS]
WIDTH = max(7, *map(len, SOLVERS))
SEEDS, EXACT_STEPS, GUIDANCE = (0, 1), 160, PyramidGuidance(4.0, 3.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20], help="steps per stage (default: 5 10 20)")
    given = parser.parse_args()
    host = StandaloneHost(silent=True)
    model = host.load_model(host.find_model("diffusion_models", "pyramid_video_small.safetensors"))
    text = host.load_text_encoder(host.find_model("text_encoders", "pyramid_video_small_text.safetensors"))
    empty = {"samples": torch.zeros(1, model.info.latent_channels, 5, 16, 16)}
    nothing = host.encode_prompt(text, "")
    guiders = [host.make_guider(model, host.encode_prompt(text, prompt), nothing, GUIDANCE) for prompt in PROMPTS]

    def make(guider, steps: int, solver: str, seed: int) -> torch.Tensor:
        stages = make_stages(first_steps=steps, video_steps=steps, solver=solver)
        return host.sample(guider, host.make_sampler(stages, None), empty, seed)["samples"]

    exact = [(guider, seed, make(guider, EXACT_STEPS, "euler", seed)) for guider in guiders for seed in SEEDS]
    print("steps   " + "  ".join(f"{solver:>{WIDTH}}" for solver in SOLVERS))
    for steps in given.steps:
        errors = []
        for solver in SOLVERS:
            gaps = [make(guider, steps, solver, seed) - clip for guider, seed, clip in exact]
            errors.append(torch.stack(gaps).square().mean().sqrt().item())
        print(f"{steps:5}   " + "  ".join(f"{error:{WIDTH}.3f}" for error in errors))


if __name__ == "__main__":
    main()
