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
from spectral_parts import IN_PARTS
from spectral_patches import PATCHES
from spectral_sizes import OF_SIZES
from spectral_solvers import SOLVED

WITH_SOUND = ("ltx2", "ltx2.3", "ltx2.5", "minimax h3")
KEEP_MASKED = ("wan2.1 t2v", "wan2.2 5B", "ltx", "flux", "sd3", "sdxl", "qwen-image", "cosmos predict2 video")
ONE = ("wan2.1 t2v",)


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
    **IN_PARTS,
    **OF_SIZES,
    **SOLVED,
    check_sound_stands_at_the_new_level: WITH_SOUND,
    check_a_mask_keeps_what_it_covers: KEEP_MASKED,
    check_solvers_of_the_host_run: ("wan2.1 t2v", "sdxl"),
    check_patches_that_remember_run: ONE,
    check_rows_of_a_batch_are_the_same_alone: ("wan2.1 t2v", "sdxl", "qwen-image", "z-image"),
}
KINDS = ("wan2.1 t2v", "wan2.1 i2v", "wan2.2 i2v", "wan2.2 5B", "ltx", "ltx2", "hunyuan1.5", "minimax h3", "flux")
KINDS = (*KINDS, "sd3", "sdxl", "wan2.1 vace", "qwen-image", "z-image", "flux.2", "chroma", "hunyuan video")
KINDS = (*KINDS, "kandinsky 5", "mochi", "cosmos predict2 t2i", "cosmos predict2 video", "sd1.5", "hidream")
KINDS = (*KINDS, "cogvideox", "ltx2.3", "ltx2.5", "ernie", "joyimage", "krea 2", "mage flow")
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
