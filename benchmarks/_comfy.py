"""A real ComfyUI on the CPU for as long as a program needs it: a checkout named by COMFYUI_DIR, in a folder of its own.

COMFYUI_PYTHON is the Python that has ComfyUI's requirements (default: the one that runs the program), and
COMFYUI_FRONTEND the `static` folder of a page (default: the one that Python has).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
COMFYUI = os.environ.get("COMFYUI_DIR")
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
FRONTEND = os.environ.get("COMFYUI_FRONTEND")
CPU_ONE_THREAD = {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
START_SECONDS = 240


@contextmanager
def running(base: Path, *flags: str) -> Iterator[tuple[int, int]]:
    """Start ComfyUI with this pack in the folder `base`; gives its port and process id. Its log is `base/log.txt`.

    `flags` are further ones of its command line.
    """
    if COMFYUI is None:
        raise RuntimeError("this needs a real ComfyUI: set COMFYUI_DIR (and COMFYUI_PYTHON)")
    for name in ("models", "custom_nodes", "input", "user"):
        (base / name).mkdir(exist_ok=True)
    if not (base / "custom_nodes" / "pyramid_video").exists():
        (base / "custom_nodes" / "pyramid_video").symlink_to(ROOT, target_is_directory=True)
    port = free_port()
    command = [PYTHON, "main.py", "--cpu", "--port", str(port), "--base-directory", str(base)]
    command += ["--database-url", f"sqlite:///{base}/user/comfyui.db", "--preview-method", "auto"]
    command += ["--disable-auto-launch", "--disable-api-nodes", *flags]
    command += ["--front-end-root", FRONTEND] if FRONTEND else []
    with (base / "log.txt").open("w") as log:
        server = subprocess.Popen(command, cwd=COMFYUI, stdout=log, stderr=log, env=os.environ | CPU_ONE_THREAD)
    try:
        wait_until_ready(server, port, base / "log.txt")
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(30)


def add_probe(base: Path) -> None:
    """Let the server of a folder tell at /memory_probe what it holds."""
    (base / "custom_nodes" / "memory_probe.py").symlink_to(ROOT / "benchmarks" / "memory_probe.py")


def wait_until_ready(server: subprocess.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            urlopen(f"http://127.0.0.1:{port}/system_stats", timeout=60).close()
            return
        except (URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"ComfyUI did not start:\n{log.read_text()[-3000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
