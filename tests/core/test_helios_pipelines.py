"""Whole Helios generations: diffusers' pipelines are the judge of every rule of ours, and each rule, broken, shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pyramid_video.models import skip_init
from pyramid_video.models.helios import HeliosConfig, HeliosTransformer
from pyramid_video.samplers import helios_history, pyramid
from pyramid_video.samplers.guidance import PyramidGuidance
from pyramid_video.samplers.helios_history import HELIOS_UNITS, HeliosHistory
from pyramid_video.samplers.noise import row_generators
from pyramid_video.samplers.presets import PRESETS, helios_stages_of
from pyramid_video.samplers.pyramid import sample_pyramid
from pyramid_video.samplers.sigma_schedule import TokenShift
from torch import Tensor

diffusers = pytest.importorskip("diffusers")

SMALL = dict(num_attention_heads=2, attention_head_dim=16, rope_dim=(8, 4, 4), text_dim=24, ffn_dim=48, num_layers=2)
ROWS, COLUMNS = 16, 8  # latent pixels: at the coarsest of three stages 2 x 1 tokens
NOISE_OF_STARTS = (0.111, 0.135)
VARIANTS = {  # steps of the first chunk and of later ones, and what diffusers is told
    "base": dict(
        ladder=helios_stages_of(1, 6, 6, "unipc"),
        scheduler=dict(stages=1, use_dynamic_shifting=True),
        arguments=dict(num_inference_steps=6, guidance_scale=5.0),
    ),
    "mid": dict(
        ladder=helios_stages_of(3, (4, 3, 2), (4, 3, 2), "unipc"),
        scheduler=dict(use_dynamic_shifting=True),
        pipeline=dict(is_cfg_zero_star=True),
        arguments=dict(pyramid_num_inference_steps_list=[4, 3, 2], guidance_scale=5.0, zero_steps=1),
    ),
    "distilled": dict(
        ladder=helios_stages_of(3, 4, 2, "dmd"),
        scheduler=dict(use_dynamic_shifting=True, time_shift_type="linear"),
        pipeline=dict(is_distilled=True),
        arguments=dict(pyramid_num_inference_steps_list=[2, 2, 2], guidance_scale=1.0, is_amplify_first_chunk=True),
    ),
}


def fill_with_noise(network: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name and "weight" in name else 0.2 * noise)


@pytest.fixture(scope="module")
def networks():
    """Diffusers' transformer and ours with the same random weights, and a VAE for diffusers' pipeline."""
    theirs = diffusers.HeliosTransformer3DModel(**SMALL).eval()
    fill_with_noise(theirs)
    # The pipeline of Mid takes a `view` of the answers, which their layout does not allow at every size.
    theirs.register_forward_hook(lambda module, given, answers: tuple(answer.contiguous() for answer in answers))
    ours = HeliosTransformer(HeliosConfig(**SMALL), ops=skip_init).eval()
    ours.load_state_dict(theirs.state_dict())
    vae = diffusers.AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval()
    return theirs, ours, vae


def texts(rows: int) -> tuple[Tensor, Tensor]:
    return torch.randn(2, rows, 5, SMALL["text_dim"], generator=torch.Generator().manual_seed(1)).unbind()


def start_of(task: str) -> dict[str, Tensor]:
    """Normalised latents of what a clip begins with: its first frame, and the frames before it."""
    frames = {"text": 0, "image": 1, "video": 9, "long video": 27}[task]
    if not frames:
        return {}
    generator = torch.Generator().manual_seed(2)
    first, recent = (torch.randn(1, 16, n, ROWS, COLUMNS, generator=generator) for n in (1, frames))
    return {"first": first, "recent": recent}


def ours_and_theirs(networks, variant: str, task: str, chunks: int, rows: int = 1, **changed) -> tuple[Tensor, Tensor]:
    """The latents that we and diffusers make from the same noise, texts and start."""
    theirs, ours, vae = networks
    about = VARIANTS[variant]
    noise = torch.randn(rows, 16, 9 * chunks, ROWS, COLUMNS, generator=torch.Generator().manual_seed(3))
    positive, negative = texts(rows)
    drawn: dict[tuple[int, int], Tensor] = {}
    ladder, guidance = changed.get("ladder", about["ladder"]), changed.get("guidance", PRESETS[variant].guidance)
    history = changed.get("history", HeliosHistory)(**start_of(task), noise=(0.0, 0.0))

    def velocity(x: Tensor, call) -> Tensor:
        if guidance.enabled and guidance.is_zero_init(call.stage, call.step):
            return torch.zeros_like(x)
        timestep = torch.full((rows,), call.timestep)
        answers = [ours(x, timestep, text, call.history) for text in (negative, positive)]
        return guidance.combine(*answers, call.unit, call.stage) if guidance.enabled else answers[1]

    def renoise(unit: int, stage: int, like: Tensor) -> Tensor:
        drawn[unit, stage] = torch.randn(like.shape, generator=torch.Generator().manual_seed(100 * unit + stage))
        return drawn[unit, stage]

    made = sample_pyramid(
        velocity,
        noise,
        ladder,
        generators=row_generators(0, rows),
        history=history,
        units=HELIOS_UNITS,
        renoise=renoise,
    )

    scheduler = {"distilled": diffusers.HeliosDMDScheduler}.get(variant, diffusers.HeliosScheduler)
    kind = diffusers.HeliosPipeline if variant == "base" else diffusers.HeliosPyramidPipeline
    pipeline = kind(None, None, vae, scheduler(**about["scheduler"]), theirs, **about.get("pipeline", {}))
    pipeline.set_progress_bar_config(disable=True)
    chunk_noise = iter(noise.split(9, dim=2))
    jump_noise = iter(drawn[key] for key in sorted(drawn))
    pipeline.prepare_latents = lambda *_, **__: next(chunk_noise)
    pipeline.sample_block_noise = lambda *_, **__: next(jump_noise)
    start = start_of(task)
    if task == "image":
        begin = dict(image_latents=start["first"], fake_image_latents=start["recent"], add_noise_to_image_latents=False)
    elif start:
        begin = dict(image_latents=start["first"], video_latents=start["recent"])
        begin |= dict(add_noise_to_image_latents=False, add_noise_to_video_latents=False)
    else:
        begin = {}
    if rows > 1:
        begin = {
            name: value.expand(rows, -1, -1, -1, -1) if isinstance(value, Tensor) else value
            for name, value in begin.items()
        }
    result = pipeline(
        prompt_embeds=positive,
        negative_prompt_embeds=negative,
        height=8 * ROWS,
        width=8 * COLUMNS,
        num_frames=33 * chunks,
        output_type="latent",
        **begin,
        **about["arguments"],
    ).frames
    return made, result[:, :, -9 * chunks :]  # diffusers hands back the start too


def test_the_recipes_are_the_released_numbers():
    base, mid, distilled = (PRESETS[name] for name in ("base", "mid", "distilled"))
    assert [len(preset.stages) for preset in (base, mid, distilled)] == [1, 3, 3]
    assert base.stages.video_steps == (50,) and mid.stages.video_steps == (20, 20, 20)
    assert (distilled.stages.first_steps, distilled.stages.video_steps) == ((4, 4, 4), (2, 2, 2))
    assert (base.guidance, distilled.guidance.enabled) == (PyramidGuidance(5.0, 5.0), False)
    assert mid.guidance == PyramidGuidance(5.0, 5.0, zero_star=True, zero_steps=2)
    assert distilled.history.noise == NOISE_OF_STARTS


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", ["text", "image", "video", "long video"])
@torch.no_grad()
def test_whole_generations_are_those_of_diffusers(networks, variant, task):
    made, wanted = ours_and_theirs(networks, variant, task, chunks=3)
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_batch_is_that_of_diffusers(networks):
    made, wanted = ours_and_theirs(networks, "mid", "text", chunks=2, rows=2)
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4)


class LateHistory(HeliosHistory):
    """A memory whose every frame is taken for one a step later."""

    def begin(self, *arguments):
        recall = super().begin(*arguments)
        return lambda done: lambda stage: shifted(recall(done)(stage))


def shifted(memory):
    frames = tuple(frame + 1 for frame in memory.short.frames)
    return replace(memory, short=replace(memory.short, frames=frames))


class FrozenFirst(HeliosHistory):
    """A memory that never learns the first frame of a clip."""

    def begin(self, like, *rest):
        nothing = torch.zeros_like(like[:, :, :1])
        history = HeliosHistory(self.first if self.first is not None else nothing, self.recent or nothing, (0.0, 0.0))
        return history.begin(like, *rest)


def ladder(variant: str, **changed):
    return {"ladder": replace(VARIANTS[variant]["ladder"], **changed)}


def table(variant: str, **changed):
    return ladder(variant, sigma_schedule=replace(VARIANTS[variant]["ladder"].sigma_schedule, **changed))


BROKEN = {  # the rule that is broken: variant, what is changed
    "shift of another kind": ("mid", table("mid", shift=TokenShift("linear"))),
    "no shift": ("mid", table("mid", shift=None)),
    "exponential for distilled": ("distilled", table("distilled", shift=TokenShift())),
    "stages from 1": ("mid", table("mid", sigma_max=1.0)),
    "timesteps not cut": ("mid", table("mid", integer_timesteps=False)),
    "Euler for UniPC": ("mid", ladder("mid", solver="euler")),
    "UniPC for DMD": ("distilled", ladder("distilled", solver="unipc")),
    "first chunk not amplified": ("distilled", ladder("distilled", first_steps=(2, 2, 2))),
    "one step less at rest": ("mid", {"guidance": PyramidGuidance(5.0, 5.0, zero_star=True, zero_steps=1)}),
    "plain guidance": ("mid", {"guidance": PyramidGuidance(5.0, 5.0)}),
    "memory a frame late": ("base", {"history": LateHistory}),
    "first frame not kept": ("base", {"history": FrozenFirst}),
}


@pytest.mark.parametrize("rule", BROKEN)
@torch.no_grad()
def test_a_broken_rule_shows(networks, rule):
    """Each differs from diffusers by far more than the tolerance above."""
    variant, changed = BROKEN[rule]
    made, wanted = ours_and_theirs(networks, variant, "text", chunks=2, **changed)
    assert (made - wanted).abs().max() > 3e-3


@torch.no_grad()
def test_tokens_counted_a_stage_late_show(networks, monkeypatch):
    """The released code counts them before it doubles the picture."""
    monkeypatch.setattr(pyramid, "shift_tokens", lambda x, stage: x[0, 0].numel() // 4)
    made, wanted = ours_and_theirs(networks, "mid", "text", chunks=1)
    assert (made - wanted).abs().max() > 3e-3


@pytest.mark.parametrize("levels", [(15, 3, 1), (16, 1, 2)])
@torch.no_grad()
def test_history_levels_of_other_sizes_show(networks, levels, monkeypatch):
    monkeypatch.setattr(helios_history, "HISTORY_SIZES", levels)
    made, wanted = ours_and_theirs(networks, "base", "text", chunks=3)
    assert (made - wanted).abs().max() > 3e-3
