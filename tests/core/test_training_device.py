"""Training stays on the device of the host: accelerate looks for a card itself, whatever the host was told."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from pyramid_video.host import use_host
from pyramid_video.nodes.trainer_base import stay_with_host


@pytest.mark.parametrize(("device", "told"), [("cpu", "true"), ("cuda", None), ("mps", None)])
def test_a_host_on_the_cpu_keeps_training_there(monkeypatch, device, told):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "")  # so that what is set meanwhile is taken back
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    use_host(SimpleNamespace(device=torch.device(device)))
    try:
        stay_with_host()
        assert os.environ.get("ACCELERATE_USE_CPU") == told
    finally:
        use_host(None)
