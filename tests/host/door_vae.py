"""Checks of the VAE in ComfyUI, run by `door.py`."""

from __future__ import annotations

import math
import sys
from unittest import mock

from door_tools import refused, same


def check_core_vae_nodes_take_ours(door):
    core, torch = door.core, door.torch
    pictures = core.VAEDecode().decode(door.vae, {"samples": door.usual})[0]
    assert pictures.shape == (5, 64, 64, 3) and 0 <= pictures.min() and pictures.max() <= 1
    same(door, pictures, door.host.decode(door.vae, door.usual, chunk=1), 1e-5)
    assert core.VAEEncode().encode(door.vae, torch.rand(6, 67, 66, 3))[0]["samples"].shape == (1, 8, 2, 8, 8)
    assert core.VAEEncodeTiled().encode(door.vae, torch.rand(5, 128, 128, 3), 64, 16, 8, 4)[0]["samples"].shape[
        -2:
    ] == (16, 16)
    assert core.VAEDecodeTiled().decode(door.vae, {"samples": torch.zeros(1, 8, 3, 16, 16)}, 64, 16, 8, 4)[0].shape == (
        9,
        128,
        128,
        3,
    )


def check_a_small_vae_computes_in_float32_and_a_large_one_as_the_card_likes(door):
    import comfy.model_management as management

    ours, path = sys.modules[type(door.vae).__module__], door.path["vae"]
    with mock.patch.object(management, "should_use_bf16", lambda *_, **__: True):
        assert door.host.load_vae(path).vae_dtype == door.torch.float32
        with mock.patch.object(ours, "LARGE", 0):
            assert door.host.load_vae(path).vae_dtype == door.torch.bfloat16
        with mock.patch.object(management.args, "bf16_vae", True):
            assert door.host.load_vae(path).vae_dtype == door.torch.bfloat16


def check_vae_falls_back_to_smaller_pieces(door):
    """Whole clips, then chunks, then tiles: the first that fits is the answer, and chunks give the same pictures."""
    import comfy.model_management

    network, tried = door.vae.first_stage_model, []
    ours = sys.modules[type(door.vae).__module__]
    decode_into = ours.decode_into

    def scarce(pictures, network, latent, piece, *others):
        tried.append(piece)
        if piece[0] is None or piece[0] > 1:
            raise comfy.model_management.OOM_EXCEPTION("for the test")
        decode_into(pictures, network, latent, piece, *others)

    with mock.patch.object(ours, "decode_into", scarce):
        pictures = door.host.decode(door.vae, door.usual)
    assert tried[0] == (None, None) and tried[-1] == (1, None) and network is door.vae.first_stage_model
    same(door, pictures, door.host.decode(door.vae, door.usual), 1e-5)


def check_a_clip_comes_to_the_device_in_the_pieces_that_it_is_encoded_in(door):
    step, read, came = door.vae.info.time_compression, door.vae.process_input, []
    with mock.patch.object(door.vae, "process_input", lambda part: came.append(part.shape[2]) or read(part)):
        door.vae.encode(door.torch.rand(1 + 3 * step, 32, 32, 3), chunk=step)
    assert came == [1 + step, step, step], came


def check_vae_asks_for_the_memory_of_the_plan_it_will_use(door):
    """The largest pieces that fit on the device beside the weights, and smaller ones where less than that is free."""
    import comfy.model_management as management

    vae, latent = door.vae, door.torch.zeros(1).expand(1, 8, 33, 256, 256)
    plans = [*((chunk, None) for chunk in (None, 8, 4, 2, 1)), *((1, tile) for tile in (512, 256, 128))]
    needs = {}
    for chunk, tile in plans:
        side = 256 if tile is None else tile // vae.info.space_compression
        needs[chunk, tile] = vae.decode_memory((1, 8, 33, side, side), vae.vae_dtype, chunk)
    assert list(needs.values()) == sorted(needs.values(), reverse=True)
    kept = math.ceil(vae.patcher.model_size() + management.minimum_inference_memory())
    for fits, free, asked, used in (
        (needs[None, None], needs[None, None], (None, None), (None, None)),
        (needs[8, None], needs[8, None], (8, None), (8, None)),
        (needs[8, None] - 1, needs[8, None], (4, None), (4, None)),
        (needs[4, None], needs[4, None] - 1, (4, None), (2, None)),
        (needs[2, None], needs[1, 256], (2, None), (1, 256)),
        (0, 0, (1, 128), (1, 128)),  # there is nothing smaller to try
    ):
        seen = {}
        fakes = {
            "get_total_memory": lambda device, fits=fits: fits + kept,
            "get_free_memory": lambda device, free=free: free,
            "load_models_gpu": lambda models, memory_required, seen=seen: seen.update(asked=memory_required),
        }

        def decode_into(pictures, network, latent, piece, *others, seen=seen):
            seen.update(used=piece)

        ours = sys.modules[type(vae).__module__]
        with mock.patch.multiple(management, **fakes), mock.patch.object(ours, "decode_into", decode_into):
            door.host.decode(vae, latent)
        assert seen == {"asked": needs[asked], "used": used}, (seen, asked, used)


def check_latents_that_are_no_numbers_are_refused_before_they_leave_for_the_device(door):
    import comfy.model_management as management

    def load(*models, **memory):
        raise AssertionError("the VAE was loaded for nothing")

    for bad in (door.torch.nan, door.torch.inf):
        latent = door.usual.clone()
        latent[0, 3, 1, 2, 2] = bad
        with mock.patch.object(management, "load_models_gpu", load):
            refused(lambda latent=latent: door.host.decode(door.vae, latent), "latent", "NaN")
            refused(lambda latent=latent: door.core.VAEDecode().decode(door.vae, {"samples": latent}), "NaN")
            refused(lambda latent=latent: door.vae.decode_tiled(latent, 64, 64), "NaN")


def check_one_bar_counts_the_chunks_of_all_rows(door):
    import comfy.utils

    shown = []
    update = lambda bar, value, total=None, preview=None: shown.append((value, total))  # noqa: E731
    chunks = len(list(door.vae.first_stage_model.iter_decode(door.torch.zeros(1, 8, 4, 2, 2), 1)))
    with mock.patch.object(comfy.utils.ProgressBar, "update_absolute", update):
        door.host.decode(door.vae, door.torch.zeros(3, 8, 4, 2, 2), chunk=1)
        assert shown == [(done, 3 * chunks) for done in range(1, 3 * chunks + 1)], shown
        shown.clear()
        door.vae.encode(door.torch.rand(3, 17, 16, 16, 3), chunk=8)
    assert [value for value, _ in shown] == list(range(1, len(shown) + 1)), shown
    assert {total for _, total in shown} == {len(shown)} and len(shown) > 3
