"""`pyramid-video quantise FROM TO`: a transformer in fewer bytes, for this program and for ComfyUI."""

from __future__ import annotations

import argparse
from typing import Any

from .errors import RunnerError
from .folders import a_path, check_writable


def add_parser(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser("quantise", help="write a transformer in fp8 or int8, with scales")
    parser.add_argument("source", metavar="FROM", type=a_path, help="transformer: a file, or a folder with config.json")
    parser.add_argument("target", metavar="TO", type=a_path, help="the .safetensors file to write")
    parser.add_argument(
        "--to", choices=("fp8", "int8"), default="fp8", help="fp8 (default), or int8 for cards without fp8"
    )
    parser.set_defaults(command=quantise_command)
    return parser


def quantise_command(options: argparse.Namespace) -> int:
    from ..models.quantising import quantise

    if not options.source.exists():
        raise RunnerError(f"there is no file or folder {options.source}")
    check_writable(options.target.parent, "the folder")
    written = quantise(options.source, options.target, options.to)
    print(f"wrote {written}, {written.stat().st_size / 1e9:.2f} GB")
    return 0
