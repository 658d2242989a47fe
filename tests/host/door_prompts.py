"""What core's blocks do to prompts: masks, joined texts, and what a pyramid refuses. Run as part of `door.py`."""

from __future__ import annotations

from door_families import load, made, sampler_of
from door_tools import differs, refused, same


def check_masks_follow_the_stages(door):
    whole = door.core.ConditioningSetMask().append(door.positive, door.torch.ones(1, 64, 64), "default", 1.0)[0]
    same(door, door.sample(positive=whole), door.usual, 1e-5)
    half = door.torch.zeros(1, 64, 64)
    half[..., :32] = 1
    left = door.core.ConditioningSetMask().append(door.positive, half, "default", 1.0)[0]
    right = door.core.ConditioningSetMask().append(door.negative, 1 - half, "default", 1.0)[0]
    assert differs(door.sample(positive=left + right), door.usual)


def check_masks_of_many_frames_are_spread_over_the_clip(door):
    """Every latent frame sees the masks of its own pictures, whatever their number."""
    from pyramid_video.host.comfyui.sampling import fit_cond

    torch, units = door.torch, 4
    x = torch.zeros(1, 8, 1, 8, 8)
    wanted = {
        1: [0, 0, 0, 0],  # one mask for all
        2: [0, 0, 1, 1],
        4: [0, 1, 2, 3],  # one for each latent frame
        25: [0, 4.5, 12.5, 20.5],  # one for each picture: 1 and then 8 for each latent frame
    }
    for number, expected in wanted.items():
        masks = torch.arange(float(number)).view(1, -1, 1, 1).expand(-1, -1, 16, 16)
        seen = [fit_cond({"mask": masks}, x, slice(unit, unit + 1), units)["mask"] for unit in range(units)]
        assert {mask.shape for mask in seen} == {(1, 1, 8, 8)}
        assert [mask.mean().item() for mask in seen] == expected
        together = fit_cond({"mask": masks}, x, slice(1, 4), units)["mask"]  # of a model that makes three at once
        assert together.mean(dim=(0, 2, 3)).tolist() == expected[1:]
    for number in (2, 3, 17):
        masks = door.torch.ones(number, 64, 64)
        whole = door.core.ConditioningSetMask().append(door.positive, masks, "default", 1.0)[0]
        latent = door.latent(frames=3)
        same(door, door.sample(positive=whole, latent=latent), door.sample(latent=latent), 1e-5)


def check_texts_may_be_joined(door):
    joined = door.core.ConditioningConcat().concat(door.positive, door.negative)[0]
    assert differs(door.sample(positive=joined), door.usual)
    combined = door.core.ConditioningCombine().combine(door.positive, door.positive)[0]
    same(door, door.sample(positive=combined), door.usual, 1e-4)


def check_a_mask_that_would_change_nothing_is_refused(door):
    """By our blocks; the host's KSampler keeps what the mask leaves out, and that is where they send flows."""
    masked = {**door.latent(), "noise_mask": door.torch.ones(1, 64, 64)}
    masked["samples"][:] = 0.5
    masked["noise_mask"][..., :32] = 0
    refused(lambda: door.sample(latent=masked), "a pyramid makes", "'Temporal conditioning'")
    for name, words in (("flow", "KSampler"), ("v", "KSampler"), ("gan", "'Sample GAN'")):
        model, alone = load(door, name)
        refused(lambda model=model, alone=alone: made(door, model, sampler_of(alone), latent=masked), words)
        if name != "gan":
            prompts = door.positive, door.negative
            (kept,) = door.core.common_ksampler(model, 5, 3, 3.0, "euler", "simple", *prompts, masked)
            same(door, kept["samples"][..., :4], masked["samples"][..., :4], 1e-5)
            assert differs(kept["samples"][..., 4:], masked["samples"][..., 4:])


def check_what_a_pyramid_cannot_do_is_said(door):
    core, host, torch = door.core, door.host, door.torch
    area = core.ConditioningSetArea().append(door.positive, 32, 32, 0, 0, 1.0)[0]
    refused(lambda: door.sample(positive=area), "area", "Set Mask")
    wide = [[torch.zeros(1, 3, 4096), {"pooled_output": torch.zeros(1, 768)}]]
    refused(lambda: door.sample(positive=wide), "4096", "24", "tiny")
    refused(lambda: host.model_info(door.clip), "Load video model")
    refused(lambda: host.vae_info(door.model), "Load video VAE")
    refused(
        lambda: core.KSampler().sample(
            door.model, 1, 2, 5.0, "heun", "simple", door.positive, door.negative, door.latent()
        ),
        "heun",
    )
