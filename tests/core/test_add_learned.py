"""What a network learned since, added to another."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pyramid_video.models import checkpoints
from pyramid_video.models.families import ModelFamily
from pyramid_video.models.latent_format import LatentFormat
from pyramid_video.models.miniflux import MiniFluxTransformer, init_weights
from pyramid_video.recipes.emoji.add_learned import add_learned
from small_recipe import narrow_vae
from test_lora import MINIFLUX

FORMAT = LatentFormat("tiny", 0.1, 2.0, 0.0, 1.5)
FLOW, GAN = ModelFamily("flow"), ModelFamily("gan")


def write(folder, name, seed, family=FLOW, config=MINIFLUX):
    network = MiniFluxTransformer(config)
    init_weights(network, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    extra = {"family": family.to_dict()}
    return checkpoints.save(
        folder / f"{name}.safetensors", network, "miniflux", config, FORMAT, extra, dtype=torch.float16
    )


def weights(path):
    return checkpoints.load(path, ("miniflux",), dtype=torch.float32)[0].state_dict()


def test_the_whole_of_what_was_learned_brings_the_earlier_to_the_later_and_nothing_changes_nothing(tmp_path):
    earlier, later = write(tmp_path, "earlier", 1), write(tmp_path, "later", 2)
    gan = write(tmp_path, "gan", 3, GAN)
    brought = weights(add_learned(earlier, later, earlier, 1.0, tmp_path / "brought.safetensors"))
    same = weights(add_learned(gan, later, earlier, 0.0, tmp_path / "same.safetensors"))
    for made, wanted in ((brought, weights(later)), (same, weights(gan))):
        torch.testing.assert_close(made, wanted, rtol=1e-3, atol=1e-4)  # rounded to float16
    there = add_learned(gan, later, earlier, 0.5, tmp_path / "there.safetensors")
    back = weights(add_learned(there, later, earlier, -0.5, tmp_path / "back.safetensors"))
    torch.testing.assert_close(back, weights(gan), rtol=2e-3, atol=1e-3)


def test_the_file_says_what_the_model_said(tmp_path):
    flows = [write(tmp_path, name, seed) for seed, name in enumerate(("later", "earlier"))]
    made = add_learned(write(tmp_path, "gan", 3, GAN), *flows, 0.5, tmp_path / "made.safetensors")
    info = checkpoints.inspect(made, ("miniflux",))
    assert (info.family, info.latent_format, info.dtype) == (GAN, FORMAT, torch.float16)


def test_half_of_what_a_decoder_learned_is_the_mean_of_two(tmp_path):
    vaes, paths = [narrow_vae(), narrow_vae()], []
    with torch.no_grad():
        vaes[1].decoder.conv_out.conv.bias.add_(1.0)
    for number, vae in enumerate(vaes):
        path = tmp_path / f"{number}.safetensors"
        paths.append(checkpoints.save(path, vae, "causal_vae", vae.config, dtype=torch.float16))
    made = add_learned(paths[0], paths[1], paths[0], 0.5, tmp_path / "made.safetensors")
    mean, info = checkpoints.load(made, ("causal_vae",), dtype=torch.float32)
    torch.testing.assert_close(mean.decoder.conv_out.conv.bias, vaes[0].decoder.conv_out.conv.bias + 0.5)
    assert info.metadata == checkpoints.inspect(paths[0], ("causal_vae",)).metadata
    with pytest.raises(ValueError, match="of other sizes than"):
        add_learned(write(tmp_path, "flow", 1), *paths, 0.5, tmp_path / "neither.safetensors")


def test_other_sizes_are_refused(tmp_path):
    small = write(tmp_path, "small", 1)
    large = write(tmp_path, "large", 2, config=replace(MINIFLUX, num_single_layers=3))
    with pytest.raises(ValueError, match=r"large\.safetensors is a network of other sizes than .*small"):
        add_learned(small, large, small, 1.0, tmp_path / "made.safetensors")
    assert not (tmp_path / "made.safetensors").exists()
