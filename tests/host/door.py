"""What the door to ComfyUI promises, asked of ComfyUI's own classes without a server.

Run by `test_door.py` with ComfyUI's Python: `door.py COMFYUI ROOT BASE`; prints one JSON object {check: error or null}.
The checks here are of the model and its sampling.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
import traceback
import weakref
from pathlib import Path
from types import SimpleNamespace

import door_families
import door_guides
import door_helios
import door_helios_clips
import door_levels
import door_lora
import door_memory
import door_prompts
import door_quantised
import door_services
import door_text
import door_training
import door_vae
from door_tools import differs, refused, same

SEED = 5


def open_door(comfyui: Path, root: Path, base: Path) -> SimpleNamespace:
    """ComfyUI on the CPU in this process, the pack, and a tiny model with two prompts."""
    sys.path.insert(0, str(comfyui))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import folder_paths
    import torch

    import nodes as core

    for kind in ("diffusion_models", "vae", "text_encoders", "loras"):
        folder_paths.add_model_folder_path(kind, str(base / "models" / kind))
    folder_paths.set_output_directory(str(base / "output"))
    folder_paths.add_model_folder_path("diffusion_models", str(base / "output" / "diffusion_models"))  # as the server
    spec = importlib.util.spec_from_file_location(
        "pyramid_video", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    package = sys.modules["pyramid_video"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    from pyramid_video.host import get_host
    from pyramid_video.samplers.guidance import PyramidGuidance
    from pyramid_video.samplers.history import PyramidHistory
    from pyramid_video.samplers.stages import make_stages

    host = get_host()
    assert type(host).__name__ == "ComfyHost"
    path = {kind: host.find_model(kind, name) for kind, name in zip(TINY_KINDS, TINY_NAMES, strict=True)}
    clip = host.load_text_encoder(path["text_encoders"])
    door = SimpleNamespace(host=host, core=core, torch=torch, path=path, clip=clip, guidance=PyramidGuidance(7.0, 7.0))
    door.official = base / "models" / "pyramid_video"
    door.model = host.load_model(path["diffusion_models"])
    door.vae = host.load_vae(path["vae"])
    door.positive, door.negative = host.encode_prompt(clip, "a tiger"), host.encode_prompt(clip, "")
    door.sampler = host.make_sampler(make_stages(first_steps=4, video_steps=3), PyramidHistory())
    door.latent = lambda batch=1, frames=2: {"samples": torch.zeros(batch, 8, frames, 8, 8)}

    def sample(model=None, positive=None, latent=None, seed=SEED, guidance=door.guidance, negative=None):
        prompts = positive or door.positive, negative or door.negative
        guider = host.make_guider(model or door.model, *prompts, guidance)
        return host.sample(guider, door.sampler, latent or door.latent(), seed)["samples"]

    door.sample = sample
    door.usual = sample()
    return door


TINY_KINDS = ("diffusion_models", "vae", "text_encoders")
TINY_NAMES = ("tiny.safetensors", "tiny_vae.safetensors", "tiny_text.safetensors")


def check_rows_of_a_batch_equal_their_runs_alone(door):
    both = door.sample(latent=door.latent(batch=2))
    same(door, both[:1], door.usual, 1e-4)
    same(door, both[1:], door.sample(seed=SEED + 1), 1e-4)


def check_guidance_off_asks_for_one_row(door):
    from pyramid_video.samplers.guidance import PyramidGuidance

    rows = []
    network = door.model.model.diffusion_model
    handle = network.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    door.sample(guidance=PyramidGuidance(0.0))
    off = set(rows)
    rows.clear()
    door.sample()
    handle.remove()
    assert off == {1} and set(rows) == {2}


def check_guidance_gives_what_it_gives_without_the_host(door):
    from dataclasses import replace

    zero_star = {"zero_star": True, "zero_steps": 1}
    coarse = {"coarse": 0.3}, {**zero_star, "coarse": 0.0}
    for change in (zero_star, {"stages": 1}, {"stages": 2, "zero_star": True}, *coarse):
        guidance_without_the_host(door, replace(door.guidance, **change))


def check_fine_stages_that_are_not_guided_ask_for_one_row(door):
    from dataclasses import replace
    from itertools import groupby

    rows = []
    network = door.model.model.diffusion_model
    handle = network.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    door.sample(guidance=replace(door.guidance, stages=2))
    handle.remove()
    kinds = [count for count, _ in groupby(rows)]
    assert kinds == [2, 1] * (len(kinds) // 2) and len(kinds) > 2


def guidance_without_the_host(door, guidance):
    from pyramid_video.host.standalone import sampling as standalone_sampling
    from pyramid_video.host.standalone import wires as standalone_wires
    from pyramid_video.models import checkpoints

    network, info = checkpoints.load(door.path["diffusion_models"], ("miniflux",), dtype=door.torch.float32)
    model = standalone_wires.Model(network, info, door.torch.device("cpu"), door.torch.float32)
    guider = standalone_sampling.Guider(model, door.positive, door.negative, guidance)
    sampler = standalone_sampling.PyramidSampler(door.sampler.stages, door.sampler.history)
    alone = standalone_sampling.sample(guider, sampler, door.latent(), SEED, None)["samples"]
    made = door.sample(guidance=guidance)
    same(door, made, alone, 1e-4)
    assert differs(made, door.usual)


def check_cores_guider_drives_our_sampler(door):
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(door.model)
    guider.set_conds(door.positive, door.negative)
    guider.set_cfg(7.0)
    same(door, door.host.sample(guider, door.sampler, door.latent(), SEED)["samples"], door.usual)


def check_lora_changes_the_result_and_leaves_the_model(door):
    import comfy.sd

    lora = {}
    for key, weight in door.model.model.diffusion_model.state_dict().items():
        if key.endswith("to_q.weight"):
            name = f"diffusion_model.{key.removesuffix('.weight')}"
            lora[f"{name}.lora_A.weight"] = door.torch.full((2, weight.shape[1]), 0.2)
            lora[f"{name}.lora_B.weight"] = door.torch.linspace(-1, 1, 2 * weight.shape[0]).view(-1, 2)
    patched, _ = comfy.sd.load_lora_for_models(door.model, None, lora, 1.0, 0.0)
    assert len(patched.patches) == len(lora) // 2
    assert differs(door.sample(patched), door.usual)
    same(door, door.sample(), door.usual)
    import comfy_extras.nodes_model_merging as saving

    saving.ModelSave().save(patched, "diffusion_models/with_lora")
    saved = door.host.find_model("diffusion_models", "with_lora_00001_.safetensors")
    same(door, door.sample(door.host.load_model(saved)), door.sample(patched), 1e-5)


def check_saved_vae_and_text_encoder_load_again(door):
    import comfy.utils

    folder = door.path["vae"].parent
    comfy.utils.save_torch_file(door.vae.get_sd(), str(folder / "again.safetensors"))
    vae = door.host.load_vae(folder / "again.safetensors")
    same(door, door.host.decode(vae, door.usual), door.host.decode(door.vae, door.usual))
    comfy.utils.save_torch_file(door.clip.get_sd(), str(folder / "text.safetensors"))
    clip = door.host.load_text_encoder(folder / "text.safetensors")
    same(door, door.host.encode_prompt(clip, "a tiger")[0][0], door.positive[0][0])


def check_forced_partial_load_equals_the_full_one(door):
    model = door.host.load_model(door.path["diffusion_models"])
    model.load(door.torch.device("cpu"), lowvram_model_memory=model.model_size() // 3)
    assert any(getattr(module, "comfy_cast_weights", False) for module in model.model.modules())
    same(door, door.sample(model), door.usual)


def check_low_precision_weights_run(door):
    scale = door.usual.abs().max().item()
    for dtype, share in (("bf16", 0.05), ("fp8_e4m3fn", 0.5)):
        model = door.host.load_model(door.path["diffusion_models"], dtype)
        assert model.model.get_dtype() in (door.torch.bfloat16, door.torch.float8_e4m3fn)
        same(door, door.sample(model), door.usual, share * scale)
    refused(lambda: door.host.load_model(door.path["diffusion_models"], "fp16"), "fp16", "bf16")


def check_easy_cache_starts_anew_in_every_stage(door):
    """At a threshold that forbids every skip it must change nothing, although the size changes."""
    import comfy_extras.nodes_easycache as caching

    for node in (caching.EasyCacheNode, caching.LazyCacheNode):
        cached = node.execute(door.model, 1e-9, 0.0, 1.0, False).result[0]
        same(door, door.sample(cached), door.usual, 1e-3)  # of 50; prompts are asked for one by one


def check_nan_names_the_type_the_network_computes_in(door):
    text = [[door.torch.full((1, 3, 24), door.torch.nan), door.positive[0][1]]]
    for weights, cast, computing in (
        ("default", None, "float32"),
        ("bf16", None, "bfloat16"),
        ("bf16", door.torch.float32, "float32"),
        ("fp8_e4m3fn", door.torch.bfloat16, "bfloat16"),
    ):
        model = door.host.load_model(door.path["diffusion_models"], weights)
        model.model.manual_cast_dtype = cast  # the host's choice for a card
        refused(lambda model=model: door.sample(model, positive=text), "unit 0", "stage 0", f"computed in {computing}.")


def check_interrupt_at_any_call_leaves_the_model_right(door):
    import comfy.model_management as management
    from pyramid_video.host.comfyui.preview import Preview

    for call in (0, 5):
        seen = []
        usual = Preview.show

        def trip(self, clean, clip, last, seen=seen, call=call):
            seen.append(1)
            if len(seen) > call:
                management.interrupt_current_processing(True)

        Preview.show = trip
        try:
            door.sample()
        except management.InterruptProcessingException:
            pass
        else:
            raise AssertionError("the run went on")
        finally:
            Preview.show = usual
            management.interrupt_current_processing(False)
        assert len(seen) == call + 1 and door.model.model.current_patcher is None
        same(door, door.sample(), door.usual)


def check_failing_preview_does_not_stop_a_run(door):
    """And is asked for no more; where the host shows none, it is not asked for at all."""
    import latent_preview
    from pyramid_video.models.latent_format import LatentFormat

    asked = []

    def broken(self, frames):
        asked.append(1)
        raise RuntimeError("no preview today")

    usual_previewer, usual_preview = latent_preview.get_previewer, LatentFormat.preview
    LatentFormat.preview = broken
    try:
        for previewer, times in ((object(), 1), (None, 0)):
            asked.clear()
            latent_preview.get_previewer = lambda *a, previewer=previewer: previewer
            same(door, door.sample(), door.usual)
            assert len(asked) == times, f"asked {len(asked)} times"
    finally:
        latent_preview.get_previewer, LatentFormat.preview = usual_previewer, usual_preview


def check_deleted_models_are_freed(door):
    import comfy.model_management as management

    model = door.host.load_model(door.path["diffusion_models"])
    door.sample(model)
    freed = weakref.ref(model.model)
    del model
    gc.collect()
    management.cleanup_models()
    assert freed() is None


PARTS = (
    door_families,
    door_guides,
    door_helios,
    door_helios_clips,
    door_levels,
    door_lora,
    door_memory,
    door_prompts,
    door_quantised,
    door_services,
    door_text,
    door_training,
    door_vae,
)
CHECKS = {
    name: check
    for checks in (globals(), *map(vars, PARTS))
    for name, check in list(checks.items())
    if name.startswith("check_")
}


def main(comfyui: str, root: str, base: str, part: str = "") -> None:
    """`part` of their names chooses among the checks."""
    door = open_door(Path(comfyui), Path(root), Path(base))
    results = {}
    for name, check in CHECKS.items():
        if part not in name:
            continue
        try:
            with door.torch.inference_mode():  # as the server runs every prompt
                check(door)
            results[name] = None
        except Exception:
            results[name] = traceback.format_exc()
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
