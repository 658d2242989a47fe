"""Where memory runs out without ComfyUI, a VAE goes on in smaller pieces, and the numbers are the same."""

from __future__ import annotations

import weakref
from pathlib import Path

import pyramid_video
import pytest
import torch
from pyramid_video.host.standalone import wires as standalone_wires
from pyramid_video.models import checkpoints
from pyramid_video.models.out_of_memory import is_out_of_memory
from pyramid_video.models.vae_pieces import as_memory_allows

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

    def tiles(latent, chunk, tile, *others):
        short_of_memory(chunk, tile)
        return decode(latent, chunk, tile, *others)

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


FULL_CARD = [
    "GET was unable to find an engine to execute this computation",  # of a convolution without room for its buffers
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
    "HIP out of memory. Tried to allocate 2.00 GiB",
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
    "Invalid buffer size: 19.38 GiB",
    "Could not allocate tensor with 268435456 bytes. There is not enough GPU video memory available!",
    "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    "Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES) -5 (PI_ERROR_OUT_OF_RESOURCES)",
    "VRAM grow failed: 268435456 bytes",
    "VRAM reservation failed",
]


@pytest.mark.parametrize("words", FULL_CARD)
def test_a_card_is_full_in_whatever_words_it_is_said(words):
    assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED"))


def test_the_class_of_a_full_card_needs_no_newer_torch(monkeypatch):
    """In torch 2.4 its name is below torch.cuda."""
    full, other = torch.cuda.OutOfMemoryError("3 GiB"), RuntimeError("a kernel failed")
    monkeypatch.delattr(torch, "OutOfMemoryError", raising=False)
    assert is_out_of_memory(full) and not is_out_of_memory(other)


@torch.no_grad()
def test_what_an_attempt_made_is_gone_before_the_next():
    """The error of an attempt holds its frames, and they its tensors."""
    made, left = [], []

    def work(chunk, tile):
        left.append([tensor for tensor in made if tensor() is not None])
        held = torch.zeros(4)
        made.append(weakref.ref(held))
        if chunk is None:
            raise torch.cuda.OutOfMemoryError("the card is full")
        return held

    assert as_memory_allows(work, [(None, None), (8, None)], (None, None), lambda: None).shape == (4,)
    assert left == [[], []]


@torch.no_grad()
def test_encoding_goes_on_in_smaller_pieces(vae, monkeypatch):
    pixels = torch.rand(17, 32, 32, 3)
    expected = vae.encode(pixels)
    encode, tried = vae.network.encode, []

    def short_of_memory(video, chunk, tile, **others):
        tried.append((chunk, tile))
        if len(tried) < 4:
            raise RuntimeError("MPS backend out of memory")  # a device without an error class of its own
        return encode(video, chunk, tile, **others)

    monkeypatch.setattr(vae.network, "encode", short_of_memory)
    torch.testing.assert_close(vae.encode(pixels), expected)
    step = vae.info.time_compression
    assert tried == [(None, None), (8 * step, None), (4 * step, None), (2 * step, None)]


@torch.no_grad()
def test_a_clip_comes_to_the_device_in_the_pieces_that_it_is_encoded_in(vae, monkeypatch):
    step, placed, came = vae.info.time_compression, vae._placed, []
    monkeypatch.setattr(vae, "_placed", lambda part: came.append(part.shape[2]) or placed(part))
    vae.encode(torch.rand(1 + 3 * step, 32, 32, 3), step)
    assert came == [1 + step, step, step]


def test_other_errors_are_raised_at_once(vae, monkeypatch):
    tried = []

    def broken(latent, chunk, on_chunk):
        tried.append(chunk)
        raise RuntimeError("a kernel failed")

    monkeypatch.setattr(vae.network, "iter_decode", broken)
    with pytest.raises(RuntimeError, match="a kernel failed"):
        vae.decode(torch.zeros(1, vae.network.config.latent_channels, 4, 4, 4))
    assert tried == [4]
