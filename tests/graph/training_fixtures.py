"""A host with tiny models and a few animations, and what every trainer is wired to; modules name it as a plugin."""

from __future__ import annotations

import pytest
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from tiny_models import TEXT, VAE, make_animations, make_models
from training_tools import run


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_animations(tmp_path_factory.mktemp("input"))


@pytest.fixture
def host(models, inputs, tmp_path):
    host = StandaloneHost(models, inputs, tmp_path / "output", silent=True, device="cpu")
    use_host(host)
    yield host
    use_host(None)


@pytest.fixture
def parts(host):
    """What every trainer is wired to."""
    (dataset,) = run(
        "PyramidVideoAnimationDataset", folder="animations", subjects="", size=64, frames=5, fps=8.0, split="train"
    )
    (vae,) = run("PyramidVideoLoadVAE", vae_name=VAE)
    (clip,) = run("PyramidVideoLoadTextEncoder", text_encoder_name=TEXT)
    return {"dataset": dataset, "vae": vae, "clip": clip, "clips": 3}
