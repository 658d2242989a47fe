"""Short digests that tell networks apart, quick even for large ones: by their weights, or by their shapes alone."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

SAMPLES = 64  # numbers of each tensor that are looked at
COMPILED = "_orig_mod."  # what torch.compile puts before the names in a module that it wraps


def fingerprint(*networks: nn.Module, prefixes: tuple[str, ...] = ("",)) -> str:
    """Digest of names, shapes and evenly spaced numbers of all tensors whose names begin with one of `prefixes`.

    Training and LoRAs change nearly every number of the tensors they touch, so a few of each tell; reading billions of
    them would take longer than what the fingerprint saves.
    """
    digest = hashlib.sha256()
    for network in networks:
        chosen = sorted(item for item in network.state_dict().items() if item[0].startswith(prefixes))
        for name, tensor in chosen:
            digest.update(name.encode() + some_numbers(tensor))
    return digest.hexdigest()[:32]


def some_numbers(tensor: Tensor) -> bytes:
    """The shape and evenly spaced numbers of a tensor."""
    flat = tensor.detach().reshape(-1)
    places = torch.linspace(0, max(0, len(flat) - 1), min(SAMPLES, len(flat)), dtype=torch.float64).long()
    numbers = flat[places.to(flat.device)].float().cpu().contiguous()
    return f" {tuple(tensor.shape)}".encode() + numbers.numpy().tobytes()


def shapes_digest(network: nn.Module) -> str:
    """Digest of names and shapes of all tensors: the same for all weights of one kind of network, compiled or not."""
    shapes = sorted((name.replace(COMPILED, ""), tuple(weight.shape)) for name, weight in network.state_dict().items())
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:12]
