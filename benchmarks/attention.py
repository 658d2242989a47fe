"""What the forms of attention cost against one attention with a dense mask: `python benchmarks/attention.py`.

Takes one layer's attention of a pyramid model, at one unit of a video and at every stage: the text of a prompt and of a
negative prompt, the past at falling resolution, the frame in work. All forms get the same queries, keys and values;
each runs in a process of its own, so that its peak memory is its own. Time and work grow in proportion to `--heads` and
to the layers of a model (24).
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import _package  # noqa: F401
import numpy as np
import torch
import torch.nn.functional as F
from pyramid_video.models.attention_forms import attend
from pyramid_video.models.layers import patch_grid
from pyramid_video.models.token_layout import frame_ends, text_order, token_layout
from pyramid_video.samplers.history import history_clips
from torch import Tensor

SPACE_COMPRESSION = 8
FORMS = ("dense", "masked", "runs")


@dataclass(frozen=True)
class Case:
    """One attention: which clips are in the call, how long the texts are, and how to run it."""

    grids: tuple[tuple[int, int, int], ...]
    padded_text: int
    real_text: tuple[int, ...]
    heads: int
    head: int
    repeats: int
    device: str
    dtype: str

    @property
    def image_tokens(self) -> int:
        return sum(frames * rows * columns for frames, rows, columns in self.grids)

    @property
    def mask(self) -> Tensor:
        """(b, padded text), 1 = real."""
        return (torch.arange(self.padded_text) < torch.tensor(self.real_text)[:, None]).long()


def grids_at(width: int, height: int, unit: int, stages: int, stage: int) -> tuple[tuple[int, int, int], ...]:
    """Return frames, rows and columns in patches of all clips that `stage` of `unit` sees, the noisy one last."""
    sizes = [SPACE_COMPRESSION * 2 ** (stages - 1 - level) for level in range(stages)]
    levels = [torch.empty(1, 1, unit, height // size, width // size, device="meta") for size in sizes]
    noisy = levels[stage].new_empty(1, 1, 1, *levels[stage].shape[3:])
    return tuple(patch_grid(clip) for clip in (*(history_clips(levels, stage) if unit else ()), noisy))


def attention_pairs(case: Case) -> dict[str, int]:
    """Count the pairs of query and key that each form works through, all rows of the batch together."""
    whole = (case.padded_text + case.image_tokens) ** 2 * len(case.real_text)
    needed = 0
    for text in case.real_text:
        ends = frame_ends(text, case.grids, causal=True)
        needed += sum((end - start) * end for start, end in zip((0, *ends), ends, strict=False))
    ends = (0, 0, *frame_ends(max(case.real_text), case.grids, causal=True))
    masked = (ends[-2] ** 2 + (ends[-1] - ends[-2]) * ends[-1]) * len(case.real_text)
    return {"dense": whole, "masked": masked, "runs": needed}


def prepare(case: Case, form: str):
    """Return a function that runs the attention in this form and gives `(b, image tokens, features)`."""
    device, dtype = torch.device(case.device), getattr(torch, case.dtype)
    generator = torch.Generator().manual_seed(0)
    shape = len(case.real_text), case.padded_text + case.image_tokens, case.heads, case.head
    query, key, value = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(3))
    if form == "dense":
        times = [0] * case.padded_text
        frames = [rows * columns for count, rows, columns in case.grids for _ in range(count)]
        times += [frame for frame, size in enumerate(frames) for _ in range(size)]
        time_of = torch.tensor(times, device=device)
        real = torch.cat((case.mask, torch.ones(len(case.real_text), case.image_tokens)), dim=1).bool().to(device)
        mask = (real[:, :, None] == real[:, None, :]) & (time_of[:, None] >= time_of)
        heads_first = [x.transpose(1, 2) for x in (query, key, value)]

        def run() -> Tensor:
            out = F.scaled_dot_product_attention(*heads_first, attn_mask=mask[:, None])
            return out.transpose(1, 2).flatten(2)[:, case.padded_text :]

        return run
    padding, order = text_order(tuple(map(tuple, case.mask.bool().tolist())), device)
    longest = max(case.real_text)

    def packed(x: Tensor) -> Tensor:
        text, image = x.split((case.padded_text, case.image_tokens), dim=1)
        if order is not None:
            text = text.gather(1, order[..., None, None].expand(-1, -1, *text.shape[2:]))
        return torch.cat((text, image), dim=1)

    query, key, value = packed(query), packed(key), packed(value)
    layout = token_layout(form, padding, frame_ends(longest, case.grids, causal=True), 0, 0, device)
    work = F.scaled_dot_product_attention
    return lambda: attend(query, key, value, layout, work)[:, -case.image_tokens :]


def measure(case: Case, form: str) -> tuple[float, float, np.ndarray]:
    """Return seconds (the best of all repeats), peak MiB over what was there before, and the result."""
    cuda = case.device.startswith("cuda")
    with torch.inference_mode():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        run = prepare(case, form)
        result, seconds = run().float().cpu(), []
        for _ in range(case.repeats):
            start = time.perf_counter()
            run()
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    if cuda:
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return min(seconds), peak, result.numpy()  # a tensor would be handed over in memory that ends with this process


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--width", type=int, default=640, help="of the video, in pixels (default 640)")
    parser.add_argument("--height", type=int, default=384, help="of the video, in pixels (default 384)")
    parser.add_argument("--unit", type=int, default=15, help="which latent frame is in work, from 0 (default 15)")
    parser.add_argument("--stages", type=int, default=3, help="rungs of the pyramid (default 3)")
    parser.add_argument("--text", type=int, default=128, help="text tokens with padding (default 128)")
    parser.add_argument(
        "--real", type=int, nargs="+", default=[60, 20], help="real text tokens of each row (default 60 20)"
    )
    parser.add_argument("--heads", type=int, default=4, help="official models have 30 or 24 (default 4, for a CPU)")
    parser.add_argument("--head", type=int, default=64, help="features of a head (default 64)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Print a table: a line for each stage and form."""
    asked = parse(arguments)
    spawn = multiprocessing.get_context("spawn")
    print(f"{'stage':>5} {'form':>7} {'tokens':>7} {'GFLOP':>8} {'ms':>9} {'peak MiB':>9}  largest difference")
    for stage in range(asked.stages):
        case = Case(
            grids=grids_at(asked.width, asked.height, asked.unit, asked.stages, stage),
            padded_text=asked.text,
            real_text=tuple(asked.real),
            heads=asked.heads,
            head=asked.head,
            repeats=asked.repeats,
            device=asked.device,
            dtype=asked.dtype,
        )
        pairs, results = attention_pairs(case), {}
        for form in FORMS:
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                seconds, peak, results[form] = pool.submit(measure, case, form).result()
            tokens = case.image_tokens + (case.padded_text if form == "dense" else max(case.real_text))
            work = 4 * pairs[form] * case.heads * case.head / 1e9
            note = f"{np.abs(results[form] - results['dense']).max():.1e}" if form != "dense" else ""
            print(
                f"{stage:>5} {form:>7} {tokens:>7} {work:>8.3g} {1000 * seconds:>9.1f} {peak:>9.0f}  {note}", flush=True
            )


if __name__ == "__main__":
    main(sys.argv[1:])
