"""Checks of `spectral.py` for sizes: whole patches, areas and windows of a clip, and what is refused."""

from __future__ import annotations

from door_tools import refused
from spectral_case import SEED

ONE = ("wan2.1 t2v",)
PATCHED = ("wan2.1 t2v", "flux", "sd3", "qwen-image", "z-image", "chroma", "hunyuan video", "kandinsky 5", "mochi")
PATCHED = (*PATCHED, "cosmos predict2 t2i", "hidream", "krea 2")


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


def check_the_picture_of_supir_gets_a_sentence(case):
    try:
        from comfy.ldm.supir.supir_patch import SUPIRPatch
    except ImportError:
        return  # an older host
    model = case.model.clone()
    SUPIRPatch(None, [], case.torch.zeros(1, 4, 12, 16), 0.0, 0.0).register(model)  # which changes nothing
    refused(lambda: case.sample(case.pyramid(case.middle), guider=case.guider(model)), "SUPIRApply")
    case.same(case.sample(case.pyramid(1.0), guider=case.guider(model)), case.sample(case.core()))


OF_SIZES = {
    check_the_picture_of_supir_gets_a_sentence: ("sdxl",),
    check_prompts_in_times_and_places_run: ("sd3", "hunyuan video", "mochi"),
    check_context_windows_run: ONE,
    check_sizes_that_no_patch_divides_run: ("wan2.1 i2v", "flux", "qwen-image", "z-image"),
    check_stages_are_whole_patches: PATCHED,
    check_bad_stages_and_sizes_get_a_sentence: ("wan2.1 t2v", "sd3"),
}
