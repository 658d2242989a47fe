"""What a whole clip asks of a card, counted without one: `python benchmarks/count_transformer.py`.

Plays every call of Pyramid Flow's transformer for a clip on fake tensors: launches, attention calls and their distinct
shapes, bytes moved, tokens worked through, peak memory of activations. Seconds are not measured; the last column is the
least that an H100 would take by its bandwidth and bf16 rate. Needs a build of torch that knows CUDA, no GPU.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

import _package  # noqa: F401
import numpy as np
import torch
from _counting import H100_FLOPS, Counts, counted_card
from pyramid_video.models import attention_forms, skip_init
from pyramid_video.models.kv_cache import KVCache
from pyramid_video.models.layers import patch_grid, patchify
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.mmdit import MMDiTConfig, MMDiTTransformer
from pyramid_video.models.token_layout import frame_ends
from pyramid_video.samplers.history import PyramidHistory, history_clips
from pyramid_video.samplers.units import ONE_FRAME

CARD = torch.device("cuda", 0)
MODELS = {"miniflux": (MiniFluxTransformer, MiniFluxConfig), "sd3": (MMDiTTransformer, MMDiTConfig)}
SHALLOW = {"miniflux": {"num_layers": 1, "num_single_layers": 1}, "sd3": {"num_layers": 2}}  # as many shapes
STAGES, FIRST_STEPS, VIDEO_STEPS = 3, 20, 10


def latents_of(width: int, height: int, unit: int, rows: int, channels: int) -> list[torch.Tensor]:
    """The finished frames before `unit` at every resolution."""
    sizes = [8 * 2 ** (STAGES - 1 - level) for level in range(STAGES)]
    return [
        torch.empty(rows, channels, max(unit, 1), height // s, width // s, device=CARD, dtype=torch.bfloat16)
        for s in sizes
    ]


class Clip:
    """All calls of one clip with a network of full size, or of other `layers`."""

    def __init__(
        self, kind: str, size: tuple[int, int], units: int, texts: tuple[int, ...], counts: Counts, **layers: int
    ) -> None:
        network, config = MODELS[kind]
        self.network = network(config(**layers), ops=skip_init, device=CARD, dtype=torch.bfloat16)
        self.network.requires_grad_(False).eval()
        self.size, self.units, self.texts, self.counts = size, units, texts, counts
        made = self.network.config
        self.text = torch.empty(len(texts), max(texts), made.text_width, device=CARD, dtype=torch.bfloat16)
        self.pooled = torch.empty(len(texts), made.pooled_width, device=CARD, dtype=torch.bfloat16)
        self.history = PyramidHistory()

    def call(self, unit: int, stage: int, cache: KVCache | None) -> tuple[int, int]:
        """Ask once; the number of tokens that it works through, and the multiplications of its varlen attention."""
        rows, channels = len(self.texts), self.network.config.latent_channels
        levels = latents_of(*self.size, unit, rows, channels)
        past = history_clips(levels, stage) if unit else ()
        x = levels[stage][:, :, :1]
        clips = *past, x
        settled = self.history.settled(unit, self.units, stage, ONE_FRAME)
        grids, longest = tuple(map(patch_grid, clips)), max(self.texts)
        tokens, kept = longest + sum(f * h * w for f, h, w in grids), None
        if cache is not None and settled:
            later = self.history.settled(self.units - 2, self.units, stage, ONE_FRAME) if unit < self.units - 1 else 0
            _, height, width = grids[0]
            sizes = (longest + frames * height * width if frames else 0 for frames in (settled, later))
            kept = cache.take(stage, lambda count: self.network.cache_shape(rows, count), x, *sizes)
        real = tuple((True,) * text + (False,) * (longest - text) for text in self.texts)
        plan = self.network.plan(grids, real, x, kept)
        patches, timestep = torch.cat([patchify(clip) for clip in clips], dim=1), torch.empty(rows, device=CARD)
        self.network.velocity(patches, grids[-1], timestep, self.text, self.pooled, plan)
        if cache is not None:
            cache.put(stage, kept)
        known = 0 if kept is None else kept.tokens
        return tokens - known, self.attention_flops(grids, known)

    def attention_flops(self, grids: tuple[tuple[int, int, int], ...], first: int) -> int:
        """Those of queries from token `first` on, exactly: a varlen call does not say how long its sequences are."""
        ends, pairs = frame_ends(max(self.texts), grids, causal=True), 0
        for text in self.texts:
            hidden = max(self.texts) - text
            asked = [(start, end) for start, end in zip((0, *ends), ends, strict=False) if end > first]
            pairs += sum((end - max(start, first)) * (end - hidden) for start, end in asked)
        layers, _, _, _, heads, head = self.network.cache_shape(1, 1)
        return 4 * pairs * layers * heads * head

    def fill(self, cache: KVCache, unit: int, stage: int) -> None:
        """Bring `cache` to where the unit before leaves it."""
        before = self.history.settled(unit - 1, self.units, stage, ONE_FRAME)
        later = self.history.settled(self.units - 2, self.units, stage, ONE_FRAME)
        _, rows, columns = patch_grid(latents_of(*self.size, 1, 1, 1)[0])
        if before < 1:
            return
        words, frame = max(self.texts), rows * columns
        like = torch.empty(0, device=CARD, dtype=torch.bfloat16)
        shape = lambda tokens: self.network.cache_shape(len(self.texts), tokens)  # noqa: E731
        cache.take(stage, shape, like, words + before * frame, words + later * frame)
        cache.entries[stage].tokens = words + before * frame

    def count(self, keep: bool) -> dict[str, float]:
        """Counts of the whole clip: some units are asked, once for each stage; those between lie on a line."""
        asked = sorted({0, 1, 2, 3, 4, self.units // 2, self.units - 2, self.units - 1} & set(range(self.units)))
        total: Counter[str] = Counter()
        peak = 0
        for stage in range(STAGES):
            rows = []
            for unit in asked:
                cache = KVCache(2**60) if keep else None
                if cache is not None and unit:
                    self.fill(cache, unit, stage)
                if not unit:
                    self.call(unit, stage, None)  # tables of a stage are made before its steps
                for entry in [] if cache is None else cache.entries.values():
                    before = entry.tokens
                    self.call(unit, stage, cache)  # as the unit before, leaves what modulates
                    entry.tokens = before
                counts = self.counts
                counts.clear()
                start = counts.live - kept_bytes(cache)
                tokens, attention = self.call(unit, stage, cache)
                start += kept_bytes(cache)  # which stays, and is made before anything else
                moved, flops = sum(counts.bytes.values()), sum(counts.flops.values()) + attention
                rows.append(
                    {
                        "launches": sum(counts.launches.values()),
                        "attention calls": sum(counts.attention.values()),
                        "waits and copies": sum(counts.events.values()) / VIDEO_STEPS,  # once a stage
                        "bytes": moved,
                        "flops": flops,
                        "tokens": tokens,
                        "h100": counts.seconds + attention / H100_FLOPS,
                    }
                )
                peak = max(peak, counts.peak - start)
                if (unit, stage) in ((0, 0), (self.units - 1, STAGES - 1)):
                    print(f"  unit {unit}, stage {stage}: {rows[-1]}", file=sys.stderr)
            for unit in range(self.units):
                steps = VIDEO_STEPS if unit else FIRST_STEPS
                for key in rows[0]:
                    total[key] += steps * float(np.interp(unit, asked, [row[key] for row in rows]))
                total["calls"] += steps
        return {**total, "peak": peak}

    def shapes(self, keep: bool) -> int:
        """How many distinct shapes and strides its attention calls have, every unit asked."""
        found: set[tuple] = set()
        for stage in range(STAGES):
            for unit in range(self.units):
                cache = KVCache(2**60) if keep else None
                if cache is not None and unit:
                    self.fill(cache, unit, stage)
                self.counts.clear()
                self.call(unit, stage, cache)
                found |= set(self.counts.attention)
        return len(found)


def kept_bytes(cache: KVCache | None) -> int:
    """Of keys and values, which are no activations."""
    buffers = [] if cache is None else [entry.buffer for entry in cache.entries.values()]
    return sum(buffer.numel() * buffer.element_size() for buffer in buffers)


def main(arguments: list[str]) -> None:
    """Print a line for the clip, with keys kept from unit to unit and without."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--kind", choices=MODELS, default="miniflux")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--frames", type=int, default=121, help="8k + 1")
    parser.add_argument("--texts", type=int, nargs="+", default=[40, 60], help="real tokens of each prompt")
    asked = parser.parse_args(arguments)
    attention_forms.kernel_is_right = lambda *_: True  # what a current card would say
    print(f"{asked.kind} {asked.width}x{asked.height}, {asked.frames} frames, texts of {asked.texts} tokens")
    with counted_card() as counts:
        about = asked.kind, (asked.width, asked.height), (asked.frames + 7) // 8, tuple(asked.texts), counts
        clip, shallow = Clip(*about), Clip(*about, **SHALLOW[asked.kind])
        for keep in (False, True):
            found = clip.count(keep)
            calls = found["calls"]
            of_a_call = {key: found[key] / calls for key in ("launches", "attention calls", "waits and copies")}
            print(f"keys {'kept' if keep else 'not kept'}:", end=" ")
            print(", ".join(f"{value:.3g} {key}" for key, value in of_a_call.items()), "a call;", end=" ")
            print(f"{shallow.shapes(keep)} attention shapes a clip, {found['bytes'] / 1e12:.2f} TB,", end=" ")
            print(f"{found['flops'] / 1e15:.2f} PFLOP, {found['tokens']:,.0f} tokens,", end=" ")
            print(f"{found['peak'] / 1e9:.2f} GB of activations, at least {found['h100']:.1f} s on an H100", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
