"""Checks of `spectral.py` for runs in parts: two samplers, drafts and their ends, clips that are finished."""

from __future__ import annotations

from unittest import mock

from door_tools import refused
from spectral_case import SEED, STEPS

ONE = ("wan2.1 t2v",)
DRAFTED = ("wan2.1 i2v", "ltx2", "minimax h3", "sdxl", "qwen-image")


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


def check_sizes_that_blocks_tell_are_those_that_the_network_is_shown(case):
    """Of an empty latent made for another VAE: FLUX.2 has 128 channels and cells of 16 pixels."""
    from pyramid_video.nodes.any_model import AnySampler, AnyStages
    from pyramid_video.nodes.drafts import Draft

    import nodes as core

    latent, stages = core.EmptyLatentImage().generate(192, 256)[0], case.pyramid(case.middle).stages
    given = (case.model, SEED, STEPS, 2.0, "euler", "simple", case.positive, case.negative, latent)
    said, made = [], []
    shown = case.seen(lambda: made.append(AnySampler().sample(*given, 1.0, stages)))
    said.append(made.pop()["ui"]["text"][0])
    small, large = (each["input 0"].shape[-2:] for each in (shown[0], shown[-1]))
    said.append(AnyStages().build("1/2", 0.01, "", str(case.middle), None, case.model, latent, None)["ui"]["text"][0])
    for text in said:
        assert f" at {small[1]}x{small[0]} + " in text and f" at {large[1]}x{large[0]};" in text, text
    counted = []
    with mock.patch("pyramid_video.nodes.drafts.check_memory", lambda given, _: counted.append(given["samples"].shape)):
        Draft().draft(*given, 1, stages, 1)
    assert counted == [(1, *shown[-1]["input 0"].shape[1:])], counted


def check_a_clip_is_finished_at_the_size_that_the_model_makes_of_an_empty_latent(case):
    """Of pictures without an axis of time too, as Qwen-Image takes them from 'EmptySD3LatentImage'."""
    from pyramid_video.host.comfyui.any_model import AnyModel
    from pyramid_video.nodes.finish_clip import FinishClip

    channels, *frames = case.inside.models.KINDS[case.kind].latent
    wide = {"samples": case.torch.zeros(1, 4 if case.kind == "flux.2" else channels, 24, 32)}
    if case.kind == "flux.2":
        wide["downscale_ratio_spacial"] = 8
    rows, columns = AnyModel().picture(AnyModel().fitted(case.model, wide)).shape[-2:]

    def finish(*size):
        clip = {"samples": case.inside.models.noise(1, channels, *frames, *size, seed=4)}
        rest = (case.positive, case.negative, clip, wide, 0.5, 0.01, None)
        return FinishClip().finish(case.model, SEED, STEPS, 2.0, "euler", "simple", *rest)["result"][0]["samples"]

    assert finish(rows - 2, columns - 4).shape == (1, channels, *frames, rows, columns)
    refused(lambda: finish(rows + 2, columns + 4), "larger than the clip")


def check_a_draft_asks_for_the_memory_of_its_own_size(case):
    """What a run of that size asks for: weights stay on the card that those of a full-size run would leave."""
    import comfy.model_management as management
    from pyramid_video.host.comfyui.any_model import AnyModel

    asked, usual = [], management.load_models_gpu

    def load(models, memory_required=0, **rest):
        asked.append(memory_required)
        return usual(models, memory_required=memory_required, **rest)

    latent, prompts = {"samples": case.inside.models.empty(case.kind)}, (case.positive, case.negative, 2.0)
    with mock.patch.object(management, "load_models_gpu", load):
        for jump, levels, size in ((1, (case.middle,), (6, 8)), (2, (case.share(1), case.share(3)), (6, 8))):
            stages = case.pyramid(*levels).stages
            AnyModel().draft(case.model, prompts, "euler", stages, case.sigmas, latent, [SEED], jump)
            case.sample(case.core(), case.inside.models.empty(case.kind, *size))
            draft, plain = asked
            assert draft == plain, (jump, asked)
            asked.clear()
        case.sample(case.core())
        assert asked[0] > plain, (asked, plain)


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


def check_a_mask_is_made_smaller_off_a_mac(case):
    """Its areas must be of whole cells there, and those of a stage seldom are."""
    from pyramid_video.host.comfyui.stage_conds import resize_mask

    class OnMPS(case.torch.Tensor):
        device = case.torch.device("mps")

        def cpu(self):
            return self.as_subclass(case.torch.Tensor)

        def float(self):
            return self

    seen, area = [], case.torch.nn.functional.adaptive_avg_pool2d

    def watched(x, size):
        seen.append(type(x))
        return area(x, size)

    mask = case.torch.rand(1, 1, 9, 16)
    with mock.patch.object(case.torch.nn.functional, "adaptive_avg_pool2d", watched):
        made = resize_mask(mask.as_subclass(OnMPS), (5, 12))
    case.same(made.as_subclass(case.torch.Tensor), resize_mask(mask, (5, 12)))
    assert seen == [case.torch.Tensor]


IN_PARTS = {
    check_a_draft_asks_for_the_memory_of_its_own_size: ("wan2.1 t2v", "ltx2"),
    check_sizes_that_blocks_tell_are_those_that_the_network_is_shown: ("flux.2", "wan2.1 t2v"),
    check_a_clip_is_finished_at_the_size_that_the_model_makes_of_an_empty_latent: ("qwen-image", "flux.2"),
    check_two_samplers_are_one: ("wan2.2 i2v", "sdxl"),
    check_a_plain_first_part_goes_on_at_full_size: ONE,
    check_other_stages_in_the_second_sampler_are_refused: ONE,
    check_picture_to_picture_begins_inside: ("wan2.1 t2v", "sdxl"),
    check_a_draft_that_is_finished_is_one_run_to_the_last_bit: DRAFTED,
    check_a_whole_block_is_what_the_parts_make: ("wan2.1 t2v", "ltx2", "minimax h3", "sdxl"),
    check_a_clip_is_finished_at_a_larger_size: ("wan2.1 t2v", "ltx2", "flux", "cosmos predict2 video"),
    check_a_mask_is_made_smaller_off_a_mac: ONE,
    check_a_mask_on_a_clip_keeps_what_it_covers_of_the_enlarged_clip: ("wan2.1 t2v", "flux"),
}
