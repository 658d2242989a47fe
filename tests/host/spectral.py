"""What the pyramid for any model promises, asked of tiny models of ComfyUI's own classes without a server.

Run by `test_spectral_host.py` with ComfyUI's Python: `spectral.py COMFYUI ROOT BASE`; prints one JSON object
{check: error or null}.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from spectral_case import SEED, STEPS, Case, compare, open_comfyui
from spectral_guiders import GUIDERS
from spectral_guides import GUIDED, GUIDES, check_what_guides_wan_has_the_size_of_its_stage
from spectral_memory import MEMORY
from spectral_patches import PATCHES

WITH_SOUND = ("ltx2", "ltx2.3", "ltx2.5", "minimax h3")
KEEP_MASKED = ("wan2.1 t2v", "wan2.2 5B", "ltx", "flux", "sd3", "sdxl", "qwen-image", "cosmos predict2 video")
ONE = ("wan2.1 t2v",)
DRAFTED = ("wan2.1 i2v", "ltx2", "minimax h3", "sdxl", "qwen-image")
PATCHED = ("wan2.1 t2v", "flux", "sd3", "qwen-image", "z-image", "chroma", "hunyuan video", "kandinsky 5", "mochi")
PATCHED = (*PATCHED, "cosmos predict2 t2i", "hidream")


def check_a_jump_before_the_first_step_is_the_plain_sampler(case):
    case.same(case.sample(case.pyramid(1.0)), case.sample(case.core()))


def check_a_small_stage_shows_the_network_what_a_plain_run_of_its_size_does(case):
    """The picture, the time, the prompts, and start images and masks as the host's own code resizes them."""
    from pyramid_video.samplers.spectral import resample

    calls = case.seen(lambda: case.sample(case.pyramid(case.middle)))
    large = case.inside.models.empty(case.kind)
    noise = case.inside.comfy.sample.prepare_noise(large, SEED)
    size = (8, 8) if case.kind in ("sdxl", "sd1.5") else (6, 8)  # whole patches
    small = case.inside.models.empty(case.kind, *size)
    picture, *others = case.streams(noise)
    less = [resample(picture, size), *others]
    less = type(noise)(less) if len(less) > 1 else less[0]
    plain = case.seen(lambda: case.sample(case.core(), small, less))
    for call, wanted in zip(calls[:2], plain[:2], strict=True):
        assert call.keys() == wanted.keys()
        for name in wanted:
            compare(case, call[name], wanted[name], name)


def check_previews_and_steps_stay_in_place(case):
    calls = []
    case.sample(case.pyramid(case.middle), callback=lambda step, x0, x, total: calls.append((step, x0, x, total)))
    full = [tuple(each.shape) for each in case.streams(case.inside.models.empty(case.kind))]
    assert [step for step, *_ in calls] == list(range(STEPS)) and {total for *_, total in calls} == {STEPS}
    for _, x0, x, _ in calls:
        shapes = {tuple(each.shape) for each in (*case.streams(x0), *case.streams(x))}
        flat = sum(case.torch.Size(shape).numel() for shape in full)
        assert shapes <= {*full, (1, 1, flat)}, shapes  # older hosts hand out what is packed


def check_sound_stands_at_the_new_level(case):
    parts = walked_parts(case, case.pyramid(case.middle))
    before, after = parts[0][1], parts[1][0]
    t, new = parts[0][2][-1], parts[1][2][0]
    count = sum(each.numel() for each in case.streams(case.inside.models.empty(case.kind))[1:])
    old, made = before[..., -count:], after[..., -count:]
    kept = (1 - new) / (1 - t)
    fresh = (made - kept * old) / (new**2 - (kept * t) ** 2) ** 0.5
    assert abs(float(fresh.mean())) < 4 / count**0.5 and abs(float(fresh.std()) - 1) < 4 / count**0.5
    centred = old - old.mean()
    assert abs(float((fresh * centred).mean() / centred.std())) < 4 / count**0.5  # nothing of what was there before
    again = walked_parts(case, case.pyramid(case.middle))
    case.torch.testing.assert_close(again[1][0], after, rtol=0, atol=0)


def walked_parts(case, sampler, **rest) -> list[tuple]:
    """(state in, state out, sigmas) of every part that the core sampler walks."""
    parts, inner = [], sampler.inner.sampler_function

    def walk(model, x, sigmas, **arguments):
        out = inner(model, x, sigmas, **arguments)
        parts.append((x.clone(), out.clone(), [float(sigma) for sigma in sigmas]))
        return out

    sampler.inner.sampler_function = walk
    case.sample(sampler, **rest)
    return parts


def check_a_mask_keeps_what_it_covers(case):
    latent = case.inside.models.noise(*case.inside.models.empty(case.kind).shape, seed=8)
    mask = case.torch.ones(1, 1, 12, 16)
    mask[..., :8] = 0  # the left half stays
    made = case.sample(case.pyramid(case.middle), latent=latent, denoise_mask=mask)
    case.same(made[..., :8], latent[..., :8])
    assert (made[..., 8:] - latent[..., 8:]).abs().mean() > 0.05


class Stopped(Exception):
    pass


def check_a_run_that_was_stopped_in_its_second_stage_leaves_nothing(case):
    plain, guider = case.sample(case.core()), case.guider()

    def stop(step, *rest):
        if step == 3:
            raise Stopped

    try:
        case.sample(case.pyramid(case.middle), guider=guider, callback=stop)
        raise AssertionError("nothing was stopped")
    except Stopped:
        pass
    full = [tuple(each.shape) for each in case.streams(case.inside.models.empty(case.kind))]
    shapes = getattr(guider.inner_model, "latent_shapes", None)
    assert shapes is None or [tuple(shape) for shape in shapes] == full
    for conds in guider.conds.values():
        for cond in conds:
            concat = cond["model_conds"].get("c_concat")
            assert concat is None or tuple(concat.cond.shape[-2:]) == (12, 16)
    case.same(case.sample(case.core(), guider=guider), plain, 0)


def check_solvers_of_the_host_run(case):
    names = (
        "heun",
        "euler_ancestral",
        "dpmpp_2m",
        "dpmpp_2m_sde",
        "dpmpp_sde",
        "lms",
        "res_multistep",
        "ddim",
        "uni_pc",
    )
    for name in names:
        made = case.sample(case.pyramid(case.middle, inner=case.core(name)))
        assert case.torch.isfinite(made).all(), name
        case.same(case.sample(case.pyramid(1.0, inner=case.core(name))), case.sample(case.core(name)))


def check_two_samplers_are_one(case):
    """Wan 2.2's two experts: the schedule is cut, and the jump lies in the first part, at the cut, or in the second."""
    high, low = case.model, case.inside.models.make_model(case.kind)
    silence = case.torch.zeros_like(case.inside.models.empty(case.kind))
    for cut in (1, 2, 3):
        sampler = case.pyramid(case.middle)
        one = case.sample(sampler)
        first = case.sample(sampler, sigmas=case.sigmas[: cut + 1], guider=case.guider(high))
        assert first.shape == one.shape
        second = case.sample(sampler, first, silence, case.sigmas[cut:], case.guider(low))
        case.same(second, one)
    for cut in (1, 3):  # in three stages
        sampler = case.pyramid(case.share(1), case.share(3))
        first = case.sample(sampler, sigmas=case.sigmas[: cut + 1])
        case.same(case.sample(sampler, first, silence, case.sigmas[cut:]), case.sample(sampler))


def check_a_plain_first_part_goes_on_at_full_size(case):
    silence = case.torch.zeros_like(case.inside.models.empty(case.kind))
    first = case.sample(case.core(), sigmas=case.sigmas[:2])
    second = case.sample(case.pyramid(case.middle), first, silence, case.sigmas[1:])
    case.same(second, case.sample(case.core()))


def check_other_stages_in_the_second_sampler_are_refused(case):
    silence = case.torch.zeros_like(case.inside.models.empty(case.kind))
    first = case.sample(case.pyramid(case.middle), sigmas=case.sigmas[:2])
    refused(lambda: case.sample(case.pyramid(case.middle, scales=(0.75, 1.0)), first, silence, case.sigmas[1:]), "same")


def check_picture_to_picture_begins_inside(case):
    latent = case.inside.models.noise(*case.inside.models.empty(case.kind).shape, seed=8)
    inside = case.sigmas[2:]
    case.same(
        case.sample(case.pyramid(case.middle), latent, sigmas=inside), case.sample(case.core(), latent, sigmas=inside)
    )
    refused(lambda: case.sample(case.pyramid(case.middle), sigmas=inside), "latent is empty")


def check_patches_that_remember_run(case):
    import asyncio

    from comfy_extras import nodes_apg, nodes_cfg, nodes_easycache

    made = case.sample(case.pyramid(case.middle))
    patches = [
        lambda m: nodes_apg.APG.execute(m, 1.0, 5.0, -0.5),
        lambda m: nodes_cfg.CFGZeroStar.execute(m),
        lambda m: nodes_easycache.EasyCacheNode.execute(m, 0.0, 0.0, 1.0, False),
        lambda m: nodes_easycache.LazyCacheNode.execute(m, 0.0, 0.0, 1.0, False),
    ]
    for number, patch in enumerate(patches):
        patched = patch(case.model)
        patched = asyncio.run(patched) if asyncio.iscoroutine(patched) else patched
        again = case.sample(case.pyramid(case.middle), guider=case.guider(patched.result[0]))
        assert case.torch.isfinite(again).all()
        if number > 1:  # a cache that never skips changes nothing
            case.same(again, made)


def check_rows_of_a_batch_are_the_same_alone(case):
    both = case.inside.models.empty(case.kind, batch=2)
    noise = case.inside.comfy.sample.prepare_noise(both, SEED)
    together = case.sample(case.pyramid(case.middle), both, noise)
    for row in range(2):
        case.same(
            together[row : row + 1], case.sample(case.pyramid(case.middle), both[row : row + 1], noise[row : row + 1])
        )


def check_a_draft_that_is_finished_is_one_run_to_the_last_bit(case):
    import tempfile

    from pyramid_video.host.comfyui.any_model import AnyModel
    from safetensors.torch import load_file, save_file

    host, prompts = AnyModel(), (case.positive, case.negative, 2.0)
    latent = {"samples": case.inside.models.empty(case.kind)}
    stages = case.pyramid(case.middle).stages
    seeds = [SEED] if case.kind == "minimax h3" else [SEED, SEED + 1]
    sigmas = host.sigmas(case.model, STEPS, "simple")
    for name in ("euler", "dpmpp_2m", "euler_ancestral"):
        draft, clips = host.draft(case.model, prompts, name, stages, sigmas, latent, seeds, 1)
        small = case.streams(clips["samples"])[0]
        assert small.shape[0] == len(seeds) and small.shape[-1] < 16
        with tempfile.NamedTemporaryFile(suffix=".latent") as file:  # as SaveLatent and LoadLatent do
            save_file({"latent_tensor": draft["samples"].contiguous()}, file.name)
            loaded = {"samples": load_file(file.name)["latent_tensor"].float()}
        made = case.streams(host.finish_draft(case.model, prompts, name, loaded)["samples"])
        for row, seed in enumerate(seeds):
            whole = host.sample(case.model, prompts, name, stages, sigmas, latent, seed)
            for one, other in zip(made, case.streams(whole["samples"]), strict=True):
                assert case.torch.equal(one[row : row + 1], other), name
    other = case.inside.models.make_model("sd3" if case.kind != "sd3" else "flux")
    refused(lambda: host.finish_draft(other, prompts, "euler", loaded), "wire the model that made it")


def check_a_whole_block_is_what_the_parts_make(case):
    from pyramid_video.host.comfyui.any_model import AnyModel

    host, stages = AnyModel(), case.pyramid(case.middle).stages
    latent = {"samples": case.inside.models.empty(case.kind)}
    whole = host.sample(case.model, (case.positive, case.negative, 2.0), "euler", stages, case.sigmas, latent, SEED)
    case.same(whole["samples"], case.sample(case.pyramid(case.middle)), 0)


def check_a_clip_is_finished_at_a_larger_size(case):
    from pyramid_video.host.comfyui.any_model import AnyModel

    host = AnyModel()
    latent = {"samples": case.inside.models.empty(case.kind)}
    small = case.streams(case.inside.models.empty(case.kind, 8, 8))
    small[0] = small[0] + 0.3
    clip = {"samples": small[0] if len(small) == 1 else type(latent["samples"])(small)}
    prompts = (case.positive, case.negative, 2.0)
    made = host.finish_clip(case.model, prompts, "euler", case.torch.tensor([1e-4, 0.0]), clip, latent, SEED)
    picture = case.streams(made["samples"])[0]
    assert picture.shape == case.streams(latent["samples"])[0].shape
    assert (picture - 0.3).abs().max() < 0.05


def check_a_mask_on_a_clip_keeps_what_it_covers_of_the_enlarged_clip(case):
    from pyramid_video.host.comfyui.any_model import AnyModel
    from pyramid_video.samplers.spectral import resample_picture

    latent = {"samples": case.inside.models.empty(case.kind)}
    small = case.inside.models.noise(*case.inside.models.empty(case.kind, 6, 8).shape, seed=8)
    mask = case.torch.ones(1, 1, 12, 16)
    mask[..., :8] = 0  # the left half stays
    prompts, sigmas = (case.positive, case.negative, 2.0), case.torch.tensor([0.6, 0.0])
    large = resample_picture(small, (12, 16))
    clip, masked = {"samples": small}, {"noise_mask": mask}
    for wires in (({**clip, **masked}, latent), (clip, {**latent, **masked})):  # the latter: on the empty latent
        made = AnyModel().finish_clip(case.model, prompts, "euler", sigmas, *wires, SEED)["samples"]
        case.same(made[..., :8], large[..., :8])
        assert (made[..., 8:] - large[..., 8:]).abs().mean() > 0.05


def check_prompts_in_times_and_places_run(case):
    half = case.torch.zeros(1, 12, 16)
    half[..., :8] = 1
    timed = [[case.positive[0][0], {**case.positive[0][1], "start_percent": 0.0, "end_percent": 0.5}]]
    later = [[case.negative[0][0], {**case.negative[0][1], "start_percent": 0.5, "end_percent": 1.0}]]
    masked = [[case.positive[0][0], {**case.positive[0][1], "mask": half, "mask_strength": 1.0}]]
    *frames, rows, columns = case.inside.models.empty(case.kind).shape[2:]
    areas = [(*frames, 6, 8, *(0 for _ in frames), 2, 4)]  # 3 rows of a small stage, where a patch may have 2
    areas.append(("percentage", *(1.0 for _ in frames), 0.5, 0.5, *(0.0 for _ in frames), 2 / rows, 4 / columns))
    placed = [[[case.positive[0][0], {**case.positive[0][1], "area": each, "strength": 1.0}]] for each in areas]
    for positive in (timed + later, masked + later, *(each + case.positive for each in placed)):
        guider = case.inside.comfy.samplers.CFGGuider(case.model)
        guider.set_conds(positive, case.negative)
        guider.set_cfg(2.0)
        assert case.torch.isfinite(case.sample(case.pyramid(case.middle), guider=guider)).all()
        plain = case.inside.comfy.samplers.CFGGuider(case.model)
        plain.set_conds(positive, case.negative)
        plain.set_cfg(2.0)
        case.same(case.sample(case.pyramid(1.0), guider=guider), case.sample(case.core(), guider=plain))


def check_context_windows_run(case):
    import comfy.context_windows as windows

    model = case.model.clone()
    schedule = windows.get_matching_context_schedule("standard_static")
    fuse = windows.get_matching_fuse_method("pyramid")
    model.model_options["context_handler"] = windows.IndexListContextHandler(
        context_schedule=schedule, fuse_method=fuse, context_length=2, context_overlap=1, dim=2
    )
    windows.create_prepare_sampling_wrapper(model)
    guider = case.guider(model)
    assert case.torch.isfinite(case.sample(case.pyramid(case.middle), guider=guider)).all()
    case.same(case.sample(case.pyramid(1.0), guider=guider), case.sample(case.core(), guider=case.guider(model)))


def check_sizes_that_no_patch_divides_run(case):
    latent = case.inside.models.empty(case.kind, 13, 17)
    noise = case.inside.comfy.sample.prepare_noise(latent, SEED)
    made = case.sample(case.pyramid(case.middle), latent, noise)
    assert made.shape == latent.shape and case.torch.isfinite(made).all()
    case.same(case.sample(case.pyramid(1.0), latent, noise), case.sample(case.core(), latent, noise))


def check_stages_are_whole_patches(case):
    """No network has to pad a stage that is smaller than the picture."""
    import comfy.ldm.common_dit as host

    usual, padded = host.pad_to_patch_size, []

    def watch(picture, *rest, **named):
        made = usual(picture, *rest, **named)
        padded.append(made.shape != picture.shape)
        return made

    latent = case.inside.models.empty(case.kind, 12, 20)  # 3 x 5 and 6 x 10, if only halves counted
    host.pad_to_patch_size = watch
    try:
        case.sample(case.pyramid(case.share(1), case.share(3)), latent)
    finally:
        host.pad_to_patch_size = usual
    assert padded or case.kind == "cosmos predict2 t2i"  # which older hosts do not pad: there a run would fail
    assert not any(padded)


def check_bad_stages_and_sizes_get_a_sentence(case):
    tiny = case.inside.models.empty(case.kind, 4, 4)
    noise = case.inside.comfy.sample.prepare_noise(tiny, SEED)
    refused(lambda: case.sample(case.pyramid(0.9, scales=(0.1, 1.0)), tiny, noise), "less than one patch")
    refused(lambda: case.inside.Sampler(case.inside.Stages(), object()), "KSamplerSelect")
    samplers = case.inside.comfy.samplers
    if hasattr(samplers.k_diffusion_sampling, "sample_ar_video"):
        by_blocks = samplers.ksampler("ar_video", {"num_frame_per_block": 1})  # as 'SamplerARVideo' gives it
        refused(lambda: case.pyramid(0.9, inner=by_blocks), "all frames together")
    unknown = case.inside.Sampler(case.inside.Stages(), case.core())
    if case.kind == "sd3":
        refused(lambda: case.sample(unknown), "Fit spectrum")


def refused(work, *words: str) -> None:
    try:
        work()
    except ValueError as error:
        assert all(word in str(error) for word in words), str(error)
        return
    raise AssertionError("nothing was refused")


ALL = (
    check_a_jump_before_the_first_step_is_the_plain_sampler,
    check_a_small_stage_shows_the_network_what_a_plain_run_of_its_size_does,
    check_previews_and_steps_stay_in_place,
    check_a_run_that_was_stopped_in_its_second_stage_leaves_nothing,
)
SOME = {
    **PATCHES,
    **MEMORY,
    **GUIDES,
    **GUIDERS,
    check_a_draft_that_is_finished_is_one_run_to_the_last_bit: DRAFTED,
    check_a_whole_block_is_what_the_parts_make: ("wan2.1 t2v", "ltx2", "minimax h3", "sdxl"),
    check_sizes_that_no_patch_divides_run: ("wan2.1 i2v", "flux", "qwen-image", "z-image"),
    check_stages_are_whole_patches: PATCHED,
    check_bad_stages_and_sizes_get_a_sentence: ("wan2.1 t2v", "sd3"),
    check_prompts_in_times_and_places_run: ("sd3", "hunyuan video", "mochi"),
    check_context_windows_run: ONE,
    check_a_clip_is_finished_at_a_larger_size: ("wan2.1 t2v", "ltx2", "flux", "cosmos predict2 video"),
    check_a_mask_on_a_clip_keeps_what_it_covers_of_the_enlarged_clip: ("wan2.1 t2v", "flux"),
    check_sound_stands_at_the_new_level: WITH_SOUND,
    check_a_mask_keeps_what_it_covers: KEEP_MASKED,
    check_solvers_of_the_host_run: ("wan2.1 t2v", "sdxl"),
    check_two_samplers_are_one: ("wan2.2 i2v", "sdxl"),
    check_a_plain_first_part_goes_on_at_full_size: ONE,
    check_other_stages_in_the_second_sampler_are_refused: ONE,
    check_picture_to_picture_begins_inside: ("wan2.1 t2v", "sdxl"),
    check_patches_that_remember_run: ONE,
    check_rows_of_a_batch_are_the_same_alone: ("wan2.1 t2v", "sdxl", "qwen-image", "z-image"),
}
KINDS = ("wan2.1 t2v", "wan2.1 i2v", "wan2.2 i2v", "wan2.2 5B", "ltx", "ltx2", "hunyuan1.5", "minimax h3", "flux")
KINDS = (*KINDS, "sd3", "sdxl", "wan2.1 vace", "qwen-image", "z-image", "flux.2", "chroma", "hunyuan video")
KINDS = (*KINDS, "kandinsky 5", "mochi", "cosmos predict2 t2i", "cosmos predict2 video", "sd1.5", "hidream")
KINDS = (*KINDS, "cogvideox", "ltx2.3", "ltx2.5", "ernie", "joyimage")
CHECKS = [(check, kind) for kind in KINDS for check in (*ALL, *(c for c, kinds in SOME.items() if kind in kinds))]
CHECKS += [(check_what_guides_wan_has_the_size_of_its_stage, kind) for kind in GUIDED]


def name_of(check: Callable, kind: str) -> str:
    return f"{check.__name__} [{kind}]"


def main(comfyui: str, root: str, base: str, *only: str) -> None:
    inside = open_comfyui(Path(comfyui), Path(root))
    results, cases = {}, {}
    for check, kind in CHECKS:
        if only and kind not in only and check.__name__ not in only:
            continue
        if kind not in inside.models.known():
            results[name_of(check, kind)] = "not in this host"
            continue
        try:
            with inside.torch.inference_mode():  # as the server runs every prompt
                if kind not in cases:
                    cases[kind] = Case(inside, kind)
                check(cases[kind])
            results[name_of(check, kind)] = None
        except Exception:
            results[name_of(check, kind)] = traceback.format_exc()
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
