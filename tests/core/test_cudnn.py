"""Where torch leaves cuDNN out, a VAE asks it itself, with channels last, and gets the same pictures."""

from __future__ import annotations

import inspect
from pathlib import Path

import pyramid_video
import pytest
import torch
import torch.nn.functional as F
from pyramid_video.models import checkpoints, cudnn

WEIGHTS = Path(pyramid_video.__file__).parent / "models" / "pretrained" / "vae" / "pyramid_video_small_vae.safetensors"


@pytest.fixture
def asked(monkeypatch):
    """What cuDNN is asked for, which a CPU works out; torch would leave it out."""
    seen = []

    def convolution(input, weight, padding, stride, dilation, groups, benchmark, deterministic, allow_tf32):
        seen.append((input, weight))
        return F.conv3d(input, weight, None, stride, padding, dilation, groups)

    schema = [argument.name for argument in torch.ops.aten.cudnn_convolution.default._schema.arguments]
    assert ["input" if name == "self" else name for name in schema] == list(inspect.signature(convolution).parameters)
    monkeypatch.setattr(torch, "cudnn_convolution", convolution)
    monkeypatch.setattr(cudnn, "is_left_out", lambda x, weight: True)
    return seen


def test_a_vae_gives_the_same_both_ways(asked, monkeypatch):
    vae, _ = checkpoints.load(WEIGHTS, ("causal_vae",), dtype=torch.float32)
    vae.requires_grad_(False)
    latent = torch.randn(1, vae.config.latent_channels, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        by_cudnn = vae.decode(latent, chunk=1)
        encoded = vae.encode(by_cudnn.clamp(-1, 1)).mean
        count = len(asked)
        monkeypatch.setattr(cudnn, "is_left_out", lambda x, weight: False)
        torch.testing.assert_close(vae.decode(latent, chunk=1), by_cudnn, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(vae.encode(by_cudnn.clamp(-1, 1)).mean, encoded, atol=1e-4, rtol=1e-4)
    assert count and len(asked) == count
    assert all(tensor.is_contiguous(memory_format=torch.channels_last_3d) for pair in asked for tensor in pair)


VERSIONS = [
    ("2.4.1+cu121", 90100, False),
    ("2.8.0+cu128", 91002, False),  # torch has not noticed yet and asks it
    ("2.9.0+cu128", 91002, True),
    ("2.9.1+cu130", 91300, True),
    ("2.9.0+cu130", 92100, True),  # does without all that come later
    ("2.10.0+cu128", 91002, True),
    ("2.10.0+cu128", 91501, False),
    ("2.14.1+cu130", 92400, False),
    ("2.14.0a0+gitabc", 90701, False),
]


@pytest.mark.parametrize(("version", "cudnn_version", "avoided"), VERSIONS)
def test_which_versions_leave_it_out(version, cudnn_version, avoided):
    assert cudnn.is_avoided(version, cudnn_version) == avoided


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_cards_and_half_types_ask_it(monkeypatch, dtype):
    from torch._subclasses import FakeTensorMode

    monkeypatch.setattr(cudnn, "avoids_cudnn", lambda: True)
    half = dtype == torch.bfloat16
    with FakeTensorMode():
        card, weight = (torch.empty(1, 4, 3, 8, 8, device="cuda", dtype=dtype) for _ in range(2))
        learned = weight.clone().requires_grad_()
        assert cudnn.is_left_out(card, weight) == half
        assert not cudnn.is_left_out(card, weight.to(torch.float64))
        assert not cudnn.is_left_out(card, learned), "its backward would not be cuDNN's"
        with torch.no_grad():
            assert cudnn.is_left_out(card, learned) == half
    here = torch.zeros(1, 4, 3, 8, 8, dtype=dtype)
    assert not cudnn.is_left_out(here, here)
