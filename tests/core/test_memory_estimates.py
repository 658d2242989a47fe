"""What a host is asked to keep free: at least what the networks take, and less than a third more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from pyramid_video.models import skip_init
from pyramid_video.models.causal_vae import CausalVideoVAE, in_chunks
from pyramid_video.models.causal_vae_config import CausalVAEConfig
from pyramid_video.models.helios import HeliosConfig, HeliosTransformer
from pyramid_video.models.history_levels import UNIT_FRAMES
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.mmdit import MMDiTConfig, MMDiTTransformer
from pyramid_video.models.vae_pieces import decode_into, shape_of_tile
from pyramid_video.models.wan_vae import UNIT_PICTURES, WanVAE, WanVAEConfig
from pyramid_video.recipes.emoji.recipe import RECIPES
from pyramid_video.samplers.history import history_clips

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from _live_tensors import LiveTensors  # noqa: E402
from helios_memory import activations  # noqa: E402

BF16 = 2  # bytes
ROWS, TEXT, STAGES = 2, 60, 3
MOST = 1.3  # times what is taken
SHALLOW = {  # of full width; a block gives back what it took
    "miniflux": (MiniFluxTransformer, MiniFluxConfig(num_layers=1, num_single_layers=2)),
    "sd3": (MMDiTTransformer, MMDiTConfig(num_layers=2)),
}


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta", dtype=torch.bfloat16)


def fused(query, key, value, *_, **__) -> torch.Tensor:
    """Attention that takes no memory but its answer, as on a card."""
    return torch.empty_like(query)


@pytest.mark.parametrize("frames", [1, 2, 16, 31])
@pytest.mark.parametrize("kind", SHALLOW)
def test_pyramid_transformers(kind, frames):
    """The last frame at the last stage, which sees most."""
    network, config = SHALLOW[kind]
    rows, columns = 48, 80
    network = network(config, ops=skip_init, device="meta", dtype=torch.bfloat16)
    network.attention = fused
    sizes = [(rows >> shift, columns >> shift) for shift in reversed(range(STAGES))]
    finished = [empty(ROWS, config.latent_channels, frames - 1, *size) for size in sizes]
    past = history_clips(finished, STAGES - 1) if frames > 1 else ()
    given = (*past, empty(ROWS, config.latent_channels, 1, rows, columns)), torch.empty(ROWS, device="meta")
    text = empty(ROWS, TEXT, config.text_width), torch.ones(ROWS, TEXT), empty(ROWS, config.pooled_width)
    with torch.no_grad(), LiveTensors() as counted:
        network(*given, *text)
    asked = BF16 * ROWS * rows * columns * config.frames_at_once(frames) * config.live_numbers
    assert counted.peak <= asked <= MOST * counted.peak


@pytest.mark.parametrize("batch", [1, 2])
def test_helios(batch):
    config = HeliosConfig(num_layers=2)
    network = HeliosTransformer(config, ops=skip_init, device="meta", dtype=torch.bfloat16)
    network.attention = fused
    counted = activations(network, 640, 384, batch)
    asked = BF16 * batch * 48 * 80 * config.frames_at_once(33) * config.live_numbers
    assert counted <= asked <= MOST * counted


@pytest.mark.parametrize(("frames", "chunk"), [(1, None), (17, None), (33, 8)])
def test_encoding(frames, chunk, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused)
    config, video = CausalVAEConfig(), empty(1, 3, frames, 96, 160)
    check_vae("_to_moments", video, chunk, config.encode_numbers(tuple(video.shape), chunk))


@pytest.mark.parametrize(("frames", "chunk"), [(1, None), (3, None), (4, 1)])
def test_decoding(frames, chunk, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused)
    config, latent = CausalVAEConfig(), empty(1, 16, frames, 12, 20)
    check_vae("_to_video", latent, chunk, config.decode_numbers(tuple(latent.shape), chunk))


@pytest.mark.parametrize("frames", [1, 5])
def test_decoding_with_blocks_of_one_width(frames, monkeypatch):
    """As the small VAE of 128 pixels has them: there the input itself waits beside a block."""
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused)
    config = CausalVAEConfig(**RECIPES[128].vae)
    latent = empty(1, config.decoder_in_channels, frames, 16, 16)
    check_vae("_to_video", latent, None, config.decode_numbers(tuple(latent.shape), None), config)


class LeavingTensors(LiveTensors):
    """Lets tensors of the meta device, which hold nothing, leave it all the same."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default and str(kwargs.get("device")) == "cpu":
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        return super().__torch_dispatch__(function, types, args, kwargs)

    def add(self, storage: torch.UntypedStorage) -> None:
        if storage.device.type == "meta":
            super().add(storage)


def test_tiles_of_a_long_clip_need_what_those_of_a_short_one_need(monkeypatch):
    """A device holds one piece of one tile: the rest of the clip waits where the pictures are."""
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused)
    config, tile, peaks = CausalVAEConfig(), 64, []
    network = CausalVideoVAE(config, ops=skip_init, device="meta", dtype=torch.bfloat16).eval()
    for frames in (3, 31):
        latent, pictures = empty(1, 16, frames, 8, 14), torch.empty(1, 8 * frames - 7, 64, 112, 3)
        with torch.no_grad(), LeavingTensors() as counted:
            decode_into(pictures, network, latent, (1, tile), lambda video: video.movedim(1, -1), lambda *_: None)
        peaks.append(counted.peak)
        assert counted.peak <= BF16 * config.decode_numbers(shape_of_tile(latent.shape, tile, 8), 1)
    assert peaks[1] <= 1.1 * peaks[0]


def test_a_clip_comes_to_the_device_in_the_pieces_that_it_is_encoded_in():
    config, peaks = CausalVAEConfig(), []
    network = CausalVideoVAE(config, ops=skip_init, device="meta", dtype=torch.bfloat16).eval()
    for frames in (17, 121):
        video = torch.empty(1, 3, frames, 64, 64, device="meta")
        with torch.no_grad(), LiveTensors() as counted:
            network.encode(video, 8, bring=lambda part: part.to(torch.bfloat16))
        peaks.append(counted.peak)
        assert counted.peak <= BF16 * config.encode_numbers(tuple(video.shape), 8)
    assert peaks[1] <= 1.1 * peaks[0]


@pytest.mark.parametrize("work", ["decode", "encode"])
def test_a_unit_of_the_vae_of_wan(work):
    pytest.importorskip("diffusers")
    config = WanVAEConfig()
    network = WanVAE(config, device="meta", dtype=torch.bfloat16).eval()
    if work == "decode":
        given, run, numbers = empty(1, 16, UNIT_FRAMES, 12, 20), network._to_video, config.decode_numbers
    else:
        given, run, numbers = empty(1, 3, UNIT_PICTURES, 96, 160), network._to_moments, config.encode_numbers
    with LiveTensors() as counted:
        run(given)
    assert counted.peak <= BF16 * numbers(tuple(given.shape), None) <= MOST * counted.peak


def check_vae(
    work: str, given: torch.Tensor, chunk: int | None, numbers: float, config: CausalVAEConfig | None = None
) -> None:
    network = CausalVideoVAE(config or CausalVAEConfig(), ops=skip_init, device="meta", dtype=torch.bfloat16).eval()
    with torch.no_grad(), LiveTensors() as counted:
        for part in in_chunks(getattr(network, work), given, chunk):
            del part
    assert counted.peak <= BF16 * numbers <= MOST * counted.peak
