"""Checks of the VAE in ComfyUI, run by `door.py`."""

from __future__ import annotations

from door_tools import same


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


def check_vae_falls_back_to_smaller_pieces(door):
    """Whole clips, then chunks, then tiles: the first that fits is the answer, and chunks give the same pictures."""
    import comfy.model_management

    network, tried = door.vae.first_stage_model, []
    decode_one = door.vae.decode_one

    def scarce(latent, chunk, tile):
        tried.append((chunk, tile))
        if chunk is None or chunk > 1:
            raise comfy.model_management.OOM_EXCEPTION("for the test")
        return decode_one(latent, chunk, tile)

    door.vae.decode_one = scarce
    try:
        pictures = door.host.decode(door.vae, door.usual)
    finally:
        del door.vae.decode_one
    assert tried[0] == (None, None) and tried[-1] == (1, None) and network is door.vae.first_stage_model
    same(door, pictures, door.host.decode(door.vae, door.usual), 1e-5)
