"""Our models where ComfyUI streams weights ("dynamic VRAM"), on the pretended GPU and through a card that is too small.

Run by test_streaming.py with ComfyUI's Python: `streaming.py COMFYUI ROOT BASE`; prints one JSON object, an empty one
where this ComfyUI cannot stream. Everything is done twice, first by the patcher that loads weights before they are
used.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pretended_comfy
import pretended_pages
import pretended_work
import torch
from pretended_comfy import Bench, core, management, pretended
from pretended_gpu import DEVICE
from pretended_pages import PAGE
from torch import Tensor

OFFICIAL = Path(sys.argv[3]) / "models" / "pyramid_video"
WIDTH, HEADS, VAE_WIDTH = 64, 6, 16  # large enough for layers that are streamed, over 16 KB
CARD = 2**19  # bytes for weights
REST = 2**26  # bytes that are free beside them
MODEL, LORA = "tiny.safetensors", "tiny_lora.safetensors"


class Streaming(Bench):
    """Blocks on the pretended card, all of them, the text encoder's too."""

    def __init__(self, folder: Path, device: str) -> None:
        management.text_encoder_device = lambda: torch.device(device)
        super().__init__(folder, device)

    def model(self, weight_dtype: str = "default", name: str = MODEL):
        return self.run("LoadModel", model_name=name, weight_dtype=weight_dtype)

    def sampled(self, model, frames: int = 2, **prompts) -> Tensor:
        wires = {**self.wires(model), "negative": self.prompt(""), **prompts}
        wires["latent_image"] = pretended_work.latent(frames)
        return self.run("Sampler", **wires, stages=pretended_work.short_stages())["samples"]


def with_lora(model, strength: float = 0.7):
    return core.LoraLoaderModelOnly().load_lora_model_only(model, LORA, strength)[0]


def clip(bench: Streaming) -> dict[str, Tensor]:
    """Three units, the last of which takes over kept keys."""
    return {"clip": bench.sampled(bench.model(), frames=3)}


def lora(bench: Streaming) -> dict[str, Tensor]:
    """One model, patched, as it is, and patched again."""
    model = bench.model()
    patched = with_lora(model)
    made = bench.sampled(patched)
    return {"patched": made, "plain": bench.sampled(model), "again": bench.sampled(patched)}


def full(bench: Streaming) -> dict[str, Tensor]:
    """A card that is full while the host brings a weight: what it had brought of that by then is brought again."""
    import comfy.ops
    from pyramid_video.models.kv_cache import KVCache

    model, refused, resolve = with_lora(bench.model()), [], comfy.ops.resolve_cast_module_with_vbar

    def full_once(layer, *given, **kw):
        caches = [thing for thing in gc.get_objects() if type(thing) is KVCache]
        if not refused and any(cache.entries for cache in caches):
            refused.append(layer)
            raise torch.cuda.OutOfMemoryError("the card is full")
        return resolve(layer, *given, **kw)

    with mock.patch.object(comfy.ops, "resolve_cast_module_with_vbar", full_once):
        made = bench.sampled(model, frames=3)
    assert not any(hasattr(layer, "_prefetch") for layer in refused)
    streamed = bool(getattr(model, "is_dynamic", bool)())
    assert bool(refused) == streamed, (len(refused), streamed)
    return {"clip": made}


def narrow(bench: Streaming) -> dict[str, Tensor]:
    return {"clip": bench.sampled(bench.model("fp8_e4m3fn"))}


def umt5(bench: Streaming) -> dict[str, Tensor]:
    encoder = bench.host.load_text_encoder(OFFICIAL / "Helios-Mid")
    return {"tokens": bench.host.encode_prompt(encoder, "a ball in the snow")[0][0]}


def saved(bench: Streaming) -> dict[str, Tensor]:
    """What core's ModelSave writes, a LoRA in it, and the VAE; as they are read again."""
    import comfy.utils
    from comfy_extras.nodes_model_merging import ModelSave

    folder = bench.folder / DEVICE[:3] / "diffusion_models"
    before = set(folder.glob("*.safetensors"))
    patched = with_lora(bench.model())
    bench.sampled(patched)
    ModelSave().save(patched, "diffusion_models/with_lora")
    (new,) = set(folder.glob("*.safetensors")) - before
    comfy.utils.save_torch_file(bench.vae.get_sd(), str(bench.folder / "models" / "vae" / "again.safetensors"))
    vae = bench.run("LoadVAE", vae_name="again.safetensors")
    made = bench.sampled(bench.model(name=new.name))
    return {"clip": made, "pictures": bench.host.decode(vae, made)}


def whole_copies(bench: Streaming) -> dict[str, Tensor]:
    """What core makes of a loader's model once more, without streaming: for hooks, compilers and training."""
    import comfy.hooks
    import comfy.utils
    from pyramid_video.host.comfyui.patchers import streams

    model, lora = bench.model(), comfy.utils.load_torch_file(str(bench.folder / "models" / "loras" / LORA))
    whole = with_lora(model).clone(disable_dynamic=True)
    assert not streams(whole) and (whole.model is model.model) is not streams(model)
    hooked = comfy.hooks.set_hooks_for_conditioning(bench.prompt("a ball"), comfy.hooks.create_hook_lora(lora, 0.7, 0))
    own = model.clone(force_deepcopy=True)
    assert own.model is not model.model
    copies = {
        "compiler": bench.sampled(whole),
        "hooks": bench.sampled(model, positive=hooked),
        "copy": bench.sampled(own),
    }
    vae = bench.vae.patcher.clone(force_deepcopy=True).model
    text = bench.clip.patcher.clone(force_deepcopy=True).model
    weights = {**vae.state_dict(), **text.state_dict()}
    return {**copies, **{key: weight.float() for key, weight in weights.items()}}


def trained(bench: Streaming) -> dict[str, Tensor]:
    """A LoRA for any model, whose weights are not streamed while it learns."""
    from accelerate import Accelerator, PartialState
    from tiny_models import make_animations

    PartialState._reset_state()

    shutil.rmtree(bench.folder / DEVICE[:3] / "training", ignore_errors=True)
    if not (bench.folder / "input").exists():
        (bench.folder / "input").mkdir()
        make_animations(bench.folder / "input")
    with mock.patch.object(Accelerator, "device", torch.device(DEVICE)):
        return pretended_comfy.model_lora(bench)


def hooked_text(bench: Streaming) -> dict[str, Tensor]:
    """A LoRA that core's SetClipHooks puts on a CLIP, on one that was cloned before as well."""
    import comfy.hooks
    from comfy_extras.nodes_hooks import SetClipHooks

    generator, lora = torch.Generator().manual_seed(0), {}
    for key, weight in bench.clip.cond_stage_model.state_dict().items():
        if key.endswith("qkv.weight"):
            layer = f"text_encoders.{key.removesuffix('.weight')}"
            lora[f"{layer}.lora_A.weight"] = torch.randn(2, weight.shape[1], generator=generator)
            lora[f"{layer}.lora_B.weight"] = torch.randn(len(weight), 2, generator=generator)
    hooks, plain = comfy.hooks.create_hook_lora(lora, 0.0, 1.0), bench.prompt("a ball")[0][0]
    found = {}
    for name, clip in (("loaded", bench.clip), ("cloned", bench.clip.clone())):
        hooked = SetClipHooks().apply_hooks(clip, False, False, hooks)[0]
        found[name] = bench.host.encode_prompt(hooked, "a ball")[0][0]
        assert (found[name] - plain).abs().max() > 1
    return found


def room(bench: Streaming, card: pretended_pages.Card) -> dict[str, list[int]]:
    """What a VAE and the kept keys of a run are given of a card with `REST` bytes free, and what they should be."""
    from pyramid_video.host.comfyui import forward, vae

    model, given = bench.model(), []
    samples, fitting = bench.sampled(model), vae.fitting_pieces

    def watched(pieces, needs, free):
        given.append(free)
        return fitting(pieces, needs, free)

    def rest(*device, **both):
        return (REST, REST) if len(device) > 1 or any(both.values()) else REST

    with mock.patch.multiple(management, get_free_memory=rest, minimum_inference_memory=lambda: 0):
        streamed = PAGE * card.used
        with mock.patch.object(vae, "fitting_pieces", watched):
            bench.host.decode(bench.vae, samples)
        beside = REST + PAGE * card.used - model.model_size()
        network = SimpleNamespace(memory_required=lambda shape: 0, current_patcher=model)
        kept = forward.room_for_keys(network, [1], torch.device(DEVICE))
    assert streamed > 0
    return {"vae": [given[1], REST + streamed], "keys": [kept, beside]}


WORK: dict[str, Callable[[Streaming], dict[str, Tensor]]] = {
    "prompts": pretended_work.prompts,
    "umt5": umt5,
    "clip": clip,
    "LoRA": lora,
    "full card": full,
    "narrow weights": narrow,
    "vae": pretended_work.vae,
    "sd3": pretended_work.sd3,
    "helios": pretended_work.helios,
    "saved files": saved,
    "whole copies": whole_copies,
    "hooked text": hooked_text,
    "trained lora": trained,
}


def write_models(folder: Path) -> None:
    from tiny_models import make_lora, make_text_encoder, make_transformer, make_vae

    make_transformer(folder / "diffusion_models" / MODEL, WIDTH, HEADS)
    make_vae(folder / "vae" / "tiny_vae.safetensors", width=VAE_WIDTH)
    make_text_encoder(folder / "text_encoders" / "tiny_text.safetensors", WIDTH)
    make_lora(folder / "loras" / LORA, folder / "diffusion_models" / MODEL)


def tried(work: Callable, folder: Path) -> tuple[dict[str, Tensor], str | None]:
    """What `work` answers, or how it failed; after it, what the host does after every block."""
    try:
        with torch.inference_mode():  # as the server runs every prompt
            made = work(Streaming(folder, DEVICE))
        return {name: tensor.detach().cpu() for name, tensor in made.items()}, None
    except Exception:
        return {}, traceback.format_exc()
    finally:
        management.reset_cast_buffers()


def distance(one: Tensor, other: Tensor | None) -> float:
    """The largest difference; infinite where there is nothing to compare, or NaN."""
    if other is None or one.shape != other.shape:
        return float("inf")
    return float((one.float() - other.float()).abs().max().nan_to_num(float("inf")))


def main() -> None:
    import comfy.model_patcher

    if not hasattr(comfy.model_patcher, "ModelPatcherDynamic"):
        print(json.dumps({}))
        return
    pretended_comfy.pretend_card()
    with tempfile.TemporaryDirectory() as name, pretended:
        folder = Path(name)
        write_models(folder / "models")
        pretended_comfy.folder_paths.add_model_folder_path("loras", str(folder / "models" / "loras"))
        loaded = {name: tried(work, folder) for name, work in WORK.items()}
        management.unload_all_models()
        card = pretended_pages.stream_weights(CARD)
        found = {}
        for name, work in WORK.items():
            before = card.counts()
            (expected, wrong), (streamed, failed) = loaded[name], tried(work, folder)
            found[name] = {
                "failed": wrong or failed,
                "differences": {key: distance(tensor, streamed.get(key)) for key, tensor in expected.items()},
                **{what: count - before[what] for what, count in card.counts().items()},
            }
        with torch.inference_mode():
            rooms = room(Streaming(folder, DEVICE), card)
    print(json.dumps({"work": found, "room": rooms}))


if __name__ == "__main__":
    main()
