"""Checks of `model_lora.py` for models that continue pictures: beside the clip, and in the place of its first frame."""

from __future__ import annotations

from dataclasses import replace

from model_lora_lesson import (
    check_gradient_checkpoints_change_no_number,
    check_the_gradient_is_that_of_difference_quotients,
)
from spectral_case import VIDEOS_FROM_PICTURES

IN_PLACE = ("wan2.2 5B", "ltx", "ltx2", "ltx2.3", "ltx2.5")


def check_start_pictures_are_those_of_core(lesson):
    """As WanImageToVideo and HunyuanVideo15ImageToVideo make them; a model that takes none says so."""
    import tiny_core_parts
    from pyramid_video.models.model_in_training import ModelClip

    torch = lesson.torch
    pictures, vae = torch.rand(9, 96, 128, 3), tiny_core_parts.TinyVAE(lesson.kind)
    if lesson.kind not in VIDEOS_FROM_PICTURES:

        def wants_something_else(**given):
            raise AttributeError("'NoneType' object has no attribute 'shape'")

        usual = lesson.model.model.concat_cond
        for concat_cond in (usual, wants_something_else, lambda **given: given["concat_mask"]):
            lesson.model.model.concat_cond = concat_cond
            try:
                lesson.host.start_latent(vae, pictures, lesson.model)
                raise AssertionError("a start picture was taken")
            except ValueError as error:
                assert "turn first_frames off" in str(error)
            finally:
                del lesson.model.model.concat_cond
        return
    start = lesson.host.start_latent(vae, pictures, lesson.model)
    if lesson.kind == "hunyuan1.5":
        assert torch.equal(start[:, :, :1], vae.encode(pictures[:1])) and not start[:, :, 1:].any()
    else:
        gray = torch.full_like(pictures, 0.5)
        gray[:1] = pictures[:1]
        assert torch.equal(start, vae.encode(gray))
    latent = lesson.clips.latents.rows[0].latent[None]
    start = torch.rand(latent.shape)
    mask = torch.ones(1, 1, *latent.shape[2:])
    mask[:, :, :1] = 0
    noise, device = torch.zeros_like(latent), torch.device("cpu")
    wanted = lesson.model.model.concat_cond(
        noise=noise, device=device, concat_latent_image=start, concat_mask=mask, concat_image=None
    )
    seen = []
    handle = lesson.model.model.diffusion_model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        lesson.open(lambda model: model.loss(ModelClip(latent, lesson.clips.texts[""], start), 0.5, torch.zeros))
    finally:
        handle.remove()
    torch.testing.assert_close(seen[0][:, latent.shape[1] :], wanted)


def check_a_start_in_place_is_that_of_core(lesson):
    """The network is shown what core's sampler shows it of a latent with a mask, and learns the rest; so are clips."""
    import comfy.sample
    from pyramid_video.host.comfyui.any_model import nested, noise_rows, tensors_of
    from pyramid_video.host.comfyui.model_in_training import empty_streams
    from pyramid_video.models.model_in_training import ModelClip

    torch, comfy = lesson.torch, lesson.case.inside.comfy
    latent, prompt = lesson.clips.latents.rows[0].latent[None], lesson.clips.texts["a ball"]
    noise = noise_rows(nested(empty_streams(lesson.model, latent.shape)), 3)
    clip = ModelClip(latent, prompt, starts_in_place=True)
    mask = torch.ones(1, 1, *latent.shape[2:])
    mask[:, :, :1] = 0
    losses = []

    def learn(model):
        drawn = iter(tensors_of(noise))
        losses.append(model.loss(clip, 0.5, lambda shape: next(drawn).clone().reshape(shape)))

    (shown,) = lesson.case.seen(lambda: lesson.open(learn))
    picture, *others = empty_streams(lesson.model, latent.shape)
    guider = comfy.samplers.CFGGuider(lesson.model)
    guider.set_conds(prompt, prompt)
    guider.set_cfg(1.0)
    sigma = float(lesson.model.get_model_object("model_sampling").percent_to_sigma(0.5))
    sampled = nested([latent.clone(), *others]), comfy.samplers.sampler_object("euler"), torch.tensor([sigma, 0.0])
    made = []
    (wanted,) = lesson.case.seen(lambda: made.append(guider.sample(noise, *sampled, denoise_mask=mask)))
    assert shown.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(shown[name], value, rtol=0, atol=1e-5, msg=lambda text: f"{name}: {text}")  # noqa: B023
    process = lesson.model.model.process_latent_in
    estimate = tensors_of(made[0])[0].float()
    torch.testing.assert_close(estimate[:, :, :1], latent[:, :, :1], rtol=0, atol=1e-5)
    error = (process(estimate) - process(latent))[:, :, 1:].square().mean() / sigma**2
    torch.testing.assert_close(losses[0].detach(), error, rtol=1e-3, atol=1e-5)

    with torch.inference_mode(False):
        (clip_made,) = lesson.host.sample(lesson.model, {}, [clip], prompt, 1.0, 3, 5)
    started = picture.clone()
    started[:, :, :1] = latent[:, :, :1]
    empty = nested([started, *others])
    fresh = comfy.sample.prepare_noise(empty, 5)
    core = comfy.sample.sample(
        lesson.model, fresh, 3, 1.0, "euler", "simple", prompt, prompt, empty, noise_mask=mask, seed=5
    )
    torch.testing.assert_close(clip_made, tensors_of(core)[0].cpu().float(), rtol=0, atol=1e-6)
    torch.testing.assert_close(clip_made[:, :, :1], latent[:, :, :1], rtol=0, atol=1e-5)

    lesson.clips = replace(lesson.clips, starts_in_place=True)
    check_the_gradient_is_that_of_difference_quotients(lesson)
    check_gradient_checkpoints_change_no_number(lesson)


def check_it_is_known_who_starts_in_place(lesson):
    assert lesson.host.starts_in_place(lesson.model) == (lesson.kind in IN_PLACE)


STARTS = {
    check_a_start_in_place_is_that_of_core: IN_PLACE,
    check_start_pictures_are_those_of_core: (*VIDEOS_FROM_PICTURES, "wan2.1 t2v", "ltx", "kandinsky 5"),
}
