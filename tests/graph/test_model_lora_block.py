"""'Train LoRA (any model)': what it makes of clips and captions, what it refuses, and what it leaves."""

from __future__ import annotations

import weakref

import pytest
import torch
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.nodes import training_progress
from pyramid_video.nodes.model_lora_training import default_plan
from pyramid_video.runner.registry import node_classes
from pyramid_video.training.run.validation import ValidationPlan
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

    name, is_flow, steps, device, gradient_scale = "Model", True, 0, torch.device("cpu"), 1.0

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
        self.checked, self.read, self.shape, self.lent, self.sampled, self.wholes = [], [], None, 0, [], 0

    def check(self, model):
        assert isinstance(model, Model)

    def check_sizes(self, vae, model, sizes):
        assert list(sizes) == [(64, 64)]

    def encode_prompt(self, clip, text):
        self.read.append(text)
        return [[torch.full((1, 2, 4), 1.0 + len(text)), {"pooled_output": None}]]

    def encode(self, vae, images, model):
        assert images.min() > -1e-5 and images.max() < 1 + 1e-5
        return images[::4, ::8, ::8].movedim(-1, 0)[None]

    def check_clip(self, model, clip):
        self.checked.append(clip)

    def starts_in_place(self, model):
        return False

    def start_latent(self, vae, images, model):
        return -self.encode(vae, images, model)

    def whole(self, model):
        self.wholes += 1
        return model

    def train(self, model, shape, prompt, learn):
        self.shape = shape
        with torch.enable_grad():
            learn(model)
        self.lent += 1

    def sample(self, model, lora, clips, negative, cfg, steps, seed):
        assert not any(module._forward_hooks for module in model.network.modules())
        self.sampled.append((lora, clips, negative, cfg, steps, seed))
        return [torch.full_like(clip.latent, number / 10) for number, clip in enumerate(clips)]

    def decode(self, vae, latent):
        return latent[0].movedim(0, -1).repeat_interleave(8, 1).repeat_interleave(8, 2)


@pytest.fixture
def training(host, monkeypatch):
    made = Training()
    monkeypatch.setattr(StandaloneHost, "model_training", made)
    return made


def train(parts, model=None, name="mine", **more):
    plan = more.pop("settings", None) or settings(2, learning_rate=1e-2)
    given = {"rank": 2, "alpha": 2.0, "targets": "all", "first_frames": False, "validation": None}
    given |= {"start_percent": 0.0, "end_percent": 1.0, **more}
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
    (first,), (nothing, *lengths) = training.checked, map(len, training.read)
    assert nothing == 0 and first.latent.shape == (1, CHANNELS, 2, 8, 8)
    assert lengths == sorted(lengths, reverse=True) and len(set(training.read)) == 1 + len(lengths) > 1
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


def test_a_run_leaves_its_device_at_its_end_and_when_it_is_stopped(training, parts, monkeypatch):
    stopped = []

    def stop(reporter, *_):
        stopped.append(reporter.run)
        raise InterruptedError

    finished = train(parts).run
    monkeypatch.setattr(training_progress.ProgressReporter, "__call__", stop)
    with pytest.raises(InterruptedError):
        train(parts, name="stopped")
    for left, place in ((finished, "cpu"), (stopped[0], "meta")):
        assert {tensor.device.type for tensor in left.modules["lora"].parameters()} == {place}
        assert not left.optimizer.state


def test_start_pictures_come_with_their_latents_and_are_other_data(training, parts):
    model = Model()
    train(parts, model, first_frames=True)
    assert training.shape[0] == CHANNELS
    assert all(torch.equal(clip.start, -clip.latent) and clip.latent.any() for clip in model.shown)
    with pytest.raises(ValueError, match="its data differs"):
        train(parts, first_frames=False)


def test_a_model_that_starts_in_place_learns_from_the_same_latents_as_another_run(training, parts, monkeypatch):
    train(parts, name="plain")
    monkeypatch.setattr(Training, "starts_in_place", lambda self, model: True)
    monkeypatch.setattr(Training, "start_latent", None)  # which is for those that are shown it beside
    monkeypatch.setattr(Training, "encode", None)  # latents are those of the other run
    model = Model()
    train(parts, model, first_frames=True, validation=ValidationPlan(("a new one",), every=1))
    assert all(clip.starts_in_place and clip.start is None for clip in model.shown)
    assert training.shape == (CHANNELS, 2, 8, 8) and training.sampled[-1][1][0].starts_in_place
    with pytest.raises(ValueError, match="its data differs"):
        train(parts, first_frames=False)


def test_a_start_in_place_needs_something_after_it(training, parts, monkeypatch):
    monkeypatch.setattr(Training, "starts_in_place", lambda self, model: True)
    encoded = []

    def encode(self, *_):
        encoded.append(torch.zeros(1, CHANNELS, 1, 8, 8))
        return encoded[-1]

    monkeypatch.setattr(Training, "encode", encode)
    wanted = {"match": "first_frames is on.* choose more frames"}
    with pytest.raises(ValueError, **wanted):
        train(parts, first_frames=True)
    assert len(encoded) == 1
    train(parts, name="still", first_frames=False)  # which keeps such latents
    with pytest.raises(ValueError, **wanted):
        train(parts, first_frames=True)


def test_latents_that_the_model_does_not_read_are_refused_with_the_first_clip(training, parts, monkeypatch):
    calls = []

    def encode(self, vae, images, model):
        calls.append(1)
        raise ValueError("this VAE makes latents of 3 channels")

    monkeypatch.setattr(Training, "encode", encode)
    with pytest.raises(ValueError, match="this VAE makes latents of 3 channels"):
        train(parts)
    assert calls == [1] and training.shape is None and not training.read


def test_texts_that_the_model_does_not_read_are_refused_with_the_first_clip(training, parts, monkeypatch):
    encoded, usual = [], Training.encode

    def check_clip(self, model, clip):
        raise ValueError("wire the text encoder that belongs to the model")

    monkeypatch.setattr(Training, "encode", lambda *given: encoded.append(1) or usual(*given))
    monkeypatch.setattr(Training, "check_clip", check_clip)
    with pytest.raises(ValueError, match="wire the text encoder"):
        train(parts)
    assert encoded == [1] and training.read == [""] and training.shape is None


def test_sizes_that_the_model_does_not_read_are_refused_before_the_first_clip(training, parts, monkeypatch):
    def check_sizes(self, vae, model, sizes):
        raise ValueError("clips of 64x64 pixels do not fit")

    monkeypatch.setattr(Training, "check_sizes", check_sizes)
    monkeypatch.setattr(Training, "encode", None)  # which is not called
    with pytest.raises(ValueError, match="clips of 64x64 pixels do not fit"):
        train(parts)


def test_captions_that_no_memory_holds_are_refused_after_the_first(host, training, parts, monkeypatch):
    class Memory:
        def free_memory(self):
            return 100

    monkeypatch.setattr(StandaloneHost, "any_model", Memory())
    with pytest.raises(ValueError, match=r"captions of 0\.0 MB each do not fit in half of the 0\.0 GB.*lower clips"):
        train(parts)
    nothing, longest = training.read
    assert longest and not nothing and training.shape is None


def test_large_models_learn_one_clip_at_a_time_and_keep_little():
    plan = default_plan()
    assert plan.batch_size == 1 and plan.settings.gradient_checkpointing and plan.settings.precision == "auto"


def test_validation_makes_clips_with_what_is_learned_so_far_and_changes_nothing(host, training, parts):
    plain = train(parts, name="plain", settings=settings(5, learning_rate=1e-2))
    (plan,) = run("PyramidVideoValidation", prompts="a ball\na kite", every=2, cfg=2.0, first_seed=3)
    model, long = Model(), settings(5, learning_rate=1e-2)
    watched = train(parts, model, validation=plan, settings=long)
    assert training.lent == 1 + 3 and training.wholes == 2
    for name, (_, up, _) in plain.parts().items():
        assert torch.equal(watched.parts()[name][1], up)
    folder = host.output_dir / "training" / "mine" / "validation"
    assert sorted(path.name for path in folder.iterdir()) == [f"step-000000{n}.webp" for n in (2, 4, 5)]
    assert [(cfg, steps, seed) for _, _, _, cfg, steps, seed in training.sampled] == [(2.0, 20, 3)] * 3
    tensors = [lora["diffusion_model.blocks.0.lora_up.weight"] for lora, *_ in training.sampled]
    assert not torch.equal(tensors[0], tensors[1]) and torch.equal(tensors[2], watched.parts()["blocks.0"][1])
    for _, clips, negative, *_ in training.sampled:
        assert [clip.latent.shape for clip in clips] == [(1, CHANNELS, 2, 8, 8)] * 2
        assert [float(clip.conditioning[0][0][0, 0, 0]) for clip in clips] == [7.0, 7.0]  # 1 + letters
        assert negative[0][0][0, 0, 0] == 1.0 and negative[0][1]["frame_rate"] == 8.0


def test_the_last_clips_of_a_finished_run_are_made_where_they_are_not_there(training, parts, monkeypatch):
    (plan,) = run("PyramidVideoValidation", prompts="a ball", every=9)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no memory"):
        patch.setattr(Training, "decode", lambda self, vae, latent: (_ for _ in ()).throw(RuntimeError("no memory")))
        train(parts, validation=plan)
    trained = train(parts, validation=plan)
    assert [path.name for path in (trained.run.folder / "validation").iterdir()] == ["step-0000002.webp"]
    count = len(training.sampled)
    assert train(parts, validation=plan).run.step == 2 and len(training.sampled) == count


def test_a_run_that_is_stopped_goes_on_to_the_same_validations(training, parts, monkeypatch):
    (plan,) = run("PyramidVideoValidation", prompts="a ball", every=2, steps=7)
    usual = training_progress.ProgressReporter.__call__

    def stop(self, step, losses):
        usual(self, step, losses)
        if step == 3:
            raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(training_progress.ProgressReporter, "__call__", stop)
        train(parts, validation=plan, settings=settings(5, learning_rate=1e-2))
    assert len(training.sampled) == 1
    trained = train(parts, validation=plan, settings=settings(5, learning_rate=1e-2))
    assert [path.name[-6:-5] for path in sorted((trained.run.folder / "validation").iterdir())] == ["2", "4", "5"]
    assert {steps for *_, steps, _ in training.sampled} == {7}


def test_one_clip_of_a_validation_at_a_time_is_there_in_floats(training, parts, monkeypatch):
    usual, decoded = Training.decode, []

    def decode(self, vae, latent):
        assert not any(clip() is not None for clip in decoded)
        pictures = usual(self, vae, latent)
        decoded.append(weakref.ref(pictures))
        return pictures

    monkeypatch.setattr(Training, "decode", decode)
    (plan,) = run("PyramidVideoValidation", prompts="a ball\na kite\na boat", every=9)
    train(parts, validation=plan)
    assert len(decoded) == 3


def test_validation_of_image_to_video_begins_with_start_pictures_of_the_data(training, parts):
    (plan,) = run("PyramidVideoValidation", prompts="a ball\na kite", every=9)
    train(parts, first_frames=True, validation=plan)
    starts = [clip.start for clip in training.sampled[0][1]]
    assert all(start.any() for start in starts) and not torch.equal(*starts)


@pytest.mark.parametrize("start, end", [(0.5, 0.5), (0.8, 0.2)])
def test_a_part_of_the_way_that_is_none_is_refused_before_anything_runs(training, parts, start, end):
    node = node_classes()["PyramidVideoTrainModelLoRA"]
    said = node.VALIDATE_INPUTS(run_name="mine", start_percent=start, end_percent=end)
    assert f"start_percent is {start} and end_percent {end}; expected two numbers from 0 to 1" in said
    assert node.VALIDATE_INPUTS(run_name="mine", start_percent=0.0, end_percent=0.5) is True
    with pytest.raises(ValueError, match="its noisy half"):
        train(parts, start_percent=start, end_percent=end)
    assert training.shape is None


def test_the_noisy_part_of_the_way_is_that_of_high_levels(training, parts):
    model = Model()
    levels = []
    usual = model.loss
    model.loss = lambda clip, level, noise: levels.append(level) or usual(clip, level, noise)
    train(parts, model, start_percent=0.1, end_percent=0.3)
    assert len(levels) == 9 and all(0.7 <= level <= 0.9 for level in levels[1:])
