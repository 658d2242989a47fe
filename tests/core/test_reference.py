"""Every reference case of a folder, driven by its JSON alone: the numbers that the official Pyramid Flow code gives.

The folder is `tests/reference`, or the one named by PYRAMID_VIDEO_REFERENCE, whose cases may have other sizes, configs
and seeds.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pyramid_video.samplers.guidance import PyramidGuidance, apply_cfg
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.noise import block_noise, pyramid, row_generators
from pyramid_video.samplers.pyramid import sample_pyramid
from pyramid_video.samplers.solvers import euler_step
from pyramid_video.samplers.stages import make_stages
from pyramid_video.samplers.units import Units
from pyramid_video.training.objectives.pyramid import balanced_units, pyramid_batch, pyramid_loss
from reference_case import MANIFESTS, REFERENCE, Case, build_network, latent_format
from torch import Tensor


def check_transformer(case: Case) -> None:
    network = case.network()
    for call in case.facts["calls"]:
        with torch.no_grad():
            velocity = network(
                [case[key] for key in call["clips"]],
                case[call["timestep"]],
                case[call["prompt_embeds"]],
                case[call["prompt_mask"]],
                case[call["pooled"]],
            )
        case.check(velocity, call["velocity"])


def check_packed_training(case: Case) -> None:
    network, facts = case.network(), case.facts
    columns, rows = facts["columns"], facts["rows"]
    errors = []
    for index, column in enumerate(columns):
        mine = slice(index, None, len(columns))  # rows are sample-major
        velocity = network(
            [case[key] for key in column["clips"]],
            *(case[rows[name]][mine] for name in ("timestep", "prompt_embeds", "prompt_mask", "pooled")),
        )
        case.check(velocity.detach(), column["velocity"])
        errors.append((velocity.float() - case[column["target"]]).square().flatten(1).mean(1))
    loss = torch.cat(errors).mean()
    case.check(loss.detach().reshape(case[facts["loss"]].shape), facts["loss"])
    loss.backward()
    parameters = dict(network.named_parameters())
    for name, key in facts["gradients"].items():
        case.check(parameters[name].grad, key)
    for name, norm in facts["gradient_norms"].items():
        grad = parameters[name].grad
        ours = 0.0 if grad is None else grad.norm().item()
        assert ours == pytest.approx(norm, rel=facts["gradient_norms_rtol"], abs=facts["gradient_norms_atol"]), name


@torch.no_grad()
def check_vae(case: Case) -> None:
    vae = case.network()
    for call in case.facts["calls"]:
        x, chunk, tile = case[call["input"]], call["window"], call["tile"]
        if call["op"] == "encode":
            posterior = vae.encode(x, chunk=chunk, tile=tile)
            case.check(posterior.mean, call["mean"])
            case.check(posterior.logvar, call["logvar"])
        elif call["op"] == "decode":
            case.check(vae.decode(x, chunk=chunk, tile=tile), call["output"])
        elif call["op"] == "decode_to_frames":
            video = vae.decode(latent_format(case.facts["factors"]).denormalize(x), chunk=chunk, tile=tile)
            check_frames(case, video, call["output"])
        else:
            pytest.fail(f"unknown VAE call {call['op']!r}")


def check_frames(case: Case, video: Tensor, key: str) -> None:
    """8-bit frames differ by at most the tolerance, and in few places."""
    ours = (127.5 * video + 127.5).clamp(0, 255).to(torch.uint8)  # (b, 3, t, h, w); cut, not rounded
    ours = ours.permute(0, 2, 3, 4, 1).flatten(0, 1)
    difference = (ours.int() - case[key].int()).abs()
    entry = case.entry(key)
    assert difference.max() <= entry["suggested_atol"]
    assert (difference > 0).float().mean() <= entry["max_fraction_different"]
    case.unchecked.discard(key)


def check_generation(case: Case) -> None:
    facts, network = case.facts, case.network()
    arguments, image_to_video = facts["arguments"], facts["task"] == "i2v"
    first_steps = arguments["num_inference_steps"]
    stages = make_stages(
        arguments["stages"],
        arguments["shift"],
        arguments["gamma"],
        first_steps=first_steps,
        video_steps=first_steps if image_to_video else arguments["video_num_inference_steps"],
    )
    guidance = PyramidGuidance(
        arguments["guidance_scale"],
        arguments["video_guidance_scale"],
        arguments.get("use_linear_guidance", False),
        arguments.get("alpha", 0.5),
        arguments.get("min_guidance_scale", 2.0),
    )
    rows = ("negative", "positive") if guidance.enabled else ("positive",)
    text, mask, pooled = (
        torch.cat([case[f"in.{row}.{name}"] for row in rows]) for name in ("prompt_embeds", "prompt_mask", "pooled")
    )
    asked, starts, ends = [], {}, {}
    block_noises = {(entry["unit"], entry["stage"]): case[entry["key"]] for entry in facts["block_noise"]}
    block_noise_order = []

    def velocity(x, call):
        starts.setdefault((call.unit, call.stage), x)
        clips = [clip.repeat(len(rows), 1, 1, 1, 1) for clip in (*call.history, x)]
        timestep = torch.full((len(clips[-1]),), call.timestep)
        asked.append({"unit": call.unit, "timestep": timestep, "clip_shapes": [list(clip.shape) for clip in clips]})
        answer = network(
            clips, timestep, *(t.repeat_interleave(len(timestep) // len(t), 0) for t in (text, mask, pooled))
        )
        return apply_cfg(*answer.chunk(2), guidance.scale(call.unit)) if guidance.enabled else answer

    def renoise(unit, stage, doubled):
        ends[unit, stage - 1] = doubled[..., ::2, ::2]
        block_noise_order.append((unit, stage))
        return block_noises[unit, stage]

    start = latent_format(facts["factors"]).normalize(case["in.image_latent_raw"]) if image_to_video else None
    final = sample_pyramid(
        velocity,
        case["in.initial_noise"],
        stages,
        history=PyramidHistory(start=start),
        units=Units(1, arguments["frame_per_unit"]),
        renoise=renoise,
    )

    last = len(stages) - 1
    assert block_noise_order == list(block_noises)
    for entry in facts["stage_outputs"]:
        unit, stage = entry["unit"], entry["stage"]
        case.check(starts[unit, stage], entry["start"])
        if stage < last:
            case.check(ends[unit, stage], entry["end"])
        else:
            per_unit = arguments["frame_per_unit"]
            frames = slice(0, 1) if unit == 0 else slice(1 + (unit - 1) * per_unit, 1 + unit * per_unit)
            case.check(final[:, :, frames], entry["end"])
    case.check(final, facts["final"])
    for ours, theirs in zip(asked, facts["dit_calls"], strict=True):
        assert (ours["unit"], ours["clip_shapes"]) == (theirs["unit"], theirs["clip_shapes_bcthw"])
        assert ours["timestep"].tolist() == pytest.approx(theirs["timestep"], abs=facts["dit_calls_timestep_atol"])


def check_latents(case: Case) -> None:
    normalise = latent_format(case.facts["factors"]).normalize
    for entry in case.facts["sets"]:
        levels = pyramid(normalise(case[entry["raw"]]), len(entry["levels"]))
        for level, key in zip(levels, entry["levels"], strict=True):
            case.check(level, key)


class Recorded:
    """Random numbers read from the case, in order."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.left = tensors

    def normal(self, shape) -> Tensor:
        drawn = self.left.pop(0)
        assert drawn.shape == tuple(shape)
        return drawn

    def uniform(self, count: int) -> Tensor:
        return self.normal((count,))


def official_units(call, max_units, group, rank, clip_units, stages) -> list[int]:
    """Units per stage in training call 1, 2, ... of process `rank`, as the released code takes turns.

    Inside a `group` of processes every unit number occurs once in `max_units // group` calls.
    """
    finest = rank % group + 1 + call % (max_units // group) * group
    return list(balanced_units(finest, max_units, clip_units, stages))


def check_training_inputs(case: Case) -> None:
    facts, arguments, latent = case.facts, case.facts["arguments"], case["in.latent"]
    stages = make_stages(len(arguments["ratios"]), arguments["shift"], arguments["gamma"])
    assert arguments.get("frame_per_unit", 1) == 1
    for call in facts["train_calls"]:
        units = call["units_per_stage"]
        assert (units is None) == (facts["mode"] == "full_sequence")
        if units is not None:
            group = arguments["mtl"], arguments["vsg"], arguments["rank"]
            assert official_units(call["number"], *group, latent.shape[2], len(stages)) == units
        draw = Recorded([case[key] for key in call["draws"]])
        noise = arguments.get("corrupt_ratio", 0.0)
        columns = pyramid_batch(latent, stages, arguments["ratios"], units, draw, noise)
        assert not draw.left
        for ours, theirs in zip(columns, call["columns"], strict=True):
            assert ours.stage == theirs["stage"]
            assert list(range(len(latent)))[ours.samples] == theirs["samples"]
            for clip, key in zip(ours.clips, theirs["clips"], strict=True):
                case.check(clip, key)
            case.check(ours.sigma, theirs["ratio"])
            case.check(ours.timestep, theirs["timestep"])
            case.check(ours.target, theirs["target"])
        if "loss" in call:
            loss = pyramid_loss([case[key] for key in call["predictions"]], columns)
            case.check(loss.reshape(case[call["loss"]].shape), call["loss"])


def check_scheduler(case: Case) -> None:
    facts = case.facts
    timesteps_near = dict(rel=0, abs=facts["timestep_atol"])
    sigmas_near = dict(rel=0, abs=facts["sigma_atol"])
    for entry in facts["entries"]:
        stages = make_stages(entry["stages"], entry["shift"], entry["gamma"], entry["stage_range"])
        for index, stage in enumerate(stages.stages):
            key = str(index)
            before = stages.stages[index - 1].sigma_end if index else 1.0
            assert stage.sigma_start == pytest.approx(entry["start_sigmas"][key], **sigmas_near)
            assert stage.sigma_end == pytest.approx(entry["end_sigmas"][key], **sigmas_near)
            assert before == pytest.approx(entry["ori_start_sigmas"][key], **sigmas_near)
            for row, values in entry["training_table"][key]["at_index"].items():
                row = torch.tensor([int(row)])
                assert stages.training_timestep(index, row).item() == pytest.approx(
                    values["timestep"], **timesteps_near
                )
                assert stages.training_sigma(index, row).item() == pytest.approx(values["sigma"], **sigmas_near)
        for steps, tables in entry["inference"].items():
            for key, table in tables.items():
                ours = stages.timesteps(int(key), int(steps)), stages.sigmas(int(key), int(steps))
                assert ours[0] == pytest.approx(table["timesteps"], **timesteps_near)
                assert ours[1] == pytest.approx(table["sigmas"], **sigmas_near)
    check_euler_walk(facts["euler_walk"])


def check_euler_walk(walk: dict) -> None:
    sigmas = make_stages(walk["stages"], walk["shift"]).sigmas(walk["stage"], walk["steps"])
    x, velocity = torch.tensor(walk["start"]), torch.tensor(walk["velocity"])
    values = [x.item()]
    for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
        x = euler_step(x, velocity, sigma, sigma_next)
        values.append(x.item())
    assert values == pytest.approx(walk["values"], rel=0, abs=walk["atol"])


def check_block_noise(case: Case) -> None:
    facts = case.facts
    for entry in facts["entries"]:
        stages = make_stages(entry["stages"], entry["shift"], entry["gamma"])
        stage = stages.stages[entry["stage"]]
        q = stages.stages[entry["stage"] - 1].sigma_end
        ours = (*stages.jump(entry["stage"]), q, stage.sigma_start)
        theirs = [entry[key] for key in ("alpha", "beta", "ori_start_sigma", "start_sigma")]
        assert ours == pytest.approx(theirs, rel=0, abs=facts["atol"])
    for entry in facts["block_noise"]:
        blocks = max(entry["blocks"], 10_000)
        noise = block_noise(torch.empty(1, blocks, 2, 2), entry["gamma"], row_generators(0, 1)).flatten(2)[0]
        expected = torch.tensor(entry["expected_covariance"])
        torch.testing.assert_close(noise.T.cov(), expected, rtol=0, atol=facts["covariance_atol"])
        if entry["gamma"] == pytest.approx(1 / 3):
            assert noise.sum(1).abs().max() <= facts["block_sum_atol_at_gamma_one_third"]


def check_stage_lengths(case: Case) -> None:
    for entry in case.facts["table"]:
        longest, group, rank = entry["max_temporal_length"], entry["video_sync_group"], entry["rank"]
        cap = entry["max_units"] or longest
        table = next(rows for name, rows in entry.items() if name.startswith("low_mid_high_units"))
        for call, units in enumerate(table, 1):
            assert official_units(call, longest, group, rank, cap, len(units)) == units


def check_weights(case: Case) -> None:
    model = build_network(case)
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == case.facts["keys"]
    assert sum(p.numel() for p in model.parameters()) == case.facts["parameters"]


def check_manifest(case: Case) -> None:
    """Keys and shapes of the full-size model, built without memory."""
    config, network = MANIFESTS[case.facts["model"]]
    model = network(config.from_dict(case.facts["config_on_disk"]), device="meta")
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == case.facts["keys"]
    assert len(model.state_dict()) == case.facts["number_of_keys"]
    assert sum(p.numel() for p in model.parameters()) == case.facts["parameters"]


CHECKS = {
    "transformer": check_transformer,
    "transformer_packed": check_packed_training,
    "vae": check_vae,
    "generate": check_generation,
    "train_latents": check_latents,
    "train_inputs": check_training_inputs,
    "scheduler": check_scheduler,
    "block_noise": check_block_noise,
    "stage_lengths": check_stage_lengths,
    "weights": check_weights,
}


def case_files() -> list[Path]:
    return sorted(REFERENCE.glob("*.json"))


def test_there_are_cases():
    assert case_files(), f"no reference case in {REFERENCE}"


@pytest.mark.parametrize("path", case_files(), ids=lambda path: path.stem)
def test_case(path: Path):
    case = Case(path)
    # manifests are the only files without a kind
    check = CHECKS.get(case.facts["kind"]) if "kind" in case.facts else check_manifest
    assert check is not None, f"{path.name}: no check for the kind {case.facts['kind']!r}"
    check(case)
    assert not case.unchecked, f"{path.name}: results that nothing compared: {sorted(case.unchecked)}"
