"""ComfyUI's own classes on the pretended GPU: all work of `tests/device` in this host, and core's sampling blocks.

Run by test_pretended_comfy.py with ComfyUI's Python: `pretended_comfy.py COMFYUI ROOT BASE`; prints one JSON object.
ComfyUI is told that its device is the pretended one, with room enough; the rest of it runs as it is.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

TESTS = Path(__file__).resolve().parents[1]
COMFYUI = Path(sys.argv[1])
sys.path[:0] = [str(COMFYUI), str(TESTS / "device")]

import pretended_gpu  # noqa: E402

pretended_gpu.hosts.append(COMFYUI)
pretended = pretended_gpu.pretend()  # before the first backward, which makes a queue for each device that is known

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)
import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = comfy.cli_args.args.use_pytorch_cross_attention = True
import comfy.model_management as management  # noqa: E402
import folder_paths  # noqa: E402
import pretended_work  # noqa: E402
import torch  # noqa: E402
from pretended_gpu import held  # noqa: E402
from torch import Tensor  # noqa: E402

import nodes as core  # noqa: E402

ROOM = 2**33  # bytes


class Bench(pretended_work.Bench):
    """Tiny models in ComfyUI's folders, and blocks that run on one device of its."""

    def __init__(self, folder: Path, device: str) -> None:
        from pyramid_video.host import get_host

        self.folder, self.host = folder, get_host()
        management.unload_all_models()
        management.get_torch_device = lambda: torch.device(device)
        folder_paths.set_input_directory(str(folder / "input"))
        folder_paths.set_output_directory(str(folder / device[:3]))
        for kind in ("diffusion_models", "vae", "text_encoders"):
            folder_paths.add_model_folder_path(kind, str(folder / "models" / kind), is_default=True)
            folder_paths.add_model_folder_path(kind, str(folder / device[:3] / kind))
        self.vae = self.run("LoadVAE", vae_name="tiny_vae.safetensors")
        self.clip = self.run("LoadTextEncoder", text_encoder_name="tiny_text.safetensors")


def cores_sampler(bench: Bench) -> dict[str, Tensor]:
    """A pyramid by SamplerCustomAdvanced, and core's VAE blocks both ways."""
    from comfy_extras import nodes_custom_sampler as custom

    model = bench.run("LoadModel", model_name="tiny.safetensors", weight_dtype="default")
    wires = {"model": model, "positive": bench.prompt("a ball"), "negative": bench.prompt("")}
    guider = bench.run("Guider", **wires)
    sampler = bench.run("SamplerObject", stages=pretended_work.short_stages())
    noise, sigmas = custom.Noise_RandomNoise(3), torch.tensor([1.0, 0.0])
    made = call(custom.SamplerCustomAdvanced, noise, guider, sampler, sigmas, pretended_work.latent())[0]["samples"]
    (pictures,) = core.VAEDecode().decode(bench.vae, {"samples": made})
    (tiles,) = core.VAEDecodeTiled().decode(bench.vae, {"samples": made}, 64, 32, 64, 8)
    (encoded,) = core.VAEEncode().encode(bench.vae, pictures)
    return {"latent": made, "pictures": pictures, "tiles": tiles, "encoded": encoded["samples"]}


def cores_ksampler(bench: Bench) -> dict[str, Tensor]:
    """A flow in KSampler."""
    pretended_work.write_flow(bench, "flow.safetensors")
    model = bench.run("LoadModel", model_name="flow.safetensors", weight_dtype="default")
    prompts = bench.prompt("a ball"), bench.prompt("")
    (made,) = core.KSampler().sample(model, 1, 4, 2.0, "euler", "simple", *prompts, pretended_work.latent())
    return {"clip": made["samples"]}


def model_lora(bench: Bench, name: str = "model lora") -> dict[str, Tensor]:
    """A LoRA by way of the host's guider, with blocks computed twice, and a clip after each of two steps."""
    from pyramid_video.training.run.validation import ValidationPlan

    pretended_work.write_flow(bench, "flow.safetensors")
    model = bench.run("LoadModel", model_name="flow.safetensors", weight_dtype="default")
    plan = bench.settings(steps=2, batch=2, gradient_checkpointing=True)
    wired = {"model": model, "vae": bench.vae, "clip": bench.clip, "dataset": bench.dataset(), "settings": plan}
    lora = {"rank": 2, "alpha": 2.0, "targets": "all", "validation": ValidationPlan(("a ball",), every=1, steps=2)}
    run = bench.run("TrainModelLoRA", **wired, run_name=name, clips=2, **lora)
    return {name: up for name, (_, up, _) in run.parts().items()}


def small_card(bench: Bench) -> dict[str, Tensor]:
    """The same where memory runs out until half of the weights have left the card; no stream brings them unwaited."""
    from pyramid_video.host.comfyui.model_in_training import HostModelInTraining

    usual, loaded, steps = HostModelInTraining.loss, set(), []

    def loss(learning, *clip):
        patcher = learning.guider.model_patcher
        assert management.NUM_STREAMS == 0
        steps.append(usual(learning, *clip))
        if patcher.load_device.type != "cpu":
            loaded.add(patcher.loaded_size() / patcher.model_size())
            if patcher.loaded_size() > patcher.model_size() / 2:
                raise torch.cuda.OutOfMemoryError("it is full")
        return steps[-1]

    with mock.patch.object(HostModelInTraining, "loss", loss), mock.patch.object(management, "NUM_STREAMS", 2):
        made = model_lora(bench, "small card")
        assert management.NUM_STREAMS == 2
    assert not loaded or (max(loaded) == 1 and 0 < min(loaded) <= 0.5 and len(loaded) > 3), loaded
    return made


def call(block, *values):
    """A block of core's, whose function older hosts make anew and newer ones keep at the class."""
    answer = getattr(block if hasattr(block, "execute") else block(), block.FUNCTION)(*values)
    return getattr(answer, "result", answer)


class Steps(pretended_work.Steps):
    """Calls of ComfyUI's MODEL, from the first to the last step of a stage."""

    def watch(self) -> None:
        from pyramid_video.host.comfyui.model import VideoModel

        ask = VideoModel.apply_model

        def watched(model, x, t, *rest, transformer_options=None, **kw):
            pyramid = (transformer_options or {}).get("pyramid", {})
            place = x.shape, pyramid.get("unit"), pyramid.get("stage")
            with self.call(place, float(held(t).flatten()[0])):
                return ask(model, x, t, *rest, transformer_options=transformer_options, **kw)

        VideoModel.apply_model = watched


def room(*device: object, **both: bool) -> int | tuple[int, int]:
    """Bytes, of all and of torch's own where both are asked for."""
    return (ROOM, ROOM) if len(device) > 1 or any(both.values()) else ROOM


def pretend_card() -> None:
    """Let ComfyUI believe in a card with room enough."""
    management.vram_state = management.VRAMState.NORMAL_VRAM
    management.get_free_memory = management.get_total_memory = room
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else torch.enable_grad()  # its tensors cannot wrap


def main() -> None:
    pretend_card()
    work = {**pretended_work.WORK, "core's sampler": cores_sampler, "core's KSampler": cores_ksampler}
    work["train lora (any model)"] = model_lora
    work["train lora (any model), small card"] = small_card
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(pretended_work.compare(work, Path(name), Bench, Steps(), pretended)))


if __name__ == "__main__":
    main()
