"""LoRAs for networks that are not ours: which layers learn, checkpoints that change nothing, runs that go on."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import dataclass

import pytest
import torch
from pyramid_video.models.gradient_scale import scale_gradient
from pyramid_video.models.lora import LoRASettings, load_lora
from pyramid_video.models.repeated_blocks import (
    TARGETS,
    block_layers,
    called_blocks,
    gradient_checkpoints,
    outermost_lists,
)
from pyramid_video.training.data.latent_cache import LatentSet, Row
from pyramid_video.training.run.train_settings import TrainSettings
from pyramid_video.training.trainers.model import TrainingPlan
from pyramid_video.training.trainers.model_lora import (
    ModelClips,
    ModelLoRATraining,
    check_device,
    error,
    learning_layers,
)
from torch import nn
from torch.autograd.graph import allow_mutation_on_saved_tensors

WIDTH, CHANNELS = 8, 4


@dataclass
class Scales:
    """What blocks share, in a form of the network's own."""

    vec: torch.Tensor
    word: str = "as it is"


class Block(nn.Module):
    """Adds to what it is given in place, as the blocks of many networks do; its options are a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.ModuleDict({"q": nn.Linear(WIDTH, WIDTH), "o": nn.Linear(WIDTH, WIDTH)})
        self.ffn = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.audio_ff = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, streams, scales=None, transformer_options=None):
        (x, text), vec = streams, scales.vec
        transformer_options["calls"].append(self)
        x *= 1 + 0.1 * transformer_options["index"]  # as a patch that knows its place
        x += self.self_attn["o"](torch.tanh(self.self_attn["q"](self.norm(x)) + text.mean(1, keepdim=True)))
        x.add_(self.ffn(self.norm(x)) * self.adaLN_modulation(vec)[:, None])
        text += vec[:, None]
        return (x, text), scales.word


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inwards, self.outwards = nn.Linear(CHANNELS, WIDTH), nn.Linear(WIDTH, CHANNELS)
        self.guidance_layer = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(WIDTH, WIDTH)])})
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(WIDTH, WIDTH)])})  # which nothing calls

    def forward(self, x, text, level):
        options = {"calls": []}
        streams = self.inwards(x), text.clone()
        scales = Scales(self.guidance_layer["layers"][0](torch.full((len(x), WIDTH), level)))
        for options["index"], block in enumerate(self.blocks):
            streams, word = block(streams, scales=scales, transformer_options=options)
            assert word == "as it is"
        assert [*dict.fromkeys(options["calls"])] == list(self.blocks)
        return self.outwards(streams[0])


class Model:
    """A flow, as a host would call it."""

    name, is_flow, steps, device, gradient_scale = "Model", True, 0, torch.device("cpu"), 1.0

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = Network().eval()

    def begin_step(self):
        self.steps += 1

    def loss(self, clip, level, noise):
        latent, drawn = clip.latent, noise(tuple(clip.latent.shape))
        noisy = ((1 - level) * latent + level * drawn).flatten(2).mT
        velocity = self.network(noisy, clip.conditioning, level).mT.reshape(latent.shape)
        return (velocity - (drawn - latent)).square().mean()


def clips(count: int = 3) -> ModelClips:
    generator = torch.Generator().manual_seed(1)
    rows = [Row(torch.randn(CHANNELS, 2, 3, 3, generator=generator), (f"clip {n}",) * 4, "") for n in range(count)]
    texts = {text: torch.randn(1, 5, WIDTH, generator=generator) for text in ("", *(f"clip {n}" for n in range(count)))}
    return ModelClips(LatentSet(tuple(rows), "rows"), texts, "these")


def plan(steps: int = 4, **more) -> TrainingPlan:
    return TrainingPlan(TrainSettings(steps, 1e-2, warmup_steps=1, ema_decay=0.5, precision="no", **more), 2, 0.3)


def train(model, folder, steps: int = 4, stops=(None,), targets: str = "all", way=(0.0, 1.0), **more):
    """A run that has the model for one stretch up to each of `stops`."""
    training = ModelLoRATraining(LoRASettings(2, 2.0, targets), clips(), folder, plan(steps, **more), *way)
    for until in stops:
        with allow_mutation_on_saved_tensors(), training.attached(model) as (run, step):
            run.train(step, until=until)
    return training.trained


def test_layers_are_those_of_blocks_without_what_turns_time_into_scales():
    network = Network()
    assert set(outermost_lists(network)) == {"blocks", "head.blocks", "guidance_layer.layers"}
    found = {targets: set(block_layers(network, targets)) for targets in TARGETS}
    assert found["attention"] == {f"blocks.{n}.self_attn.{part}" for n in range(3) for part in "qo"}
    mlp = {f"blocks.{n}.{part}" for n in range(3) for part in ("ffn.0", "ffn.2", "audio_ff")} | {"head.blocks.0"}
    assert found["mlp"] == mlp and found["all"] == found["attention"] | mlp
    with pytest.raises(ValueError, match=r"this Linear has no layers in blocks that 'mlp' means; try 'all'"):
        block_layers(nn.Linear(2, 2), "mlp")
    with pytest.raises(ValueError, match="that 'all' means$"):
        block_layers(nn.Linear(2, 2), "all")


@pytest.mark.parametrize(
    "name, kept",
    [
        ("blocks.0.img_mod.lin", False),
        ("blocks.0.modulation.1", False),
        ("blocks.0.adaln_proj.linear", False),
        ("blocks.0.emb_layers.1", False),
        ("blocks.0.norm1.linear", False),
        ("blocks.0.time_emb.0", False),
        ("blocks.0.model.proj", True),
        ("blocks.0.to_embrace", True),
        ("blocks.0.linear1", True),
    ],
)
def test_names_of_modulation(name, kept):
    network = nn.Module()
    network.blocks = nn.ModuleList([nn.Module()])
    here, (*path, last) = network.blocks[0], name.split(".")[2:]
    for part in path:
        here.add_module(part, nn.Module())
        here = getattr(here, part)
    here.add_module(last, nn.Linear(2, 2))
    if kept:
        assert list(block_layers(network, "all")) == [name]
    else:
        with pytest.raises(ValueError, match="no layers in blocks"):
            block_layers(network, "all")


def test_layers_that_no_gradient_reaches_learn_nothing_and_are_left_out():
    model = Model()
    model.network.requires_grad_(False)
    with allow_mutation_on_saved_tensors():
        names = set(learning_layers(model, "all", clips()))
    assert names == {
        f"blocks.{n}.{part}" for n in range(3) for part in ("self_attn.q", "self_attn.o", "ffn.0", "ffn.2")
    }
    assert not any(module._forward_hooks for module in model.network.modules())


def test_a_model_without_gradients_says_so(tmp_path):
    model = Model()
    model.loss = lambda clip, level, noise: torch.zeros((), requires_grad=True) * 1
    with pytest.raises(ValueError, match="no gradient comes back to the layers of Model.*Take such blocks off"):
        train(model, tmp_path / "run")


def test_the_scale_of_gradients_inside_the_network_changes_no_bit_of_what_is_learned(tmp_path):
    """A power of two, in numbers that hold all of them; float16 is asked of the host's own networks."""
    plain, scaled = Model(), Model()
    scaled.gradient_scale, unscaled_loss, inside = 2.0**16, scaled.loss, []

    def watch(_, inputs, output):
        if output.requires_grad:
            output.register_hook(lambda gradient: inside.append(float(gradient.abs().max())))

    watched = scaled.network.blocks[1].self_attn.q.register_forward_hook(watch)
    scaled.loss = lambda clip, level, noise: scale_gradient(unscaled_loss(clip, level, noise), scaled.gradient_scale)
    parts = [train(model, tmp_path / str(number)).parts() for number, model in enumerate((scaled, plain))]
    watched.remove()
    assert max(inside) > 10  # of a mean over many cells: it was scaled there
    for name, (down, up, _) in parts[0].items():
        assert torch.equal(down, parts[1][name][0]) and torch.equal(up, parts[1][name][1]) and up.any(), name


def test_checkpoints_of_blocks_that_change_their_inputs_give_the_same_gradients():
    """In eager torch the plain backward would refuse, and a checkpoint would begin from what the first pass left."""
    found = []
    for saves in (False, True):
        model = Model()
        with allow_mutation_on_saved_tensors():
            if saves:
                with gradient_checkpoints(model.network):
                    assert all("forward" in vars(block) for block in model.network.blocks)
                    error(model, clips().draw(torch.Generator().manual_seed(2), 1, 0)[0], torch.Generator()).backward()
            else:
                error(model, clips().draw(torch.Generator().manual_seed(2), 1, 0)[0], torch.Generator()).backward()
        assert not any("forward" in vars(block) for block in model.network.blocks)
        found.append({name: each.grad for name, each in model.network.named_parameters() if each.grad is not None})
    plain, saving = found
    learned = {"inwards.weight", "blocks.0.adaLN_modulation.1.weight", "guidance_layer.layers.0.weight"}
    assert plain.keys() == saving.keys() and learned <= plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(saving[name], gradient, rtol=1e-5, atol=1e-6)


def test_a_u_net_is_checkpointed_layer_by_layer_and_changed_forwards_come_back():
    network = nn.Module()
    shared = Block()
    network.input_blocks = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Sequential(shared)])
    network.output_blocks = nn.ModuleList([nn.Sequential(shared)])
    first, second, block = called_blocks(network)
    assert (first, second) == tuple(network.input_blocks[0]) and isinstance(block, Block)
    changed = second.forward = lambda x: x
    with gradient_checkpoints(network):
        assert all("forward" in vars(each) for each in (first, second, block)) and second.forward is not changed
    assert second.forward is changed and not any("forward" in vars(each) for each in (first, block))


def test_checkpoints_keep_no_activations_of_a_block():
    """What is alive after a forward: without them what every block has computed, with them what lies between two."""
    held = []
    for saves in (False, True):
        model, kept = Model(), 0

        def pack(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            x, text = torch.randn(1, 9, CHANNELS), torch.randn(1, 5, WIDTH)
            if saves:
                with gradient_checkpoints(model.network):
                    model.network(x, text, 0.5)
            else:
                model.network(x, text, 0.5)
        held.append(kept)
    assert held[1] < 0.5 * held[0]


@pytest.mark.parametrize("saves", [False, True])
def test_a_run_goes_on_exactly_and_leaves_the_model_alone(tmp_path, saves):
    model = Model()
    before = {name: each.clone() for name, each in model.network.state_dict().items()}
    straight = train(model, tmp_path / "straight", gradient_checkpointing=saves)
    assert model.steps == 4
    train(Model(), tmp_path / "broken", stops=(2,), gradient_checkpointing=saves)
    again = train(Model(), tmp_path / "broken", gradient_checkpointing=saves)
    lent = train(Model(), tmp_path / "lent", stops=(1, 3, None), gradient_checkpointing=saves)
    for name, (down, up, scale) in straight.parts().items():
        assert torch.equal(lent.parts()[name][1], up)
        other = again.parts()[name]
        assert torch.equal(down, other[0]) and torch.equal(up, other[1]) and up.any() and scale == 1
    for name, each in model.network.state_dict().items():
        assert torch.equal(each, before[name])
    network = weakref.ref(model.network)
    del model
    gc.collect()
    assert network() is None  # a run on a wire does not hold 28 GB of somebody's model


def test_a_run_that_stopped_inside_an_update_goes_on_from_its_last_state(tmp_path, monkeypatch):
    """Half of its weights may be those of the next step; the model need not be made anew for it."""
    straight, model = train(Model(), tmp_path / "straight").parts(), Model()
    often = plan(save_seconds=0.0)
    training = ModelLoRATraining(LoRASettings(2, 2.0, "all"), clips(), tmp_path / "broken", often)

    def stops_inside():
        raise torch.cuda.OutOfMemoryError("it is full")

    with allow_mutation_on_saved_tensors(), training.attached(model) as (run, step):
        run.train(step, until=2)
        monkeypatch.setattr(run.optimizer, "step", stops_inside)
        with pytest.raises(torch.cuda.OutOfMemoryError):
            run.train(step)
        assert run.is_half_updated
    with allow_mutation_on_saved_tensors(), training.attached(model) as (again, step):
        assert again is not run and again.step == 2
        again.train(step)
    for name, (down, up, _) in training.trained.parts().items():
        assert torch.equal(down, straight[name][0]) and torch.equal(up, straight[name][1])


def test_the_file_says_what_was_trained_and_opens_as_a_lora(tmp_path):
    trained = train(Model(), tmp_path / "run", targets="attention")
    parts = load_lora(trained.save(tmp_path / "my.safetensors"))
    assert set(parts) == {f"blocks.{n}.self_attn.{part}" for n in range(3) for part in "qo"}
    for name, (down, up, scale) in trained.parts().items():
        assert torch.equal(parts[name][0], down) and torch.equal(parts[name][1], up) and parts[name][2] == scale


def test_a_run_of_another_model_is_refused(tmp_path):
    train(Model(), tmp_path / "run", steps=1)
    other = Model()
    other.network.blocks.append(Block())
    with pytest.raises(ValueError, match="is another one: its base differs from what is wired here"):
        train(other, tmp_path / "run")
    with pytest.raises(ValueError, match="is another one: its lora differs"):
        train(Model(), tmp_path / "run", targets="mlp")


def test_additions_learn_where_the_model_computes(tmp_path):
    model = Model()
    model.device = torch.device("cpu", 1)
    with pytest.raises(ValueError, match="the host has the model on cpu:1, and accelerate trains on cpu"):
        train(model, tmp_path / "run")
    check_device(torch.device("cuda"), torch.device("cuda", 0))
    with pytest.raises(ValueError, match="cuda:1, and accelerate trains on cuda"):
        check_device(torch.device("cuda"), torch.device("cuda", 1))


def test_levels_of_flows_are_in_the_middle_and_those_of_others_even():
    model, levels = Model(), []
    model.loss = lambda clip, level, noise: levels.append(level)
    for model.is_flow in (True, False):
        for seed in range(400):
            error(model, None, torch.Generator().manual_seed(seed))
    flow, even = torch.tensor(levels[:400]), torch.tensor(levels[400:])
    assert flow.std() == pytest.approx(0.208, abs=0.02)  # of a logit-normal number
    assert even.std() == pytest.approx(12**-0.5, abs=0.02)
    assert 0 < min(levels) and max(levels) < 1


def test_a_stretch_leaves_nothing_in_the_network_and_the_next_may_have_another_of_its_kind(tmp_path):
    training = ModelLoRATraining(LoRASettings(2, 2.0), clips(), tmp_path / "run", plan())
    for until in (2, 4):
        model = Model()
        with allow_mutation_on_saved_tensors(), training.attached(model) as (run, step):
            assert any(module._forward_hooks for module in model.network.modules())
            run.train(step, until=until)
        assert not any(module._forward_hooks for module in model.network.modules())
    straight = train(Model(), tmp_path / "straight", targets="attention")
    assert all(torch.equal(up, straight.parts()[name][1]) for name, (_, up, _) in training.trained.parts().items())


def test_levels_between_limits_are_all_that_is_learned_and_a_run_keeps_its_own(tmp_path):
    model, seen = Model(), []
    usual = model.loss
    model.loss = lambda clip, level, noise: seen.append(level) or usual(clip, level, noise)
    train(model, tmp_path / "run", steps=20, way=(0.0, 0.5))
    del seen[0]  # of the search for layers
    assert len(seen) == 40 and 0.5 <= min(seen) < 0.6 and max(seen) < 1
    with pytest.raises(ValueError, match=r"is another one: its start_percent differs .*\(0\.0, not 0\.5\)"):
        train(Model(), tmp_path / "run", steps=21, way=(0.5, 1.0))


def test_a_run_of_an_earlier_version_has_learned_the_whole_way(tmp_path):
    train(Model(), tmp_path / "run", steps=1)
    record = tmp_path / "run" / "model.json"
    known = json.loads(record.read_text("utf-8"))
    record.write_text(json.dumps({key: known[key] for key in known if not key.endswith("percent")}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"its end_percent differs .*\(1\.0, not 0\.5\)"):
        train(Model(), tmp_path / "run", steps=2, way=(0.0, 0.5))
    assert train(Model(), tmp_path / "run", steps=2).run.step == 2


def test_an_example_has_the_most_frequent_size_and_its_start():
    rows = [Row(torch.full((2 * CHANNELS, 2, 3, n), float(n)), ("a",) * 4, "") for n in (3, 5, 5)]
    rows[2] = Row(torch.full((2 * CHANNELS, 2, 3, 5), 9.0), ("a",) * 4, "")
    made = ModelClips(LatentSet(tuple(rows), "rows"), {"new": "the text"}, "these", has_start=True)
    for number, value in enumerate((5, 9, 5)):
        clip = made.example(number, "new")
        assert clip.latent.shape == clip.start.shape == (1, CHANNELS, 2, 3, 5) and clip.conditioning == "the text"
        assert (clip.start == value).all()
