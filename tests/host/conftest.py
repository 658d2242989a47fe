"""A real ComfyUI for the tests, in a folder of its own. It is there when COMFYUI_DIR names a ComfyUI checkout.

COMFYUI_PYTHON is the Python that has ComfyUI's requirements (default: the one that runs the tests).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS / "graph"))  # tiny_models
sys.path.append(str(ROOT / "benchmarks"))

from _comfy import COMFYUI, CPU_ONE_THREAD, PYTHON, add_probe, running  # noqa: E402
from comfy_client import Client  # noqa: E402

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
READY = (
    "() => window.app?.graph && window.LiteGraph?.registered_node_types?.PyramidVideoSampler && app.extensionManager"
)
SLOW = 240_000  # milliseconds


def pytest_collection_modifyitems(items):
    if COMFYUI is None:
        skip = pytest.mark.skip(reason="needs a real ComfyUI: set COMFYUI_DIR (and COMFYUI_PYTHON)")
        for item in items:
            if Path(__file__).parent in Path(item.fspath).parents:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """ComfyUI's `models/`: our own tiny models, one of each official kind in `pyramid_video/`, LoRAs for them."""
    from door_families import write_families
    from official_folders import write_component, write_text_folders
    from official_helios import write_helios
    from tiny_models import LORA, MODEL, make_lora, make_models

    folder = make_models(tmp_path_factory.mktemp("base") / "models")
    make_lora(folder / "loras" / LORA, folder / "diffusion_models" / MODEL)
    write_families(folder / "diffusion_models" / MODEL)
    for kind, network, size in (("miniflux", "miniflux", "384p"), ("sd3", "mmdit", "768p")):
        top = folder / "pyramid_video" / f"pyramid-flow-{kind}"
        transformer = top / f"diffusion_transformer_{size}"
        write_component(transformer, network, form="safetensors shards")
        make_lora(folder / "loras" / f"{kind}.safetensors", transformer)
        write_component(top / "causal_video_vae", "causal_vae")
        write_text_folders(top, kind)
    for variant in ("mid", "distilled"):
        write_helios(folder / "pyramid_video" / f"Helios-{variant.capitalize()}", variant)
    return folder


@pytest.fixture(scope="session")
def base(models) -> Path:
    """ComfyUI's base folder with this checkout among its custom nodes."""
    folder = models.parent
    for name in ("custom_nodes", "input", "user"):
        (folder / name).mkdir()
    (folder / "custom_nodes" / "pyramid_video").symlink_to(ROOT, target_is_directory=True)
    add_probe(folder)
    (folder / "custom_nodes" / "tiny_core_parts.py").symlink_to(Path(__file__).with_name("tiny_core_parts.py"))
    (folder / "input" / "start.png").write_bytes(
        (ROOT / "workflows" / "input" / "pyramid_video_start.png").read_bytes()
    )
    return folder


@pytest.fixture(scope="session")
def server(base):
    """Port and process id of a running server; it ends with the tests."""
    with running(base) as place:
        yield place


@pytest.fixture(scope="session")
def comfy(server):
    """A client of the running server."""
    return Client(server[0])


@pytest.fixture(scope="session")
def run_inside(base):
    """Runs a script of this folder with ComfyUI's Python, its modules and this package; gives what it prints."""

    def run(script: str, *arguments: str) -> str:
        command = [PYTHON, str(Path(__file__).parent / script), COMFYUI, str(ROOT), str(base), *arguments]
        done = subprocess.run(command, cwd=COMFYUI, capture_output=True, text=True, env=os.environ | CPU_ONE_THREAD)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def open_page(server):
    """Opens the page as a new user; the graph in it is the one given."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("needs Chromium: set CHROMIUM")
    address = f"http://127.0.0.1:{server[0]}"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)

        def visit(graph: dict):
            page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
            page.route("**/*", lambda route: route.continue_() if address in route.request.url else route.abort())
            page.set_default_timeout(SLOW)
            page.goto(address, wait_until="domcontentloaded")
            page.wait_for_function(READY)
            page.wait_for_timeout(1500)
            page.evaluate("graph => app.loadApiJson(graph, 'evil')", graph)
            page.wait_for_timeout(500)
            return page

        yield visit
        browser.close()
