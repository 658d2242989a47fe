"""Pyramid Flow's official code and this one, in one run: `python benchmarks/pyramid_side_by_side.py --official FOLDER`.

FOLDER is your own checkout of github.com/jy0205/Pyramid-Flow. Its transformer gets random weights, ours the same ones,
and both the same noise, prompts and guidance. Timed in turn are single calls of the last unit at each stage, and whole
clips of latent frames as each code makes them: there `PyramidDiTForVideoGeneration.generate`, here the sampler that
runs without ComfyUI, which keeps keys and values from unit to unit. Noise between stages is ours in both: the official
code draws it block by block from a normal distribution whose matrix is singular, which today's torch refuses. Printed
are seconds by the clock and of processor time, and how far the answers are apart. Needs diffusers, transformers and
accelerate; whatever else the official files import is not used here and may be missing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import _package  # noqa: F401
import torch
from pyramid_video.host.standalone.sampling import Guider
from pyramid_video.host.standalone.wires import Model
from pyramid_video.models import skip_init
from pyramid_video.models.checkpoint_info import CheckpointInfo
from pyramid_video.models.kv_cache import CacheSlot, KVCache
from pyramid_video.models.latent_format import LatentFormat
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.mmdit import MMDiTConfig, MMDiTTransformer
from pyramid_video.samplers.guidance import PyramidGuidance
from pyramid_video.samplers.history import PyramidHistory
from pyramid_video.samplers.noise import block_noise, draw_noise, row_generators
from pyramid_video.samplers.pyramid import sample_pyramid
from pyramid_video.samplers.stages import make_stages
from pyramid_video.samplers.units import ONE_FRAME
from torch import Tensor, nn

USED = ("diffusers.models.modeling_utils", "diffusers.models.embeddings", "transformers.models.t5", "accelerate")
UNUSED = ("torchvision", "tensorboardX", "IPython", "video_vae", "video_vae.modeling_causal_vae")  # by what runs here
SEED = 1
FILLED, REAL = 128, (60, 40)  # tokens of a text, and how many of them are no padding: negative, positive
TEXT, POOLED = 512, 256  # widths
GUIDANCE = PyramidGuidance(7.0, 5.0)
KINDS: dict[str, Any] = {"miniflux": (MiniFluxConfig, MiniFluxTransformer), "mmdit": (MMDiTConfig, MMDiTTransformer)}


def official_pipeline(folder: Path):
    """The module of the official pipeline, without what nothing uses here, such as its VAE."""
    if not (folder / "pyramid_dit").is_dir():
        raise SystemExit(f"{folder} has no folder pyramid_dit: give your checkout of github.com/jy0205/Pyramid-Flow")
    for name in USED:  # these look for the others themselves
        importlib.import_module(name)
    for name in UNUSED:
        sys.modules.setdefault(name, MagicMock())
    sys.path.insert(0, str(folder))
    return importlib.import_module("pyramid_dit.pyramid_dit_for_video_gen_pipeline")


class Pair:
    """The official pipeline and our model with the same random weights and prompts."""

    def __init__(self, official: Any, kind: str, heads: int, layers: int) -> None:
        sizes = dict(num_layers=layers, num_attention_heads=heads, attention_head_dim=64)
        sizes |= dict(joint_attention_dim=TEXT, pooled_projection_dim=POOLED)
        if kind == "miniflux":
            sizes |= dict(num_single_layers=2 * layers, in_channels=64)
            network = official.PyramidFluxTransformer(**sizes)
        else:
            sizes |= dict(caption_projection_dim=64 * heads)
            rules = dict(use_flash_attn=False, use_temporal_causal=True, use_t5_mask=True, add_temp_pos_embed=True)
            rules |= dict(pos_embed_type="sincos", temp_pos_embed_type="rope", interp_condition_pos=True)
            network = official.PyramidDiffusionMMDiT(**sizes, **rules)
        generator = torch.Generator().manual_seed(0)
        randomise(network, generator)
        config, ours = KINDS[kind]
        self.kind = kind
        self.config = config(**sizes)
        self.network = ours(self.config, ops=skip_init).eval()
        self.network.load_state_dict(network.state_dict())
        draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
        self.texts, self.pooled = draw(2, FILLED, TEXT), draw(2, POOLED)
        self.mask = (torch.arange(FILLED) < torch.tensor(REAL)[:, None]).long()

        self.pipeline = pipeline = object.__new__(official.PyramidDiTForVideoGeneration)  # without files
        pipeline.dit, pipeline.text_encoder, pipeline.vae = network.eval(), self.official_text, None
        pipeline.stages, pipeline.frame_per_unit, pipeline.downsample = [1, 2, 4], 1, 8
        pipeline.scheduler = official.PyramidFlowMatchEulerDiscreteScheduler(
            shift=1.0, stages=3, stage_range=[0, 1 / 3, 2 / 3, 1], gamma=1 / 3
        )
        pipeline.model_name = "pyramid_flux" if kind == "miniflux" else "pyramid_mmdit"
        pipeline.sequential_offload_enabled = False

    def official_text(self, prompt, device):
        row = slice(1, 2) if isinstance(prompt, list) else slice(0, 1)  # the official code makes a list of the prompt
        return self.texts[row], self.mask[row], self.pooled[row]

    def official_clip(self, width: int, height: int, frames: int, steps: tuple[int, int]) -> Tensor:
        generators = row_generators(SEED, 1)
        self.pipeline.sample_block_noise = lambda *shape: block_noise(torch.empty(shape), 1 / 3, generators)
        with contextlib.redirect_stderr(io.StringIO()):
            return self.pipeline.generate(
                ["a prompt"],
                height,
                width,
                frames,
                num_inference_steps=steps[0],
                video_num_inference_steps=steps[1],
                guidance_scale=GUIDANCE.first,
                video_guidance_scale=GUIDANCE.video,
                negative_prompt="another",
                generator=torch.Generator().manual_seed(SEED),
                output_type="latent",
            )

    def our_clip(self, width: int, height: int, frames: int, steps: tuple[int, int]) -> Tensor:
        info = CheckpointInfo(Path("random"), self.kind, self.config, LatentFormat("plain", 0.0, 1.0, 0.0, 1.0))
        model = Model(self.network, info, torch.device("cpu"), torch.float32)
        negative, positive = (
            [[self.texts[row : row + 1, :real], {"pooled_output": self.pooled[row : row + 1]}]]
            for row, real in enumerate(REAL)
        )
        noise = draw_noise((1, self.config.latent_channels, frames, height // 8, width // 8), SEED)
        stages = make_stages(first_steps=steps[0], video_steps=steps[1])
        velocity = Guider(model, positive, negative, GUIDANCE).velocity(1)
        return sample_pyramid(velocity, noise, stages, generators=row_generators(SEED, 1))

    def calls(self, width: int, height: int, frames: int, stage: int) -> list[Callable[[], Tensor]]:
        """The last unit of a clip at one stage: the official code, ours, and ours where an earlier unit left keys."""
        generator = torch.Generator().manual_seed(2)
        clip = torch.randn(1, self.config.latent_channels, frames, height // 8, width // 8, generator=generator)
        past = list(clip[:, :, :-1].split(1, 2))
        history = PyramidHistory()
        sees = history.begin(clip, 3, ONE_FRAME, ())
        x = clip[:, :, -1:, :: 2 ** (2 - stage), :: 2 ** (2 - stage)].contiguous()
        two = lambda clips, last: [part.repeat(2, 1, 1, 1, 1) for part in (*clips, last)]  # noqa: E731
        now, timestep = two(sees(past)(stage), x), torch.full((2,), 700.0)
        texts, mask = self.network.join_texts([self.texts[row : row + 1, :real] for row, real in enumerate(REAL)])
        cache = KVCache(2**34)

        def kept(unit: int, clips: list[Tensor]) -> Tensor:
            settled = history.settled(unit, frames, stage, ONE_FRAME)
            later = 0 if unit == frames - 1 else history.settled(frames - 2, frames, stage, ONE_FRAME)
            slot = CacheSlot(cache, "here", settled, later) if settled else None
            return self.network.predict(clips[-1], timestep, clips[:-1], texts, mask, self.pooled, slot)

        before = two(sees(past[:-1])(stage), x)

        def with_keys() -> Tensor:
            return kept(frames - 1, now)

        def official() -> Tensor:
            return self.pipeline.dit(
                sample=[now],
                timestep_ratio=timestep,
                encoder_hidden_states=self.texts,
                encoder_attention_mask=self.mask,
                pooled_projections=self.pooled,
            )[0]

        kept(frames - 2, before)
        return [official, lambda: self.network(now, timestep, texts, mask, self.pooled), with_keys]


def randomise(network: nn.Module, generator: torch.Generator) -> None:
    """Random weights that keep values near 1; fixed tables stay."""
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        norm = "norm" in name and "linear" not in name and name.endswith("weight")
        parameter.copy_(1 + 0.1 * noise if norm else 0.5 * noise / math.sqrt(max(1, parameter[0].numel())))


def timed(work: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
    wall, spent = time.perf_counter(), time.process_time()
    answer = work()
    return time.perf_counter() - wall, time.process_time() - spent, answer


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference as a share of the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def line(name: str, wall: list[float], spent: list[float], apart: float) -> str:
    """A row of the table: theirs, ours, how many times less, of the clock and of the processor."""
    return (
        f"| {name} | {wall[0]:.3f} | {wall[1]:.3f} | {wall[0] / wall[1]:.2f} | "
        f"{spent[0]:.3f} | {spent[1]:.3f} | {spent[0] / spent[1]:.2f} | {apart:.0e} |"
    )


@torch.no_grad()
def main(arguments: list[str]) -> None:
    """Print a table: a row for each kind of call, and one for the clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--kind", choices=KINDS, default="miniflux")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--frames", type=int, default=16, help="latent frames of the clip")
    parser.add_argument("--steps", type=int, nargs=2, default=(20, 10), help="of a stage: first frame, later ones")
    parser.add_argument("--heads", type=int, default=6, help="of 64 features; the released models have 30 and 24")
    parser.add_argument("--layers", type=int, default=2, help="double blocks; miniFLUX has twice as many single ones")
    parser.add_argument("--repeats", type=int, default=5, help="of a call")
    parser.add_argument("--clips", type=int, default=1, help="how often the clip is made")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    with contextlib.redirect_stdout(io.StringIO()):
        pair = Pair(official_pipeline(asked.official), asked.kind, asked.heads, asked.layers)
    size = asked.width, asked.height, asked.frames
    print("| | official, s | here, s | times | official, s of processor | here | times | apart |")
    print("|---|---|---|---|---|---|---|---|")
    for stage in range(3):
        works = pair.calls(*size, stage)
        answers = [work() for work in works]
        runs = [[timed(work)[:2] for work in works] for _ in range(asked.repeats)]
        wall, spent = ([statistics.median(run[who][what] for run in runs) for who in range(3)] for what in (0, 1))
        for who, name in ((1, "a call"), (2, "a call, keys kept")):
            row = [wall[0], wall[who]], [spent[0], spent[who]], apart(answers[who], answers[0])
            print(line(f"{name}, stage {stage + 1} of unit {asked.frames}", *row), flush=True)
    steps = tuple(asked.steps)
    for _ in range(asked.clips):
        theirs = timed(lambda: pair.official_clip(*size, steps))
        ours = timed(lambda: pair.our_clip(*size, steps))
        both = [theirs[0], ours[0]], [theirs[1], ours[1]], apart(ours[2], theirs[2])
        print(line(f"a clip of {asked.frames} latent frames", *both), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
