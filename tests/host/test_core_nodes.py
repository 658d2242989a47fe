"""Core's own nodes on the pack's wires, on a real server; what comes out is held against the pack's own way there."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch
from core_graphs import CFG, SEED, STEPS, Runs, advanced, core_guider, node, pyramid, simple_sigmas, start
from tiny_models import LORA

CLOSE = 1e-3  # of the largest value: rows in one batch or alone, and rounding that a random network blows up


@pytest.fixture
def runs(comfy, base):
    return Runs(comfy, base)


def close(one: torch.Tensor, other: torch.Tensor, share: float = CLOSE) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=share * other.abs().max().item())


def test_clip_text_encode_is_our_prompt_block(runs):
    graph = start()
    ours = pyramid(graph)
    for name, text in (("core_positive", "a tiger"), ("core_negative", "")):
        graph[name] = node("CLIPTextEncode", clip=["clip", 0], text=text)
    core = pyramid(graph, "core", positive=["core_positive", 0], negative=["core_negative", 0])
    one, other = runs.latents(graph, ours, core)
    assert torch.equal(one, other)


def test_vae_decode_gives_our_pictures_and_tiles_those_of_our_tiles(runs):
    graph = start()
    graph["empty"]["inputs"].update(width=128, height=128)
    samples = pyramid(graph)
    tiling = {"overlap": 16, "temporal_size": 8, "temporal_overlap": 4}
    graph["plain"] = node("VAEDecode", samples=samples, vae=["vae", 0])
    graph["large"] = node("VAEDecodeTiled", samples=samples, vae=["vae", 0], tile_size=512, **tiling)
    graph["small"] = node("VAEDecodeTiled", samples=samples, vae=["vae", 0], tile_size=64, **tiling)
    for name, tile in (("ours", 0), ("our_tiles", 64)):
        graph[name] = node("PyramidVideoDecode", samples=samples, vae=["vae", 0], chunk_frames=2, tile_size=tile)
    names = ("ours", "plain", "large", "our_tiles", "small")
    ours, plain, large, our_tiles, small = (clip.int() for clip in runs.pictures(graph, *([name, 0] for name in names)))
    assert ours.shape == (9, 3, 128, 128)
    assert (plain - ours).abs().max() <= 1 and (large - ours).abs().max() <= 1 and (small - our_tiles).abs().max() <= 1


def test_vae_encode_gives_the_first_frame_of_image_to_video(runs):
    graph = start()
    graph["picture"] = node("LoadImage", image="start.png")
    size = {"upscale_method": "bilinear", "width": 64, "height": 64, "crop": "center"}
    graph["scaled"] = node("ImageScale", image=["picture", 0], **size)
    graph["encoded"] = node("VAEEncode", pixels=["scaled", 0], vae=["vae", 0])
    tiling = {"tile_size": 512, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    graph["tiled"] = node("VAEEncodeTiled", pixels=["scaled", 0], vae=["vae", 0], **tiling)
    past = {"start_image": ["scaled", 0], "vae": ["vae", 0], "latent_image": ["empty", 0]}
    graph["history"] = node("PyramidVideoHistory", depth=0, noise=0.0, **past)
    video = pyramid(graph, history=["history", 0])
    encoded, tiled, made = runs.latents(graph, ["encoded", 0], ["tiled", 0], video)
    assert encoded.shape == (1, 8, 1, 8, 8)
    close(made[:, :, :1], encoded, 1e-5)
    close(tiled, encoded, 1e-5)


@pytest.mark.parametrize("family", ["flow", "v", "epsilon"])
def test_ksampler_and_its_parts_run_flows_and_diffusion_as_our_blocks_do(runs, family):
    graph = start(f"tiny_{family}.safetensors")
    wires = {key: [key, 0] for key in ("model", "positive", "negative")} | {"latent_image": ["empty", 0]}
    if family == "flow":
        own = node("PyramidVideoFlowSampler", **wires, seed=SEED, steps=STEPS, cfg=CFG, solver="euler", shift=0.0)
    else:
        own = node("PyramidVideoDDIMSampler", **wires, seed=SEED, steps=STEPS, cfg=CFG, eta=0.0)
    graph["ours"] = own
    settings = {"seed": SEED, "steps": STEPS, "cfg": CFG, "denoise": 1.0}
    graph["core"] = node("KSampler", **wires, **settings, sampler_name="euler", scheduler="simple")
    graph["euler"] = node("KSamplerSelect", sampler_name="euler")
    guider = core_guider(graph, "guider", ["model", 0])
    parts = advanced(graph, "parts", guider, ["euler", 0], simple_sigmas(graph, ["model", 0]), ["empty", 0])
    ours, core, custom = runs.latents(graph, ["ours", 0], ["core", 0], parts)
    close(core, ours, 2e-3)
    close(custom, core, 1e-6)


def test_cores_guider_and_noise_drive_the_pyramid(runs):
    graph = start()
    one_block = pyramid(graph)
    graph["sampler"] = node("PyramidVideoSamplerObject", stages=["stages", 0])
    guider = core_guider(graph, "guider", ["model", 0])
    sigmas = simple_sigmas(graph, ["model", 0])
    parts = advanced(graph, "parts", guider, ["sampler", 0], sigmas, ["empty", 0])
    graph["custom"] = node(
        "SamplerCustom",
        **{key: [key, 0] for key in ("model", "positive", "negative", "sampler", "sigmas")},
        add_noise=True,
        noise_seed=SEED,
        cfg=CFG,
        latent_image=["empty", 0],
    )
    ours, core, older = runs.latents(graph, one_block, parts, ["custom", 0])
    close(core, ours, 1e-5)
    assert torch.equal(older, core)


PATCHES = {
    "APG": {"eta": 0.3, "norm_threshold": 2.0, "momentum": 0.5},
    "CFGZeroStar": {},
    "EasyCache": {"reuse_threshold": 0.5, "start_percent": 0.0, "end_percent": 1.0, "verbose": False},
    "LazyCache": {"reuse_threshold": 0.5, "start_percent": 0.0, "end_percent": 1.0, "verbose": False},
}


@pytest.mark.parametrize("patch", PATCHES)
def test_a_patched_model_gives_the_same_in_our_block_and_in_cores(runs, patch):
    """That these are the right numbers is shown in `door_guides.py`."""
    graph = start()
    plain = pyramid(graph)
    graph["patched"] = node(patch, model=["model", 0], **PATCHES[patch])
    ours = pyramid(graph, "ours", model=["patched", 0])
    graph["sampler"] = node("PyramidVideoSamplerObject", stages=["stages", 0])
    guider = core_guider(graph, "guider", ["patched", 0])
    core = advanced(graph, "core", guider, ["sampler", 0], simple_sigmas(graph, ["model", 0]), ["empty", 0])
    before, one, other = runs.latents(graph, plain, ours, core)
    close(other, one)
    assert (one - before).abs().max() > 1e-2


def test_a_repeated_latent_is_a_batch_of_the_next_seeds(runs):
    graph = start()
    graph["two"] = node("RepeatLatentBatch", samples=["empty", 0], amount=2)
    both = pyramid(graph, "both", latent_image=["two", 0])
    alone = [pyramid(graph, f"seed{SEED + row}", seed=SEED + row) for row in range(2)]
    made, first, second = runs.latents(graph, both, *alone)
    close(made, torch.cat([first, second]))


def test_clips_put_together_by_latent_batch_are_decoded_one_after_the_other(runs):
    graph = start()
    wires = [pyramid(graph, f"seed{seed}", seed=seed) for seed in (SEED, SEED + 1)]
    graph["joined"] = node("LatentBatch", samples1=wires[0], samples2=wires[1])
    graph["pictures"] = node("VAEDecode", samples=["joined", 0], vae=["vae", 0])
    for number, wire in enumerate(wires):
        graph[f"alone{number}"] = node("VAEDecode", samples=wire, vae=["vae", 0])
    joined, first, second = runs.pictures(graph, ["pictures", 0], ["alone0", 0], ["alone1", 0])
    assert torch.equal(joined, torch.cat([first, second]))


def test_a_saved_latent_loads_again_bit_for_bit(runs):
    graph = start()
    graph["save"] = node("SaveLatent", samples=pyramid(graph), filename_prefix="kept")
    (entry,) = runs.report(graph).outputs["save"]["latents"]
    before = runs.latents(graph, ["video", 0])[0]
    again = {"load": node("LoadLatent", latent=runs.to_input(runs.file(entry), "kept.latent"))}
    assert torch.equal(runs.latents(again, ["load", 0])[0], before)


def test_video_nodes_carry_our_pictures_and_their_rate(runs):
    graph = start()
    graph["decoded"] = node("PyramidVideoDecode", samples=pyramid(graph), vae=["vae", 0], chunk_frames=2, tile_size=0)
    graph["created"] = node("CreateVideo", images=["decoded", 0], fps=["empty", 2])
    graph["parts"] = node("GetVideoComponents", video=["created", 0])
    graph["again"] = node("CreateVideo", images=["parts", 0], fps=["parts", 2])
    decoded, taken_apart = runs.pictures(graph, ["decoded", 0], ["parts", 0])
    assert torch.equal(decoded, taken_apart)

    saving = {"filename_prefix": "clip", "format": "mp4", "codec": "h264"}
    for name in ("created", "again"):
        graph[f"save {name}"] = node("SaveVideo", video=[name, 0], **saving)
    outputs = runs.report(graph).outputs
    one, other = (film(runs.file(outputs[f"save {name}"]["images"][0])) for name in ("created", "again"))
    assert one[0] == other[0] == 8 and one[1].shape == (9, 64, 64, 3) and torch.equal(one[1], other[1])


def film(file: Path) -> tuple[float, torch.Tensor]:
    """Pictures a second, and the pictures (frames, h, w, 3)."""
    with av.open(str(file)) as video:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in video.decode(video=0)]
        return float(video.streams.video[0].average_rate), torch.stack(frames)


def test_a_compiled_model_gives_the_clip_of_the_plain_one(runs):
    graph = start(frames=1)
    graph["stages"]["inputs"]["stage_count"] = 2  # the compiler is slow; `door_guides.py` has more stages and a past
    plain = pyramid(graph)
    graph["compiled"] = node("TorchCompileModel", model=["model", 0], backend="inductor")
    one, other = runs.latents(graph, plain, pyramid(graph, "fast", model=["compiled", 0]))
    close(other, one)


@pytest.mark.parametrize("family", ["pyramid", "flow", "v", "gan"])
def test_a_model_saved_with_its_lora_loads_again(runs, family):
    graph = start("tiny.safetensors" if family == "pyramid" else f"tiny_{family}.safetensors")
    lora = {"lora_name": LORA, "strength_model": 0.7}
    graph["patched"] = node("LoraLoaderModelOnly", model=["model", 0], **lora)
    graph["save"] = node("ModelSave", model=["patched", 0], filename_prefix=f"diffusion_models/house_{family}")
    runs.report(graph)
    saved = {"model_name": f"house_{family}_00001_.safetensors", "weight_dtype": "default"}
    del graph["save"]
    graph["again"] = node("PyramidVideoLoadModel", **saved)

    def sample(name: str, model: list) -> list:
        wires = {"model": model, "positive": ["positive", 0], "latent_image": ["empty", 0], "seed": SEED}
        if family == "pyramid":
            return pyramid(graph, name, model=model)
        more = {"negative": ["negative", 0], "steps": STEPS, "cfg": CFG}
        graph[name] = {
            "flow": lambda: node("PyramidVideoFlowSampler", **wires, **more, solver="euler", shift=0.0),
            "v": lambda: node("PyramidVideoDDIMSampler", **wires, **more, eta=0.0),
            "gan": lambda: node("PyramidVideoGANSampler", **wires),
        }[family]()
        return [name, 0]

    patched, again = runs.latents(graph, sample("one", ["patched", 0]), sample("other", ["again", 0]))
    close(again, patched)


def test_what_core_nodes_ask_that_a_pyramid_cannot_do_says_why(runs):
    graph = start()
    graph["empty"]["inputs"].update(width=128, height=128)
    area = {"width": 64, "height": 64, "x": 0, "y": 0, "strength": 1.0}
    graph["area"] = node("ConditioningSetArea", conditioning=["positive", 0], **area)
    message = runs.message(graph, pyramid(graph, positive=["area", 0]))
    assert "area" in message and "Set Mask" in message

    graph = start()
    graph["mask"] = node("SolidMask", value=1.0, width=64, height=64)
    graph["masked"] = node("SetLatentNoiseMask", samples=["empty", 0], mask=["mask", 0])
    graph["sampler"] = node("PyramidVideoSamplerObject", stages=["stages", 0])
    guider = core_guider(graph, "guider", ["model", 0])
    parts = advanced(graph, "parts", guider, ["sampler", 0], simple_sigmas(graph, ["model", 0]), ["masked", 0])
    message = runs.message(graph, parts)
    assert "Set Latent Noise Mask" in message and "Temporal conditioning" in message
