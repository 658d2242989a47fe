"""Helios' transformer here and in diffusers, in one run: `python benchmarks/helios_side_by_side.py --threads 2`.

Diffusers' class is the published code. Both get the same random weights, of the released width of a head, and the same
inputs: a unit of nine latent frames at the three stages of a clip, with the official history. Calls take turns, so that
whatever else the computer does meets both; printed are medians of seconds by the clock and of processor time, and how
far the answers are apart. Needs diffusers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import _package  # noqa: F401
import torch
from pyramid_video.models import skip_init
from pyramid_video.models.helios import (
    TEXT_TOKENS,
    UNIT_FRAMES,
    HeliosConfig,
    HeliosTransformer,
    HistoryLevel,
    HistoryLevels,
)
from torch import Tensor

STAGES = (4, 2, 1)  # how many times smaller than the clip
HISTORY = {"long": (16, range(1, 17)), "mid": (2, (17, 18)), "short": (2, (0, 19))}
TEXT_WIDTH = 256


def networks(heads: int, layers: int):
    """Diffusers' network and ours with the same random weights."""
    from diffusers import HeliosTransformer3DModel

    sizes = dict(num_attention_heads=heads, attention_head_dim=128, text_dim=TEXT_WIDTH, num_layers=layers)
    sizes |= dict(ffn_dim=heads * 128 * 27 // 10)
    theirs = HeliosTransformer3DModel(**sizes, rope_dim=(44, 42, 42)).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in theirs.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        norm = "norm" in name and name.endswith("weight")
        parameter.copy_(1 + 0.1 * noise if norm else 0.5 * noise / max(1, parameter[0].numel()) ** 0.5)
    ours = HeliosTransformer(HeliosConfig(**sizes), ops=skip_init).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def calls(theirs, ours, width: int, height: int, smaller: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """The same question for both, at one stage."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    rows, columns = height // 8, width // 8
    x = draw(1, 16, UNIT_FRAMES, rows // smaller, columns // smaller)
    timestep, text, made = torch.tensor([700.0]), draw(1, TEXT_TOKENS, TEXT_WIDTH), tuple(range(20, 20 + UNIT_FRAMES))
    past = {name: HistoryLevel(draw(1, 16, n, rows, columns), tuple(at)) for name, (n, at) in HISTORY.items()}
    memory, given = HistoryLevels(made, **past), {"indices_hidden_states": torch.tensor(made)[None]}
    for name, level in past.items():
        given[f"latents_history_{name}"] = level.latents
        given[f"indices_latents_history_{name}"] = torch.tensor(level.frames)[None]
    return (
        lambda: theirs(x, timestep, text, **given, return_dict=False)[0],
        lambda: ours(x, timestep, text, memory),
    )


def timed(work: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
    wall, spent = time.perf_counter(), time.process_time()
    answer = work()
    return time.perf_counter() - wall, time.process_time() - spent, answer


@torch.no_grad()
def main(arguments: list[str]) -> None:
    """Print a line for each stage, and one for a unit of the sampler's 2 + 2 + 2 calls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--heads", type=int, default=8, help="of 128 features; the released model has 40")
    parser.add_argument("--layers", type=int, default=4, help="the released model has 40")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    pair = networks(asked.heads, asked.layers)
    totals = [[0.0, 0.0], [0.0, 0.0]]
    for smaller in STAGES:
        both = calls(*pair, asked.width, asked.height, smaller)
        answers = [work() for work in both]
        runs = [[timed(work)[:2] for work in both] for _ in range(asked.repeats)]
        wall, spent = ([statistics.median(run[who][what] for run in runs) for who in (0, 1)] for what in (0, 1))
        for who in (0, 1):
            totals[who][0] += wall[who]
            totals[who][1] += spent[who]
        apart = float((answers[0] - answers[1]).abs().max() / answers[0].abs().max())
        print(
            f"1/{smaller} of {asked.width}x{asked.height}: {line(wall, spent)}; answers {apart:.1e} apart", flush=True
        )
    print(f"a unit of one call each: {line(*zip(*totals, strict=True))}")


def line(wall, spent) -> str:
    return (
        f"diffusers {wall[0]:.3f} s ({spent[0]:.3f} s of processor), here {wall[1]:.3f} s ({spent[1]:.3f} s): "
        f"{wall[0] / wall[1]:.2f} times faster by the clock, {spent[0] / spent[1]:.2f} by the processor"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
