"""What calls of networks of full size cost on a device: seconds and peak memory, with random weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

import _package  # noqa: F401
import torch
from _gpu_options import fp8_options, sage_attention
from _gpu_sizes import Sizes
from pyramid_video.models import skip_init
from pyramid_video.models.attention_forms import Attention
from pyramid_video.models.causal_vae import CausalVideoVAE
from pyramid_video.models.checkpoints import kept_dtype
from pyramid_video.models.helios import UNIT_FRAMES
from pyramid_video.models.history_levels import HistoryLevel, HistoryLevels
from pyramid_video.models.kv_cache import CacheSlot, KVCache
from pyramid_video.models.layers import patch_grid, patchify
from pyramid_video.models.transformer import real_tokens
from pyramid_video.samplers.history import PyramidHistory, history_clips
from pyramid_video.samplers.units import ONE_FRAME
from torch import Tensor, nn

STAGES, UNITS, TEXTS, ROWS = 3, 16, (40, 60), 2  # 121 frames, and both prompts of guidance
STEPS = (20, 10)  # a stage of the first unit, of later ones
REPEATS = 3
FP8 = torch.float8_e4m3fn
COMPILE_SECONDS = 180  # that must be left before a network is compiled


class Meter:
    """Times work on a device and notes the most memory beside what was there before."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.module = torch.get_device_module(device) if device.type != "cpu" else None

    def wait(self) -> None:
        if self.module is not None:
            self.module.synchronize(self.device)

    def measure(self, work: Callable[[], object], prepare: Callable[[], None] = lambda: None) -> dict[str, float]:
        """The median of a few runs after one that is not counted."""
        seconds, peak = [], 0
        for number in range(REPEATS + 1):
            prepare()
            before = self.memory(reset=True)
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            if number:
                seconds.append(time.perf_counter() - start)
                peak = max(peak, self.memory(peak=True) - before)
        return {"seconds": statistics.median(seconds), "peak_gb": peak / 1e9}

    def memory(self, reset: bool = False, peak: bool = False) -> int:
        if self.module is None or not hasattr(self.module, "max_memory_allocated"):
            return 0
        if reset:
            self.module.reset_peak_memory_stats(self.device)
        return (self.module.max_memory_allocated if peak else self.module.memory_allocated)(self.device)

    def release(self) -> None:
        if self.module is not None:
            self.module.empty_cache()


def network_of(
    kind: tuple[type, object], device: torch.device, storage: torch.dtype, ops: ModuleType = skip_init
) -> nn.Module:
    """A network of the layers `ops` with random weights; norms and biases stay in bf16."""
    network_class, config = kind
    network = network_class(config, ops=ops, device="meta", dtype=torch.bfloat16)
    exact = getattr(network_class, "KEEPS_FLOAT32", ())
    state = {}  # one tensor after the other: in bf16 the whole may not fit
    for key, tensor in network.state_dict().items():
        numbers = torch.empty(tensor.shape, device=device, dtype=torch.bfloat16).normal_(0, 0.02)
        state[key] = numbers.to(kept_dtype(key, numbers, storage, exact))
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


Work = tuple[Callable[[], object], Callable[[], None]]  # a call, and what has to be done before it


def nothing() -> None:
    """What has to be done before most calls."""


class PyramidCalls:
    """Calls of Pyramid Flow at any unit and stage of a clip."""

    def __init__(self, network: nn.Module, picture: tuple[int, int], device: torch.device) -> None:
        self.network, self.device, config = network, device, network.config
        self.width, self.height = picture
        make = dict(device=device, dtype=torch.bfloat16)
        self.text = torch.randn(ROWS, max(TEXTS), config.text_width, **make)
        self.mask = torch.arange(max(TEXTS)) < torch.tensor(TEXTS)[:, None]
        self.pooled = torch.randn(ROWS, config.pooled_width, **make)
        self.channels, self.make, self.history = config.latent_channels, make, PyramidHistory()

    def inputs(self, unit: int, stage: int) -> tuple:
        sizes = [8 * 2 ** (STAGES - 1 - level) for level in range(STAGES)]
        shapes = [(ROWS, self.channels, max(unit, 1), self.height // s, self.width // s) for s in sizes]
        levels = [torch.randn(shape, **self.make) for shape in shapes]
        past = history_clips(levels, stage) if unit else ()
        clips = [*past, levels[stage][:, :, :1]]
        return clips, torch.full((ROWS,), 500.0, device=self.device), self.text, self.mask, self.pooled

    def ask(self, unit: int, stage: int, attention: Attention | None = None) -> Work:
        inputs = self.inputs(unit, stage)
        return (lambda: self.network(*inputs, attention=attention)), nothing

    def ask_compiled(self, unit: int, stage: int, compiler: str) -> Work:
        """What TorchCompileModel compiles in ComfyUI: the plan of the tokens is made outside."""
        clips, timestep, text, mask, pooled = self.inputs(unit, stage)
        grids = tuple(patch_grid(clip) for clip in clips)
        real = real_tokens(text, mask if self.network.config.use_t5_mask else None)
        plan = self.network.plan(grids, real, clips[-1])
        tokens = torch.cat([patchify(clip) for clip in clips], dim=1)
        velocity = torch.compile(self.network.velocity, backend=compiler)
        return (lambda: velocity(tokens, grids[-1], timestep, text, pooled, plan)), nothing

    def ask_keeping(self, unit: int, stage: int) -> Work:
        """A call that takes over what the unit before has left, and what brings the cache to that."""
        before, now = self.inputs(unit - 1, stage), self.inputs(unit, stage)
        cache: list[KVCache] = []

        def call(inputs: tuple, number: int) -> None:
            settled = self.history.settled(number, UNITS, stage, ONE_FRAME)
            later = self.history.settled(UNITS - 2, UNITS, stage, ONE_FRAME)
            with CacheSlot(cache[0], stage, settled, later).of(self.network, inputs[0], inputs[2], self.mask) as kept:
                self.network(*inputs, kept)

        def prepare() -> None:
            cache[:] = [KVCache(2**60)]
            call(before, unit - 1)

        return (lambda: call(now, unit)), prepare


def helios_call(network: nn.Module, picture: tuple[int, int], device: torch.device, rows: int) -> Callable[[], Tensor]:
    """A call of the last stage with the official history."""
    config, (width, height) = network.config, picture
    make = lambda *shape: torch.randn(shape, device=device, dtype=torch.bfloat16)  # noqa: E731
    size, channels = (height // 8, width // 8), config.latent_channels
    memory = HistoryLevels(
        tuple(range(20, 20 + UNIT_FRAMES)),
        short=HistoryLevel(make(rows, channels, 2, *size), (0, 19)),
        mid=HistoryLevel(make(rows, channels, 2, *size), (17, 18)),
        long=HistoryLevel(make(rows, channels, 16, *size), tuple(range(1, 17))),
    )
    x, text = make(rows, channels, UNIT_FRAMES, *size), make(rows, 512, config.text_width)
    timestep = torch.full((rows,), 500.0, device=device)
    return lambda: network(x, timestep, text, memory)


Row = tuple[dict[str, object], Callable[[], dict[str, float]]]


def pyramid_rows(kind: str, sizes: Sizes, meter: Meter, seconds_left: Callable[[], float]) -> Iterator[Row]:
    """Calls of a Pyramid Flow transformer: plain, with keys kept, SageAttention, compiled, and in fp8."""
    network = network_of(sizes.models[kind], meter.device, torch.bfloat16)
    last, sage = (UNITS - 1, STAGES - 1), sage_attention()
    for picture in sizes.pictures:
        calls = PyramidCalls(network, picture, meter.device)
        for unit in (0, UNITS // 2, UNITS - 1):
            for stage in range(STAGES):
                about = row_of(kind, picture, unit, stage)
                yield {**about, "option": "bf16"}, partial(timed, meter, calls.ask, unit, stage)
                if calls.history.settled(unit, UNITS, stage, ONE_FRAME):
                    kept = {**about, "option": "bf16, keys kept"}
                    yield kept, partial(timed, meter, calls.ask_keeping, unit, stage)
        if sage is not None:
            about = {**row_of(kind, picture, *last), "option": "bf16, SageAttention"}
            yield about, partial(timed, meter, calls.ask, *last, sage)
    if seconds_left() > COMPILE_SECONDS:
        calls = PyramidCalls(network, sizes.pictures[0], meter.device)
        about = {**row_of(kind, sizes.pictures[0], *last), "option": "bf16, compiled"}
        yield about, partial(timed, meter, calls.ask_compiled, *last, sizes.compiler)
    for option, ops in fp8_options(meter.device):
        del network, calls
        meter.release()
        network = network_of(sizes.models[kind], meter.device, FP8, ops)
        for picture in sizes.pictures:
            calls = PyramidCalls(network, picture, meter.device)
            for stage in range(STAGES):
                about = row_of(kind, picture, UNITS - 1, stage)
                yield {**about, "option": option}, partial(timed, meter, calls.ask, UNITS - 1, stage)
    del network, calls
    meter.release()


def timed(meter: Meter, make: Callable[..., Work], *arguments: object) -> dict[str, float]:
    """Seconds and memory of what `make` gives; its inputs are made here, where a lack of memory is a row."""
    return meter.measure(*make(*arguments))


def row_of(kind: str, picture: tuple[int, int], unit: int, stage: int) -> dict[str, object]:
    return {"model": kind, "size": "{}x{}".format(*picture), "unit": unit, "stage": stage}


def helios_rows(sizes: Sizes, meter: Meter) -> Iterator[Row]:
    fp8 = [(FP8, option, ops) for option, ops in fp8_options(meter.device)]
    for storage, option, ops in (*fp8, (torch.bfloat16, "bf16", skip_init)):
        made: list[nn.Module] = []

        def call(rows: int, storage=storage, ops=ops, made=made) -> Work:
            made[:] = made or [network_of(sizes.models["helios"], meter.device, storage, ops)]
            return helios_call(made[0], sizes.helios_picture, meter.device, rows), nothing

        for rows in (1, 2):
            about = {"model": "helios", "size": "{}x{}".format(*sizes.helios_picture), "rows": rows, "option": option}
            yield about, partial(timed, meter, call, rows)
        made.clear()
        meter.release()


def vae_rows(sizes: Sizes, meter: Meter) -> Iterator[Row]:
    """The video VAE both ways, 17 frames."""
    vae = CausalVideoVAE(sizes.vae, ops=skip_init, device=meter.device, dtype=torch.bfloat16).eval()
    for parameter in vae.parameters():
        parameter.data.normal_(0, 0.02)
    for memory, option in ((torch.contiguous_format, "bf16"), (torch.channels_last_3d, "bf16, channels last")):
        for module in vae.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.data = module.weight.data.contiguous(memory_format=memory)
        for width, height in sizes.pictures:
            video = torch.rand(1, 3, 17, height, width, device=meter.device, dtype=torch.bfloat16) * 2 - 1
            latent = torch.randn(1, sizes.vae.latent_channels, 3, height // 8, width // 8).to(video)
            for name, given, chunk in (("decode", latent, None), ("decode", latent, 1), ("encode", video, 8)):
                about = {"model": "vae", "size": f"{width}x{height}", "option": f"{option}, {name}, chunk {chunk}"}

                def work(name=name, given=given, chunk=chunk) -> dict[str, float]:
                    with torch.no_grad():
                        return meter.measure(lambda: getattr(vae, name)(given, chunk=chunk))

                yield about, work


def clip_seconds(rows: list[dict]) -> list[dict[str, object]]:
    """What a clip of 121 frames takes in the transformer: measured units, and between them a straight line."""
    found = []
    for kind, size, option in sorted({(r["model"], r["size"], r["option"]) for r in rows if r.get("unit") == 0}):
        total = 0.0
        for stage in range(STAGES):
            at = {
                r["unit"]: r["seconds"]
                for r in rows
                if (r["model"], r["size"], r["option"], r.get("stage")) == (kind, size, option, stage)
                and "seconds" in r
            }
            if len(at) < 3:
                break
            for unit in range(UNITS):
                total += STEPS[unit > 0] * between(unit, at)
        else:
            found.append({"model": kind, "size": size, "option": option, "clip_seconds": total})
    return found


def between(unit: int, at: dict[int, float]) -> float:
    left = max(known for known in at if known <= unit)
    right = min(known for known in at if known >= unit)
    share = (unit - left) / (right - left) if right > left else 0.0
    return at[left] + share * (at[right] - at[left])
