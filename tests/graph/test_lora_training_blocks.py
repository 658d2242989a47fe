"""Training of LoRAs through the blocks: beside a base of any type, resume, validation, and what is refused."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from pyramid_video.models import checkpoints
from pyramid_video.models.families import ModelFamily
from pyramid_video.nodes import trainer_base
from pyramid_video.nodes.lora_training import objective_of
from pyramid_video.training.objectives import some_tokens
from pyramid_video.training.run.loop import TrainingRun
from tiny_models import MODEL
from training_tools import run, settings, train, train_lora, trainee

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from _live_tensors import LiveTensors

pytest_plugins = ["training_fixtures"]  # the fixtures host, inputs, models and parts


def test_a_lora_is_trained_saved_loaded_and_changes_the_clip(host, parts):
    base = checkpoints.load_state_dict(checkpoints.inspect(host.find_model("diffusion_models", MODEL)))
    trained = train_lora(parts, validation=run("PyramidVideoValidation", prompts="a ball", every=3, steps=1)[0])
    assert all(torch.equal(trained.base.state_dict()[key], value) for key, value in base.items())
    (wire,) = run("PyramidVideoSaveTrainedLoRA", run=trained, name="mine")
    assert "mine.safetensors" in host.list_models("loras") and all(key.startswith("diffusion_model.") for key in wire)

    (model,) = run("PyramidVideoLoadModel", model_name=MODEL)
    (positive,) = run("PyramidVideoEncodePrompt", clip=parts["clip"], text="a ball", add_quality_words=False)
    stages, _ = run("PyramidVideoStages", first_steps=1, video_steps=1)

    def clip_of(network):
        latent = {"samples": torch.zeros(1, 8, 2, 8, 8)}
        wired = {"positive": positive, "latent_image": latent, "seed": 1, "stages": stages}
        return run("PyramidVideoSampler", model=network, **wired)[0]["samples"]

    plain = clip_of(model)
    (off,) = run("LoraLoaderModelOnly", model=model, lora_name="mine.safetensors", strength_model=0.0)
    (on,) = run("LoraLoaderModelOnly", model=model, lora_name="mine.safetensors", strength_model=1.0)
    (by_wire,) = run("LoraModelLoader", model=model, lora=wire, strength_model=1.0)
    assert torch.equal(clip_of(by_wire), clip_of(on))
    assert torch.equal(clip_of(off), plain) and (clip_of(on) - plain).abs().max() > 1e-3
    assert torch.equal(clip_of(model), plain)


@pytest.mark.parametrize("base_dtype", ["fp32", "bf16", "fp8_e4m3fn"])
def test_a_lora_learns_in_float32_beside_a_base_of_any_type_and_resumes_exactly(parts, base_dtype):
    plan = run("PyramidVideoValidation", prompts="a ball", every=2, steps=1)[0]
    straight = train_lora(parts, name="straight", steps=4, base_dtype=base_dtype)
    train_lora(parts, name="broken", steps=2, base_dtype=base_dtype)
    again = train_lora(parts, name="broken", steps=4, base_dtype=base_dtype, validation=plan)
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8_e4m3fn": torch.float8_e4m3fn}[base_dtype]
    assert again.base.transformer_blocks[0].attn.to_q.weight.dtype == wanted
    kept = torch.load(again.run.folder / "state.pt", weights_only=True)["optimizer"]["state"]
    moments = [moment for state in kept.values() for moment in state.values()]
    learned = again.run.averaged()["lora"]
    assert moments and all(tensor.dtype == torch.float32 for tensor in (*moments, *learned.values()))
    for key, value in straight.run.averaged()["lora"].items():
        assert torch.equal(learned[key], value), key
    assert any(value.any() for key, value in learned.items() if key.endswith("up"))


def test_gradient_checkpointing_is_that_of_the_base_and_changes_no_number(parts):
    plain = train_lora(parts, name="plain")
    sparing = train_lora(parts, name="sparing", settings=settings(3, learning_rate=1e-2, gradient_checkpointing=True))
    assert sparing.base.gradient_checkpointing and not plain.base.gradient_checkpointing
    for key, value in plain.run.averaged()["lora"].items():
        assert torch.equal(sparing.run.averaged()["lora"][key], value), key


def test_on_a_cpu_the_type_of_the_base_is_float32_unless_asked(parts):
    exact, auto = (train_lora(parts, name=name, base_dtype=name) for name in ("fp32", "auto"))
    for key, value in exact.run.averaged()["lora"].items():
        assert torch.equal(auto.run.averaged()["lora"][key], value), key
    with pytest.raises(ValueError, match="base_dtype is 'fp4'; expected auto, fp32, bf16, fp8_e4m3fn"):
        train_lora(parts, base_dtype="fp4")


@pytest.fixture
def in_training(monkeypatch):
    """Runs stay on their device, as they are when a validation makes its clips."""
    monkeypatch.setattr(TrainingRun, "leaving_device", lambda run, *others: nullcontext())


def test_validation_of_a_model_uses_the_network_in_training_with_averaged_weights(parts, in_training):
    trained = train("flow", parts, settings=settings(2, average=0.5))
    own, averages = trained.run.modules["transformer"], trained.run.averaged()["transformer"]
    before = {key: value.clone() for key, value in own.state_dict().items()}
    with trained.sampling() as network:
        assert network is own
        assert all(torch.equal(value, averages[key]) for key, value in own.state_dict().items())
    assert any(not torch.equal(averages[key], value) for key, value in before.items())
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())


def test_validation_of_a_lora_copies_nothing_of_its_base(parts, in_training):
    """What it makes anew are the averages of the LoRA; hooks and weights are afterwards what they were."""
    trained = train_lora(parts, settings=settings(2, average=0.5, learning_rate=0.05), targets="attention")
    own = trained.run.modules["lora"]
    layer = trained.base.transformer_blocks[0].attn.to_q
    x = torch.ones(1, 1, own.additions[0].down.shape[1])
    with torch.no_grad(), LiveTensors() as memory:
        mine = layer(x)
        with trained.sampling() as network:
            assert network is trained.base
            averaged = layer(x)
            down, up, scale = trained.parts()["transformer_blocks.0.attn.to_q"]
        plain = torch.nn.functional.linear(x, layer.weight, layer.bias)
        torch.testing.assert_close(averaged - plain, scale * x @ down.T @ up.T, rtol=1e-3, atol=1e-5)
        assert torch.equal(layer(x), mine) and not torch.equal(mine, averaged)
    assert memory.peak < sum(value.nbytes for value in trained.base.state_dict().values()) / 2
    assert len(layer._forward_hooks) == 1


@pytest.mark.parametrize("family", ["flow", "diffusion"])
def test_a_lora_of_other_families(host, parts, family):
    run("PyramidVideoSaveTrained", run=train(family, parts), name="base")
    trained = train_lora(parts, model="base.safetensors", targets="attention")
    assert trained.family.name == family and any(a.up.any() for a in trained.run.modules["lora"].additions)


@pytest.mark.parametrize(
    ("family", "words"),
    [("as it is", None), ("flow", "Leave the family at 'as it is'"), (None, "take 'Load for training'")],
)
def test_a_lora_needs_a_model_as_it_is(parts, family, words):
    if words is None:
        assert train_lora(parts, steps=1).run.step == 1
        return
    chosen = (
        trainee("flow") if family is None else run("PyramidVideoLoadForTraining", model_name=MODEL, family=family)[0]
    )
    with pytest.raises(ValueError, match=words):
        train_lora(parts, trainee=chosen)


def test_a_gan_is_told_that_it_cannot_have_a_lora_whatever_the_settings_and_before_anything_is_encoded(
    parts, monkeypatch
):
    run("PyramidVideoSaveTrained", run=train("gan", parts), name="base")
    monkeypatch.setattr(trainer_base, "encode_dataset", None)
    made_a_flow = run("PyramidVideoLoadForTraining", model_name="base.safetensors", family="flow")[0]
    for given in ({}, {"token_share": 0.5}, {"time_shift": 3.0}, {"trainee": made_a_flow}):
        with pytest.raises(ValueError, match="base is a GAN generator, and those cannot have a LoRA: choose a flow"):
            train_lora(parts, model="base.safetensors", **given)


@pytest.mark.parametrize("family", ["flow", "diffusion"])
def test_a_lora_learns_from_some_of_the_tokens_of_a_clip(parts, family, monkeypatch):
    """A step gives the network a third of the tokens, and what is learned becomes an ordinary LoRA."""
    run("PyramidVideoSaveTrained", run=train(family, parts), name="base")
    counts = []
    usual = some_tokens.velocity_of_some

    def counting(network, clip, chosen, *rest):
        counts.append((clip.shape, chosen.shape))
        return usual(network, clip, chosen, *rest)

    monkeypatch.setattr(some_tokens, "velocity_of_some", counting)
    trained = train_lora(parts, model="base.safetensors", token_share=0.25)
    assert any(a.up.any() for a in trained.run.modules["lora"].additions)
    ((_, _, frames, height, width), (_, some)), *others = counts
    assert some == round(0.25 * frames * height * width / 4) and len(others) == 2
    assert train_lora(parts, name="whole", model="base.safetensors").run.step == 3 and len(counts) == 3


def test_a_pyramid_learns_from_whole_clips_and_says_so_before_anything_is_encoded(parts, monkeypatch):
    monkeypatch.setattr(trainer_base, "encode_dataset", None)
    with pytest.raises(ValueError, match="the pyramidal flow tiny learns from whole clips.*Set it to 1"):
        train_lora(parts, token_share=0.5)
    with pytest.raises(ValueError, match="time_shift is 3.0, and the pyramidal flow tiny.*Set it to 0"):
        train_lora(parts, time_shift=3.0)


def test_a_shift_takes_the_place_of_that_of_the_model():
    flow, diffusion = ModelFamily("flow", shift=3.0), ModelFamily("diffusion")
    assert [objective_of(flow, shift).shift for shift in (0.0, 8.0)] == [3.0, 8.0]
    assert [objective_of(diffusion, shift).shift for shift in (0.0, 8.0)] == [1.0, 8.0]
