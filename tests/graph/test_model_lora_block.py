"""'Train LoRA (any model)': what it makes of clips and captions, what it refuses, and what it leaves."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.nodes.model_lora_training import default_plan
from torch import nn
from training_tools import run, settings

pytest_plugins = ["training_fixtures"]  # the fixtures host, inputs, models and parts

CHANNELS = 3


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(CHANNELS, CHANNELS) for _ in range(2))


class Model:
    """A flow whose velocity depends on its text; it keeps what it was shown."""

    name, is_flow, steps, device = "Model", True, 0, torch.device("cpu")

    def __init__(self) -> None:
        self.network, self.shown = Network(), []

    def begin_step(self):
        self.steps += 1

    def loss(self, clip, level, noise):
        self.shown.append(clip)
        x = clip.latent.movedim(1, -1) + level * noise((1,))
        for block in self.network.blocks:
            x = x + torch.tanh(block(x)) * clip.conditioning[0][0].mean()
        return (x - 1).square().mean()


class Training:
    """As the host that has such models: latents are the colours of every fourth frame's blocks of 8 pixels."""

    def __init__(self) -> None:
        self.read, self.shape = [], None

    def check(self, model):
        assert isinstance(model, Model)

    def encode_prompt(self, clip, text):
        self.read.append(text)
        return [[torch.full((1, 2, 4), 1.0 + len(text)), {"pooled_output": None}]]

    def encode(self, vae, images, model):
        assert images.min() > -1e-5 and images.max() < 1 + 1e-5
        return images[::4, ::8, ::8].movedim(-1, 0)[None]

    def start_latent(self, vae, images, model):
        return -self.encode(vae, images, model)

    def train(self, model, shape, prompt, learn):
        self.shape = shape
        with torch.enable_grad():
            learn(model)


@pytest.fixture
def training(host, monkeypatch):
    made = Training()
    monkeypatch.setattr(StandaloneHost, "model_training", made)
    return made


def train(parts, model=None, name="mine", **more):
    plan = more.pop("settings", None) or settings(2, learning_rate=1e-2)
    given = {"rank": 2, "alpha": 2.0, "targets": "all", "first_frames": False, **more}
    (trained,) = run(
        "PyramidVideoTrainModelLoRA", **parts, model=model or Model(), run_name=name, settings=plan, **given
    )
    return trained


def test_without_comfyui_it_says_where_such_models_are_trained(parts):
    with pytest.raises(ValueError, match=r"trained in ComfyUI\. For the models of this pack take 'Train LoRA'"):
        train(parts)


def test_clips_and_captions_reach_the_model_and_a_file_comes_out(host, training, parts):
    model = Model()
    trained = train(parts, model)
    assert training.shape == (CHANNELS, 2, 8, 8)
    lengths = [len(text) for text in training.read]
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] == 0 and len(set(training.read)) == len(lengths) > 1
    for clip in model.shown:
        ((tokens, extras),) = clip.conditioning
        assert clip.latent.shape == (1, CHANNELS, 2, 8, 8) and clip.start is None
        assert extras["frame_rate"] == 8.0 and tokens.shape == (1, 2, 4)
    (wire,) = run("PyramidVideoSaveTrainedLoRA", run=trained, name="mine")
    assert {key.rsplit(".", 2)[0] for key in wire} >= {f"diffusion_model.blocks.{n}" for n in range(2)}
    assert "mine.safetensors" in host.list_models("loras")
    picture, losses = run("PyramidVideoTrainingCurves", run=trained)
    assert picture.ndim == 4 and len(losses["loss"]) == 2


def test_a_second_run_takes_the_latents_of_the_first_and_goes_on(training, parts, monkeypatch):
    first = train(parts)
    monkeypatch.setattr(Training, "encode", None)  # which is not called again
    again = train(parts, settings=settings(4, learning_rate=1e-2))
    assert (first.run.step, again.run.step) == (2, 4)


def test_start_pictures_come_with_their_latents_and_are_other_data(training, parts):
    model = Model()
    train(parts, model, first_frames=True)
    assert training.shape[0] == CHANNELS
    assert all(torch.equal(clip.start, -clip.latent) and clip.latent.any() for clip in model.shown)
    with pytest.raises(ValueError, match="its data differs"):
        train(parts, first_frames=False)


def test_latents_that_the_model_does_not_read_are_refused_with_the_first_clip(training, parts, monkeypatch):
    calls = []

    def encode(self, vae, images, model):
        calls.append(1)
        raise ValueError("this VAE makes latents of 3 channels")

    monkeypatch.setattr(Training, "encode", encode)
    with pytest.raises(ValueError, match="this VAE makes latents of 3 channels"):
        train(parts)
    assert calls == [1] and training.shape is None and not training.read


def test_captions_that_no_memory_holds_are_refused_after_the_first(host, training, parts, monkeypatch):
    class Memory:
        def free_memory(self):
            return 100

    monkeypatch.setattr(StandaloneHost, "any_model", Memory())
    with pytest.raises(ValueError, match=r"captions of 0\.0 MB each do not fit in half of the 0\.0 GB.*lower clips"):
        train(parts)
    (longest,) = training.read
    assert longest and training.shape is None


def test_large_models_learn_one_clip_at_a_time_and_keep_little():
    plan = default_plan()
    assert plan.batch_size == 1 and plan.settings.gradient_checkpointing and plan.settings.precision == "auto"
