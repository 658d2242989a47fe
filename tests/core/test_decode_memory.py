"""Where memory runs out without ComfyUI, a VAE goes on in smaller pieces, and the numbers are the same."""

from __future__ import annotations

from pathlib import Path

import pyramid_video
import pytest
import torch
from pyramid_video.host.standalone import wires as standalone_wires
from pyramid_video.models import checkpoints

WEIGHTS = Path(pyramid_video.__file__).parent / "models" / "pretrained" / "vae" / "pyramid_video_small_vae.safetensors"


@pytest.fixture
def vae():
    network, info = checkpoints.load(WEIGHTS, ("causal_vae",), dtype=torch.float32)
    return standalone_wires.VAE(network, info, torch.device("cpu"))


def watch(vae, failures: int):
    """The pieces that are tried, of which the first ones find no memory."""
    decode, iter_decode, tried = vae.network.decode, vae.network.iter_decode, []

    def short_of_memory(chunk, tile):
        tried.append((chunk, tile))
        if len(tried) <= failures:
            raise torch.OutOfMemoryError("the card is full")

    def tiles(latent, chunk, tile, on_chunk):
        short_of_memory(chunk, tile)
        return decode(latent, chunk, tile, on_chunk)

    def chunks(latent, chunk, on_chunk):
        short_of_memory(None if chunk == latent.shape[2] else chunk, None)
        return iter_decode(latent, chunk, on_chunk)

    vae.network.decode, vae.network.iter_decode = tiles, chunks
    return tried


@torch.no_grad()
def test_decoding_goes_on_in_smaller_pieces(vae):
    latent = torch.randn(1, vae.network.config.latent_channels, 9, 4, 4)
    expected = vae.decode(latent)
    tried = watch(vae, failures=2)
    torch.testing.assert_close(vae.decode(latent), expected)
    assert tried == [(None, None), (8, None), (4, None)]


@torch.no_grad()
def test_what_cannot_fit_is_not_tried_and_the_last_failure_is_told(vae, monkeypatch):
    latent = torch.randn(1, vae.network.config.latent_channels, 4, 4, 4)
    monkeypatch.setattr(standalone_wires, "free_memory", lambda device: 0)
    tried = watch(vae, failures=1)
    with pytest.raises(torch.OutOfMemoryError, match="the card is full"):
        vae.decode(latent)
    assert tried == [(1, 256)]


@torch.no_grad()
def test_encoding_goes_on_in_smaller_pieces(vae, monkeypatch):
    pixels = torch.rand(17, 32, 32, 3)
    expected = vae.encode(pixels)
    encode, tried = vae.network.encode, []

    def short_of_memory(video, chunk, tile):
        tried.append((chunk, tile))
        if len(tried) < 4:
            raise RuntimeError("MPS backend out of memory")  # a device without an error class of its own
        return encode(video, chunk, tile)

    monkeypatch.setattr(vae.network, "encode", short_of_memory)
    torch.testing.assert_close(vae.encode(pixels), expected)
    step = vae.info.time_compression
    assert tried == [(None, None), (8 * step, None), (4 * step, None), (2 * step, None)]


def test_other_errors_are_raised_at_once(vae, monkeypatch):
    tried = []

    def broken(latent, chunk, on_chunk):
        tried.append(chunk)
        raise RuntimeError("a kernel failed")

    monkeypatch.setattr(vae.network, "iter_decode", broken)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        vae.decode(torch.zeros(1, vae.network.config.latent_channels, 4, 4, 4))
    assert tried == [4]
