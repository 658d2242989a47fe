"""A clip of the bundled pyramid, made and decoded on the pretended GPU; prints what happened as JSON.

Run by test_pretended_gpu.py in a process of its own, because the pretended device stays for good.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import _package  # noqa: F401, E402
import torch  # noqa: E402
from pretended_gpu import DEVICE, ROOT, notes, pretend  # noqa: E402

FRAMES, SIZE, STEPS = 3, 8, 2


def clip_on(device: torch.device):
    """A clip, its pictures, an encoded clip, and where the host waited or copied: in first steps, others, outside."""
    from pyramid_video.host.standalone import sampling as standalone_sampling
    from pyramid_video.host.standalone.sampling import Guider, PyramidSampler, sample
    from pyramid_video.host.standalone.wires import VAE, Model
    from pyramid_video.models import checkpoints
    from pyramid_video.samplers.guidance import PyramidGuidance
    from pyramid_video.samplers.stages import make_stages

    weights = ROOT / "models" / "pretrained"
    network, info = checkpoints.load(
        weights / "diffusion_models" / "pyramid_video_small.safetensors", ("miniflux",), dtype=torch.float32
    )
    model = Model(network, info, device, torch.float32)
    standalone_sampling.free_memory = lambda device: 2**30
    generator = torch.Generator().manual_seed(0)

    def prompt(words: int):
        tokens = torch.randn(1, words, model.info.text_width, generator=generator)
        return [[tokens, {"pooled_output": torch.randn(1, model.info.pooled_width, generator=generator)}]]

    guider = Guider(model, prompt(5), prompt(3), PyramidGuidance())
    stages = make_stages(first_steps=STEPS, video_steps=STEPS)
    inside: dict[str, dict[str, int]] = {"first step": {}, "other steps": {}, "outside": {}}
    seen = dict(notes)

    def since(kind: str) -> None:
        nonlocal seen
        for (what, where), count in notes.items():
            if count > seen.get((what, where), 0):
                key = f"{what} {where}"
                inside[kind][key] = inside[kind].get(key, 0) + count - seen.get((what, where), 0)
        seen = dict(notes)

    ask = Model.predict

    def watched(self, *args):
        since("outside")
        result = ask(self, *args)
        since("first step" if calls[0] % STEPS == 0 else "other steps")
        calls[0] += 1
        return result

    calls = [0]
    Model.predict = watched
    latent = {"samples": torch.zeros(1, model.info.latent_channels, FRAMES, SIZE, SIZE)}
    samples = sample(guider, PyramidSampler(stages, None), latent, 3, None)["samples"]
    Model.predict = ask
    since("outside")
    vae_network, vae_info = checkpoints.load(
        weights / "vae" / "pyramid_video_small_vae.safetensors", ("causal_vae",), dtype=torch.float32
    )
    vae = VAE(vae_network, vae_info, device)
    return samples, vae.decode(samples), vae.encode(torch.rand(9, 32, 32, 3, generator=generator)), inside


def main() -> None:
    with torch.no_grad():
        plain = clip_on(torch.device("cpu"))
        with pretend():
            device = clip_on(torch.device(DEVICE))
        differences = [float((a - b).abs().max()) for a, b in zip(plain[:3], device[:3], strict=True)]
    float64 = [where for what, where in notes if what == "float64"]
    print(json.dumps({"differences": differences, "notes": device[3], "float64": float64}))


if __name__ == "__main__":
    main()
