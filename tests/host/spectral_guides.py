"""Checks of `spectral.py` for what is shown beside the picture: guides, keyframes, references, and where each goes."""

from __future__ import annotations

from spectral_case import SEED, compare

EDITING = ("flux", "flux.2", "qwen-image", "z-image")
GUIDED = ("fun control", "camera", "phantom", "humo", "scail", "animate 2")


def check_guides_of_ltx_are_those_of_a_smaller_video(case):
    from comfy_extras.nodes_lt import LTXVAddGuide
    from pyramid_video.samplers.spectral import resample_picture

    def guided(latent, guide):
        mask = case.torch.ones(1, 1, latent.shape[2], 1, 1)
        scales = (8, 32, 32)
        return LTXVAddGuide.append_keyframe(case.positive, case.negative, 0, latent, mask, guide, 1.0, scales)

    guide = case.inside.models.noise(1, 128, 1, 12, 16, seed=4)
    parts = {}
    for size in ((12, 16), (6, 8)):
        parts[size] = guided(case.inside.models.empty(case.kind, *size), resample_picture(guide, size))
    seen = []
    for size, sampler in (((12, 16), case.pyramid(case.middle)), ((6, 8), case.core())):
        positive, negative, latent, mask = parts[size]
        guider = case.inside.comfy.samplers.CFGGuider(case.model)
        guider.set_conds(positive, negative)
        guider.set_cfg(2.0)
        noise = resample_noise(case, latent)
        work = lambda: case.sample(sampler, latent, noise, guider=guider, denoise_mask=mask)  # noqa: E731, B023
        seen.append(case.seen(work))
    for call, wanted in zip(seen[0][:2], seen[1][:2], strict=True):
        for name in wanted:
            compare(case, call[name], wanted[name], name)


def resample_noise(case, latent):
    """The same noise for a latent of any size: the corner of that of full size."""
    from pyramid_video.samplers.spectral import resample, size_of

    full = case.inside.models.noise(*latent.shape[:-2], 12, 16, seed=6)
    return resample(full, size_of(latent))


def check_keyframes_of_h3_have_the_size_of_their_stage(case):
    keyframe = {"resolved_frame_index": 0, "latent": case.inside.models.noise(1, 24, 1, 12, 16, seed=4)}
    guider = case.guider()
    guider.set_conds(
        case.inside.models.prompt(case.kind, 2, minimax_keyframes=[keyframe]),
        case.inside.models.prompt(case.kind, 3, minimax_keyframes=[keyframe]),
    )
    calls = case.seen(lambda: case.sample(case.pyramid(case.middle), guider=guider))
    for call in calls:
        (latent,) = call["minimax_payload"]["cond_video_latents"]
        assert latent.shape[-2:] == call["input 0"][0].shape[-2:]
    assert {tuple(call["input 0"][0].shape[-2:]) for call in calls} == {(6, 8), (12, 16)}
    assert keyframe["latent"].shape[-2:] == (12, 16)


def with_extras(case, **extras):
    guider = case.guider()
    guider.set_conds(*(case.inside.models.prompt(case.kind, seed, **extras) for seed in (2, 3)))
    return guider


def check_references_of_h3_are_pictures_of_their_own(case):
    """Their rows are counted by the size beside them: a stage shows them as they are, also those of the clip's size."""
    for size in ((12, 16), (8, 10)):
        latent = case.inside.models.noise(1, 24, 1, *size, seed=4)
        reference = {"kind": "image", "latent_h": size[0], "latent_w": size[1], "latent": latent}
        guider = with_extras(case, minimax_refs=[reference])
        calls = case.seen(lambda: case.sample(case.pyramid(case.middle), guider=guider))  # noqa: B023
        assert {tuple(call["input 0"][0].shape[-2:]) for call in calls} == {(6, 8), (12, 16)}
        for call in calls:
            (shown,) = call["minimax_payload"]["cond_video_latents"]
            assert case.torch.equal(shown, latent)


def check_references_over_the_picture_shrink_with_it_and_others_stay(case):
    """A model that edits gives both the same places, cell by cell, which holds for equal sizes only."""
    if not case.seen(lambda: case.sample(case.core(), guider=references(case, (12, 16))))[0].get("ref_latents"):
        return  # of an older host, which shows this model none
    for size, shown in (((12, 16), {(6, 8), (12, 16)}), ((8, 10), {(8, 10)})):
        guider = references(case, size)
        calls = case.seen(lambda: case.sample(case.pyramid(case.middle), guider=guider))  # noqa: B023
        assert {tuple(call["ref_latents"][0].shape[-2:]) for call in calls} == shown
        if size == (12, 16):
            assert all(call["ref_latents"][0].shape[-2:] == call["input 0"].shape[-2:] for call in calls)


def references(case, size):
    shape = case.inside.models.KINDS[case.kind].latent
    return with_extras(case, reference_latents=[case.inside.models.noise(1, *shape, *size, seed=4)])


def check_a_picture_that_is_joined_to_the_right_edge_has_the_rows_of_its_stage(case):
    picture = case.inside.models.noise(1, 16, 12, 16, seed=4)
    guider = with_extras(case, concat_latent_image=picture)
    calls = case.seen(lambda: case.sample(case.pyramid(case.middle), guider=guider))
    assert [tuple(call["input 0"].shape[-2:]) for call in calls] == [(6, 8)] * 2 + [(12, 16)] * 3
    small, large = (case.model.model.process_latent_out(calls[n]["image_cond"][:1]) for n in (0, -1))
    assert small.shape[-2:] == (6, 8)
    case.torch.testing.assert_close(large, picture, rtol=1e-4, atol=1e-4)
    case.torch.testing.assert_close(small.mean((2, 3)), large.mean((2, 3)), rtol=1e-4, atol=1e-4)
    case.same(
        case.sample(case.pyramid(1.0), guider=guider),
        case.sample(case.core(), guider=with_extras(case, concat_latent_image=picture)),
    )


def check_what_guides_wan_has_the_size_of_its_stage(case):
    """The network is shown what a plain run of that size shows it with guides that were made smaller before."""
    from pyramid_video.samplers.spectral import resample, resample_picture

    torch, models, guides = case.torch, case.inside.models, case.inside.guides[case.kind]

    def smaller(key, value):
        if isinstance(value, list):
            return [smaller(key, each) for each in value]
        if key == "concat_latent_image":  # which the host resizes itself
            return value
        if key == "camera_conditions":
            return torch.nn.functional.avg_pool3d(value, (1, 2, 2))
        return resample_picture(value, (value.shape[-2] // 2, value.shape[-1] // 2))

    noise = case.inside.comfy.sample.prepare_noise(models.empty(case.kind), SEED)
    guider = with_extras(case, **guides.sized, **guides.others)
    calls = case.seen(lambda: case.sample(case.pyramid(case.middle), guider=guider))
    small, less = models.empty(case.kind, 6, 8), resample(noise, (6, 8))
    made_smaller = {key: smaller(key, value) for key, value in guides.sized.items()}
    guider = with_extras(case, **made_smaller, **guides.others)
    plain = case.seen(lambda: case.sample(case.core(), small, less, guider=guider))
    for call, wanted in zip(calls[:2], plain[:2], strict=True):
        assert call.keys() == wanted.keys()
        for name in wanted:
            compare(case, call[name], wanted[name], name)


def check_keyframes_that_ltx_makes_have_the_tokens_of_their_stage(case):
    from comfy_extras.nodes_lt import LTXVAddGuide

    torch, latent = case.torch, case.inside.models.empty(case.kind)
    picture, *sound = case.streams(latent)
    guide = case.inside.models.noise(1, picture.shape[1], 1, 12, 16, seed=4)
    mask = torch.ones(1, 1, picture.shape[2], 1, 1)
    *prompts, picture, mask = LTXVAddGuide.append_keyframe(
        case.positive, case.negative, 0, picture, mask, guide, 1.0, (8, 32, 32)
    )
    made = {"first_latent_frame": picture.shape[2] - 1, "num_keyframes": 1, "tokens_per_frame": 12 * 16}
    guider = case.guider()
    guider.set_conds(*([[text, {**rest, "generated_keyframes": made}]] for (text, rest), *_ in prompts))
    masks = [mask.expand(-1, -1, -1, 12, 16), *(torch.ones(1, 1, *each.shape[2:]) for each in sound)]
    calls = case.seen(
        lambda: case.sample(
            case.pyramid(case.middle),
            type(latent)([picture, *sound]),
            guider=guider,
            denoise_mask=type(latent)(masks),
        )
    )
    assert [call["generated_keyframes"]["tokens_per_frame"] for call in calls] == [48] * 2 + [192] * 3
    assert made["tokens_per_frame"] == 192


def check_boxes_of_gligen_are_the_same_parts_of_every_stage(case):
    from comfy.gligen import Gligen

    seen = []

    class Boxes(Gligen):
        def _set_position(self, boxes, masks, positive_embeddings):
            seen.append(boxes[0, :2])
            return lambda x, extra_options: x

    network = Boxes([], None, 4)
    place = case.torch.device("cpu")
    boxes = case.inside.comfy.model_patcher.ModelPatcher(network, load_device=place, offload_device=place)
    things = [(case.inside.models.noise(1, 4), *numbers) for numbers in ((4, 8, 2, 8), (12, 3, 0, 1))]
    shares = case.torch.tensor([[8 / 16, 2 / 12, 1, 6 / 12], [1 / 16, 0, 4 / 16, 1]])
    case.sample(case.pyramid(case.middle), guider=with_extras(case, gligen=("position", boxes, things)))
    assert len(seen) >= 5
    for each in seen:
        case.torch.testing.assert_close(each, shares)
    assert things[0][1:] == (4, 8, 2, 8)


GUIDES = {
    check_keyframes_that_ltx_makes_have_the_tokens_of_their_stage: ("ltx2.5",),
    check_boxes_of_gligen_are_the_same_parts_of_every_stage: ("sd1.5",),
    check_guides_of_ltx_are_those_of_a_smaller_video: ("ltx",),
    check_keyframes_of_h3_have_the_size_of_their_stage: ("minimax h3",),
    check_references_of_h3_are_pictures_of_their_own: ("minimax h3",),
    check_references_over_the_picture_shrink_with_it_and_others_stay: EDITING,
    check_a_picture_that_is_joined_to_the_right_edge_has_the_rows_of_its_stage: ("hidream",),
}
