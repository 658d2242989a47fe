"""What Helios needs of memory, and that loading it makes no second copy of its weights.

    python benchmarks/helios_memory.py                           # weights and activations of the full size, counted
    python benchmarks/helios_memory.py --load 3                  # loads a checkpoint of 3 GB and watches itself (Linux)
    python benchmarks/helios_memory.py --load 3 --comfyui DIR    # the same through ComfyUI's door, with its Python

The first runs the full-size networks on the meta device while every tensor is counted for as long as it lives; fused
attention is taken to need no memory but its answer. The second prints two peaks: memory of the process's own, which
nothing can take back, and pages of the file that happen to be in memory, which the system drops when it needs room.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import _package  # noqa: F401  (makes the checkout importable)
import torch
from _live_tensors import LiveTensors
from pyramid_video.models import checkpoints, skip_init
from pyramid_video.models.helios import (
    TEXT_TOKENS,
    UNIT_FRAMES,
    HeliosConfig,
    HeliosTransformer,
    HistoryLevel,
    HistoryLevels,
)
from pyramid_video.models.wan_vae import WanVAE, WanVAEConfig

GB = 1e9
UMT5_XXL = dict(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, is_gated_act=True)
STORAGE = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
CARD, RAM = 24, 32


def stored_bytes(network: torch.nn.Module, dtype: torch.dtype) -> int:
    """Bytes of the weights when they are kept in `dtype`, by the loader's own rule."""
    exact = getattr(network, "KEEPS_FLOAT32", ())
    weights = network.named_parameters()  # what is stored twice under two names is counted once
    return sum(w.numel() * checkpoints.kept_dtype(key, w, dtype, exact).itemsize for key, w in weights)


def activations(network: HeliosTransformer, width: int, height: int, batch: int) -> int:
    """Peak bytes beside the weights in one forward of the last stage, with the official history."""
    make = lambda *shape: torch.empty(shape, device="meta", dtype=torch.bfloat16)  # noqa: E731
    size = (height // 8, width // 8)
    memory = HistoryLevels(
        tuple(range(20, 20 + UNIT_FRAMES)),
        short=HistoryLevel(make(batch, 16, 2, *size), (0, 19)),
        mid=HistoryLevel(make(batch, 16, 2, *size), (17, 18)),
        long=HistoryLevel(make(batch, 16, 16, *size), tuple(range(1, 17))),
    )
    given = make(batch, 16, UNIT_FRAMES, *size), torch.empty(batch, device="meta"), make(batch, TEXT_TOKENS, 4096)
    with torch.no_grad(), LiveTensors() as counted:
        network(*given, memory)
    return counted.peak


def count(width: int, height: int) -> None:
    from transformers import UMT5Config, UMT5EncoderModel

    network = HeliosTransformer(HeliosConfig(), ops=skip_init, device="meta", dtype=torch.bfloat16)
    network.attention = lambda query, key, value: torch.empty_like(query)
    with torch.device("meta"):
        text = UMT5EncoderModel(UMT5Config(**UMT5_XXL))
    vae = WanVAE(WanVAEConfig(), device="meta", dtype=torch.bfloat16)
    weights = {}
    for name, part in (("transformer", network), ("UMT5-XXL", text), ("Wan VAE", vae)):
        weights[name] = {kind: stored_bytes(part, dtype) for kind, dtype in STORAGE.items()}
        sizes = "   ".join(f"{kind} {size / GB:6.2f} GB" for kind, size in weights[name].items())
        print(f"{name:12} {sum(p.numel() for p in part.parameters()) / 1e9:6.2f} billion weights   {sizes}")
    needs = {batch: activations(network, width, height, batch) for batch in (1, 2)}
    for batch, need in needs.items():
        print(f"activations at {width}x{height}, {batch} row{'s' * (batch > 1)}: {need / GB:.2f} GB")
    latent = torch.empty(1, 16, UNIT_FRAMES, height // 8, width // 8, device="meta", dtype=torch.bfloat16)
    with torch.no_grad(), LiveTensors() as counted:
        vae.decode(latent)
    print(f"decoding a unit at {width}x{height}: {counted.peak / GB:.2f} GB")

    for kind in STORAGE:
        whole = weights["transformer"][kind] + needs[2]
        if whole <= CARD * GB:
            print(f"{kind}: weights and activations of two rows, {whole / GB:.1f} GB, fit on a card of {CARD} GB")
        else:
            share = (CARD * GB - needs[2]) / weights["transformer"][kind]
            print(f"{kind}: {whole / GB:.1f} GB; a card of {CARD} GB holds {share:.0%} of the weights, RAM the rest")
        ram = weights["transformer"][kind] + weights["UMT5-XXL"]["fp8"]
        fits = "fit" if ram <= RAM * GB else "do not fit"
        print(f"{kind}: transformer and UMT5-XXL in fp8, {ram / GB:.1f} GB, {fits} in {RAM} GB of RAM at once")


def write_checkpoint(folder: Path, gigabytes: float) -> int:
    """Write shards of a Helios as wide as the released one and as deep as the size allows; returns its bytes."""
    from safetensors.torch import save_file

    bare = stored_bytes(HeliosTransformer(HeliosConfig(num_layers=0), device="meta"), torch.bfloat16)
    block = stored_bytes(HeliosTransformer(HeliosConfig(num_layers=1), device="meta"), torch.bfloat16) - bare
    config = HeliosConfig(num_layers=max(1, round((gigabytes * GB - bare) / block)))
    state = HeliosTransformer(config, device="meta").state_dict()
    shards: dict[str, list[str]] = {}
    for key in state:
        block = key.split(".")[1] if key.startswith("blocks.") else "rest"
        shards.setdefault(block, []).append(key)
    total, table = 0, {}
    for number, keys in enumerate(shards.values(), 1):
        name = f"diffusion_pytorch_model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {key: torch.full(state[key].shape, 0.01, dtype=torch.bfloat16) for key in keys}
        save_file(tensors, folder / name)
        total += sum(tensor.nbytes for tensor in tensors.values())
        table |= dict.fromkeys(keys, name)
    (folder / "config.json").write_text(json.dumps({"_class_name": "HeliosTransformer3DModel"} | config.to_dict()))
    index = {"metadata": {"total_size": total}, "weight_map": table}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return total


class Watch:
    """The highest memory of this process while it is entered, by what it is: its own, or pages of files."""

    KINDS = {"RssAnon": "own", "RssFile": "file"}

    def __enter__(self) -> Watch:
        self.start, self.done = self.now(), threading.Event()
        self.peak = dict(self.start)
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        self.thread.join()

    def look(self) -> None:
        while not self.done.wait(0.002):
            self.peak = {kind: max(size, self.peak[kind]) for kind, size in self.now().items()}

    def now(self) -> dict[str, int]:
        lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
        return {self.KINDS[name]: 1024 * int(value.split()[0]) for name, _, value in lines if name in self.KINDS}

    def report(self) -> dict[str, int]:
        return {kind: size - self.start[kind] for kind, size in self.peak.items()}


def load_once(folder: Path, kind: str, comfyui: str | None) -> None:
    """Load in this process and print what that took."""
    if comfyui is None:
        from pyramid_video.host.standalone import layers as standalone_layers

        with Watch() as watch:
            kept, _ = checkpoints.load(folder, ("helios",), standalone_layers, dtype=STORAGE[kind])
    else:
        sys.path.insert(0, comfyui)
        import comfy.options

        comfy.options.enable_args_parsing(False)
        import comfy.cli_args

        comfy.cli_args.args.cpu = True
        import comfy.model_management
        import folder_paths  # noqa: F401  (by which the pack knows that it is in ComfyUI)
        from pyramid_video.host import get_host

        host = get_host()
        with Watch() as watch:
            patcher = host.load_model(folder, {"bf16": "bf16", "fp8": "fp8_e4m3fn"}[kind])
            comfy.model_management.load_models_gpu([patcher])
            kept = patcher.model.diffusion_model
    print(json.dumps(watch.report() | {"weights": stored_bytes(kept, STORAGE[kind])}))


def watch_loading(gigabytes: float, comfyui: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        size = write_checkpoint(Path(folder), gigabytes)
        where = "ComfyUI's door" if comfyui else "no host"
        print(f"a checkpoint of {size / GB:.2f} GB in bf16, loaded with {where}:")
        for kind in STORAGE:
            command = [sys.executable, __file__, "--child", folder, "--kind", kind]
            command += ["--comfyui", comfyui] if comfyui else []
            done = subprocess.run(
                command, capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}
            )
            if done.returncode:
                sys.exit(done.stderr)
            took = json.loads(done.stdout.splitlines()[-1])
            print(
                f"  kept in {kind}: {took['weights'] / GB:.2f} GB of weights; peaks: {took['own'] / GB:.2f} GB of its "
                f"own, {took['file'] / GB:.2f} GB of file pages"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=640, help="pixels, a multiple of 16")
    parser.add_argument("--height", type=int, default=384, help="pixels, a multiple of 16")
    parser.add_argument("--load", type=float, metavar="GB", help="load a made-up checkpoint of about this size")
    parser.add_argument("--comfyui", metavar="DIR", help="load through ComfyUI's door")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=STORAGE, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        load_once(options.child, options.kind, options.comfyui)
    elif options.load:
        watch_loading(options.load, options.comfyui)
    else:
        count(options.width, options.height)


if __name__ == "__main__":
    main()
