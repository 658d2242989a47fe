"""All kinds of work on the pretended GPU and on the CPU, compared; prints one JSON object with what happened.

Run by test_pretended_work.py in a process of its own, because the pretended device stays for good. Tiny models, random
weights; every piece of work is done by graph blocks and answers tensors that must be the same on both devices.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent / "benchmarks"), str(TESTS / "graph")]

import _package  # noqa: F401, E402
import torch  # noqa: E402
from pretended_gpu import DEVICE, bytes_on_device, held, notes, pretend  # noqa: E402
from torch import Tensor  # noqa: E402

WATCHED = ("flow", "LoRA")  # trainings that show clips on the way
LEFT = "left on the device"
FAMILIES = {"pyramid": "Pyramid", "flow": "Flow", "diffusion": "Diffusion", "gan": "GAN"}


class Bench:
    """Tiny models in folders, and blocks that run on one device."""

    def __init__(self, folder: Path, device: str) -> None:
        from pyramid_video.host import use_host
        from pyramid_video.host.standalone import sampling as standalone_sampling
        from pyramid_video.host.standalone.host import StandaloneHost

        self.folder = folder
        self.host = StandaloneHost(folder / "models", folder / "input", folder / device[:3], device, silent=True)
        standalone_sampling.free_memory = lambda device: 2**30
        use_host(self.host)
        self.vae = self.run("LoadVAE", vae_name="tiny_vae.safetensors")
        self.clip = self.run("LoadTextEncoder", text_encoder_name="tiny_text.safetensors")

    def run(self, block: str, /, **values):
        from pyramid_video.runner.registry import node_classes

        node = node_classes()[f"PyramidVideo{block}"]()
        answer = getattr(node, node.FUNCTION)(**values)
        return (answer["result"] if isinstance(answer, dict) else answer)[0]

    def prompt(self, text: str):
        return self.run("EncodePrompt", clip=self.clip, text=text, add_quality_words=False)

    def wires(self, model) -> dict[str, object]:
        return {"model": model, "positive": self.prompt("a ball"), "latent_image": latent(), "seed": 1}

    def dataset(self):
        return self.run("AnimationDataset", folder="animations", subjects="", size=64, frames=5, fps=8.0, split="train")

    def settings(self, **values):
        return self.run("TrainingSettings", **{"steps": 1, "batch": 4, "learning_rate": 1e-3, **values})


def latent(frames: int = 2) -> dict[str, Tensor]:
    return {"samples": torch.zeros(1, 8, frames, 8, 8)}


def train(bench: Bench, family: str, trainee, name: str, **values):
    common = {"dataset": bench.dataset(), "vae": bench.vae, "clip": bench.clip, "clips": 3}
    inputs = {"trainee": trainee, "run_name": name, "settings": bench.settings(), **common}
    if family in WATCHED:
        inputs["validation"] = bench.run("Validation", prompts="a ball", every=1, steps=2)
    return bench.run(f"Train{FAMILIES.get(family, family)}", **{**inputs, **values})


def weights_of(trained) -> dict[str, Tensor]:
    """What was learned, and how many bytes of the run are on the device while somebody holds it."""
    left = {LEFT: torch.tensor(bytes_on_device())}
    return left | {f"{m} {k}": v for m, state in trained.run.averaged().items() for k, v in state.items()}


def training(family: str) -> Callable[[Bench], dict[str, Tensor]]:
    """Two steps, a validation and a file; the weights that came of it, and a clip of them."""

    def work(bench: Bench) -> dict[str, Tensor]:
        chosen = bench.run("LoadForTraining", model_name="tiny.safetensors", family=family)
        trained = train(bench, family, chosen, f"mine_{family}")
        model = bench.run("SaveTrained", run=trained, name=f"mine_{family}", precision="fp32")
        return {**weights_of(trained), "clip": sampled(bench, family, model)}

    return work


def sampled(bench: Bench, family: str, model) -> Tensor:
    block = {"flow": "FlowSampler", "diffusion": "DDIMSampler", "gan": "GANSampler", "pyramid": "Sampler"}[family]
    few = {"flow": {"steps": 3, "cfg": 2.0}, "diffusion": {"steps": 3, "cfg": 2.0}}.get(family, {})
    prompts = {} if family == "gan" else {"negative": bench.prompt("")}
    if family == "pyramid":
        few["stages"] = short_stages()
    return bench.run(block, **bench.wires(model), **prompts, **few)["samples"]


def short_stages():
    from pyramid_video.samplers.stages import make_stages

    return make_stages(first_steps=2, video_steps=2)


def train_lora(bench: Bench) -> dict[str, Tensor]:
    chosen = bench.run("LoadForTraining", model_name="tiny.safetensors", family="as it is")
    return weights_of(train(bench, "LoRA", chosen, "lora", rank=2, alpha=2.0, targets="all"))


def train_some_tokens(bench: Bench) -> dict[str, Tensor]:
    """A LoRA for a flow that looks at half of each clip."""
    write_flow(bench, "flow.safetensors")
    chosen = bench.run("LoadForTraining", model_name="flow.safetensors", family="as it is")
    few = {"token_share": 0.5, "time_shift": 8.0}
    return weights_of(train(bench, "LoRA", chosen, "some", rank=2, alpha=2.0, targets="all", **few))


def train_vae(bench: Bench) -> dict[str, Tensor]:
    chosen = bench.run("VAETrainee", vae_name="tiny_vae.safetensors", decoder_only=False)
    plan = bench.settings(batch=1)
    wired = {"dataset": bench.dataset(), "clips": 3, "frames": 5, "judge_from": 1, "pictures_every": 1}
    return weights_of(bench.run("TrainVAE", trainee=chosen, run_name="vae", settings=plan, **wired))


def train_stopped(bench: Bench) -> dict[str, Tensor]:
    """A GAN that is stopped after its step: what is left while the host still holds the error, with all it saw."""
    from pyramid_video.nodes.training_progress import ProgressReporter

    def stop(*_):
        raise InterruptedError

    chosen = bench.run("LoadForTraining", model_name="tiny.safetensors", family="gan")
    with patch.object(ProgressReporter, "__call__", stop):
        try:
            train(bench, "gan", chosen, "stopped")
        except InterruptedError as error:
            assert error.__traceback__ is not None
            return {LEFT: torch.tensor(bytes_on_device())}
    raise AssertionError("it was not stopped")


def vae(bench: Bench) -> dict[str, Tensor]:
    """Both ways: whole, in chunks, in tiles."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(9, 64, 64, 3, generator=generator)
    samples = bench.host.encode(bench.vae, pictures)
    plans = {"whole": (None, None), "chunks": (1, None), "tiles": (1, 32)}
    decoded = {name: bench.host.decode(bench.vae, samples, *plan) for name, plan in plans.items()}
    return {"latent": samples, **decoded}


def any_model(bench: Bench) -> dict[str, Tensor]:
    """The pyramid for models of one size, with a flow."""
    write_flow(bench, "flow.safetensors")
    model = bench.run("LoadModel", model_name="flow.safetensors", weight_dtype="default")
    stages = bench.run("AnyStages", levels="1")
    wires = {**bench.wires(model), "negative": bench.prompt(""), "stages": stages, "steps": 4, "cfg": 2.0}
    return {"clip": bench.run("AnySampler", **wires)["samples"]}


def write_flow(bench: Bench, name: str) -> None:
    """The tiny model as a flow."""
    from pyramid_video.models import checkpoints
    from pyramid_video.models.families import ModelFamily

    source = bench.folder / "models" / "diffusion_models" / "tiny.safetensors"
    info = checkpoints.inspect(source)
    state = checkpoints.load_state_dict(info, dtype=torch.float32)
    family = {"family": ModelFamily("flow").to_dict()}
    config = replace(info.config, use_temporal_causal=False)
    checkpoints.save(source.with_name(name), state, info.kind, config, info.latent_format, family)


def sd3(bench: Bench) -> dict[str, Tensor]:
    """Three units of a tiny SD3, whose keys are kept from unit to unit, with guidance."""
    from pyramid_video.models import checkpoints
    from pyramid_video.models.latent_format import SD3
    from pyramid_video.models.mmdit import MMDiTConfig, MMDiTTransformer

    width = bench.prompt("")[0][0].shape[-1]
    heads = {"num_attention_heads": 2, "attention_head_dim": 16, "caption_projection_dim": 32}
    texts = {"joint_attention_dim": width, "pooled_projection_dim": width}
    config = MMDiTConfig(in_channels=8, num_layers=2, pos_embed_max_size=24, **heads, **texts)
    generator = torch.Generator().manual_seed(0)
    state = MMDiTTransformer(config).state_dict()
    state = {key: 0.1 * torch.randn(value.shape, generator=generator) for key, value in state.items()}
    file = bench.folder / "models" / "diffusion_models" / "tiny_sd3.safetensors"
    checkpoints.save(file, state, "mmdit", config, SD3)
    model = bench.run("LoadModel", model_name=file.name, weight_dtype="default")
    wires = {**bench.wires(model), "negative": bench.prompt(""), "latent_image": latent(3)}
    return {"clip": bench.run("Sampler", **wires, stages=short_stages())["samples"]}


def helios(bench: Bench) -> dict[str, Tensor]:
    """Two units of a tiny Helios, with guidance."""
    from pyramid_video.models import checkpoints
    from pyramid_video.models.helios import HeliosConfig, HeliosTransformer
    from pyramid_video.models.latent_format import WAN

    sizes = {"num_attention_heads": 1, "attention_head_dim": 128, "text_dim": 24, "ffn_dim": 64, "num_layers": 1}
    config, generator = HeliosConfig.from_dict(sizes), torch.Generator().manual_seed(0)
    state = HeliosTransformer(config).state_dict()
    state = {key: 0.1 * torch.randn(value.shape, generator=generator) for key, value in state.items()}
    file = bench.folder / "models" / "diffusion_models" / "helios_mid.safetensors"
    checkpoints.save(file, state, "helios", config, WAN, {"family": {"variant": "mid"}})
    model = bench.run("LoadModel", model_name=file.name, weight_dtype="default")
    prompts = [[[torch.randn(1, n, 24, generator=generator), {}]] for n in (3, 5)]
    stages = bench.run("Stages", made_for="Helios", first_steps=2, video_steps=2)
    empty = {"samples": torch.zeros(1, 16, 18, 8, 8)}
    wires = {"model": model, "positive": prompts[0], "negative": prompts[1], "latent_image": empty, "seed": 1}
    return {"clip": bench.run("Sampler", **wires, stages=stages)["samples"]}


def prompts(bench: Bench) -> dict[str, Tensor]:
    tokens, extra = bench.prompt("a ball in the snow")[0]
    return {"tokens": tokens, "pooled": extra["pooled_output"]}


Work = Callable[[Bench], dict[str, Tensor]]
WORK: dict[str, Work] = {
    "prompts": prompts,
    "vae": vae,
    "any model": any_model,
    "sd3": sd3,
    "helios": helios,
    **{f"train {family}": training(family) for family in FAMILIES},
    "train lora": train_lora,
    "train some tokens": train_some_tokens,
    "train vae": train_vae,
    "train stopped": train_stopped,
}


class Steps:
    """Watches the calls of networks: what is noted from one call to the end of the next one of the same stage."""

    def __init__(self) -> None:
        self.inside: set[str] = set()
        self.last: object = None
        self.timestep = 0.0
        self.seen: dict[tuple[str, str], int] = {}

    def watch(self) -> None:
        from pyramid_video.host.standalone.wires import Model

        ask = Model.predict

        def watched(model, x, timestep, history, text, *rest):
            place = x.shape, len(text.tokens), shapes_of(history)
            with self.call(place, float(held(timestep).flatten()[0])):
                return ask(model, x, timestep, history, text, *rest)

        Model.predict = watched

    @contextmanager
    def call(self, place: object, at: float) -> Iterator[None]:
        """One call at the level `at`, of the stage that `place` tells from others."""
        same_stage = place == self.last and at < self.timestep
        if not same_stage:
            self.seen = dict(notes)
        yield
        if same_stage:
            new = {note for note, count in notes.items() if count > self.seen.get(note, 0)}
            self.inside |= {f"{what} {where}" for what, where in new}
        self.last, self.timestep, self.seen = place, at, dict(notes)

    def begin(self) -> None:
        self.inside, self.last = set(), None


def shapes_of(history) -> tuple:
    """What tells one history from another: shapes of clips, or the frames of the levels of Helios."""
    if hasattr(history, "levels"):
        return tuple(level.frames for _, level, _ in history.levels)
    return tuple(clip.shape for clip in history or ())


def tried(work: Work, bench: type[Bench], folder: Path, device: str):
    """What `work` answers, or how it failed; the device's notes are then of this work alone."""
    notes.clear()
    try:
        return work(bench(folder, device)), None
    except Exception:
        return {}, traceback.format_exc()


def compare(chosen: dict[str, Work], folder: Path, bench: type[Bench], steps: Steps, pretended) -> dict[str, dict]:
    """Do all work on the CPU, then all on the device; what differs, and what was noted."""
    from accelerate import Accelerator, PartialState
    from tiny_models import make_animations, make_models

    make_models(folder / "models")
    (folder / "input").mkdir()
    make_animations(folder / "input")
    plain = {name: tried(work, bench, folder, "cpu") for name, work in chosen.items()}
    PartialState._reset_state()
    steps.watch()
    Accelerator.device = property(lambda self: torch.device(DEVICE))
    found = {}
    with pretended:
        for name, work in chosen.items():
            expected, failed = plain[name]
            steps.begin()
            made, wrong = tried(work, bench, folder, DEVICE)
            far = {key: float((made[key].detach().cpu().float() - expected[key].float()).abs().max()) for key in made}
            found[name] = {
                "failed": failed or wrong,
                "differences": far,
                "notes": [f"{what} {where}" for what, where in notes],
                "waits": {where: count for (what, where), count in notes.items() if what == "wait"},
                "inside": sorted(steps.inside),
            }
    return found


def faults() -> dict[str, list[str]]:
    """What must raise, and what must be noted."""
    device, said = torch.zeros(2, device=DEVICE), []
    for wrong in (
        lambda: device + torch.zeros(2),
        lambda: torch.randn(2, device=DEVICE, generator=torch.Generator()),
    ):
        try:
            wrong()
        except RuntimeError as error:
            said.append(str(error))
    notes.clear()
    for noted in (device.sum().item, device.double, device.cpu, lambda: torch.zeros(2).to(DEVICE), device.nonzero):
        noted()
    device.double().add_(1)
    return {"raised": said, "noted": sorted({what for what, _ in notes})}


def stay() -> dict[str, object]:
    """A network that was on the device for a while: where it was, what it left behind, and what was copied back."""
    from pyramid_video.host.standalone.wires import resident

    network = torch.nn.BatchNorm1d(4)  # which has buffers, too
    before = [tensor.data_ptr() for tensor in network.state_dict().values()]
    notes.clear()
    with resident(network, torch.device(DEVICE)):
        inside = {str(tensor.device) for tensor in network.state_dict().values()}
    after = [tensor.data_ptr() for tensor in network.state_dict().values()]
    return {"inside": sorted(inside), "the same": before == after, "noted": sorted({what for what, _ in notes})}


def main() -> None:
    pretended = pretend()  # before the first backward, which makes a queue for each device that is known
    with tempfile.TemporaryDirectory() as name:
        found = compare(WORK, Path(name), Bench, Steps(), pretended)
    with pretended:
        print(json.dumps({"work": found, "faults": faults(), "stay": stay()}))


if __name__ == "__main__":
    main()
