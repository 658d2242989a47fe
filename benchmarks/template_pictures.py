"""Moving pictures of the example workflows for ComfyUI's template browser: `workflows/NAME.webp`,
and a still of each, `NAME.jpg`, where the browser asks for it.

    python benchmarks/template_pictures.py
    python benchmarks/template_pictures.py --only text_to_video look_inside
    python benchmarks/template_pictures.py --only train_lora --clip output/clip.mp4 --curves output/curves.png

A workflow of the small models is run as it is, and its clip is shown. One that trains shows what the models that came
out of it make, over their curves; one whose weights are not here, the stages that it climbs. `--clip` is for those
that take long or need weights: the clip that such a workflow has saved, and the curves of its training; of Wan's LoRA
a sheet of the clips that one learns from.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import _package
from PIL import Image
from pyramid_video.drawings.pen import PAPER
from pyramid_video.media.clips import read_video
from pyramid_video.media.webp import save_webp
from pyramid_video.nodes.stages_picture import stages_png
from pyramid_video.runner.cli import main as pyramid_video

WORKFLOWS = _package.ROOT / "workflows"
PRETRAINED = _package.ROOT / "models" / "pretrained"
SIDE = 320  # of the picture, which browsers show at 220 to 260 pixels
FRAMES, MILLISECONDS = 24, 125
LARGEST = 90_000  # bytes
QUALITIES = range(85, 24, -10)
Frames = list[Image.Image]
BY_HAND = ("train_lora", "use_lora", "train_vae", "wan_train_lora")  # with --clip


def sheet() -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), PAPER)


def fitted(picture: Image.Image, width: int = SIDE, height: int = SIDE) -> Image.Image:
    scale = min(width / picture.width, height / picture.height)
    size = round(picture.width * scale), round(picture.height * scale)
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def centred(picture: Image.Image) -> Image.Image:
    done, small = sheet(), fitted(picture)
    done.paste(small, ((SIDE - small.width) // 2, (SIDE - small.height) // 2))
    return done


def run(name: str) -> Frames:
    """The last video that a workflow saves."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["run", str(WORKFLOWS / f"{name}.json"), "--out", folder, "--input", str(WORKFLOWS / "input")]
        if pyramid_video([*command, "--seed", "1", "--json"]):
            sys.exit(f"error: {name} does not run")
        return frames_of(max(Path(folder).rglob("*.mp4"), key=lambda path: path.stat().st_mtime))


def frames_of(path: Path) -> Frames:
    frames, _ = read_video(path)
    return [Image.fromarray(frame) for frame in frames[:FRAMES]]


def clip(name: str) -> Frames:
    return alone(run(name))


def alone(frames: Frames) -> Frames:
    return [centred(folded(frame)) for frame in frames]


def folded(picture: Image.Image) -> Image.Image:
    """A row of clips in two rows, as a square would show it too small."""
    if picture.width < 3 * picture.height:
        return picture
    half = picture.width // 2
    done = Image.new("RGB", (half, 2 * picture.height), PAPER)
    for row in range(2):
        done.paste(picture.crop((row * half, 0, (row + 1) * half, picture.height)), (0, row * picture.height))
    return done


def bundled(workflow: str, curves: str, name: str) -> Frames:
    """What a bundled model makes, and how it was trained."""
    return over_curves(run(workflow), PRETRAINED / curves)


def over_curves(frames: Frames, curves: Path) -> Frames:
    drawn = fitted(Image.open(curves))
    pictures = []
    for frame in frames:
        done, small = sheet(), fitted(frame, SIDE, SIDE - drawn.height)
        done.paste(small, ((SIDE - small.width) // 2, 0))
        done.paste(drawn, (0, SIDE - drawn.height))
        pictures.append(done)
    return pictures


def ladder(name: str) -> Frames:
    """The stages of a workflow of 'Pyramid stages'."""
    graph = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text("utf-8"))
    widgets = next(node["inputs"] for node in graph.values() if node["class_type"] == "PyramidVideoStages")
    return [centred(Image.open(io.BytesIO(stages_png(json.dumps([widgets])))))]


def any_stages(name: str) -> Frames:
    return [centred(Image.open(_package.ROOT / "web" / "docs" / "any_stages.webp"))]


def pictures() -> Iterator[tuple[str, Callable[[str], Frames]]]:
    for name in ("text_to_video", "image_to_video", "extend_clip", "look_inside", "compare_families"):
        yield name, clip
    for name in ("text_to_video_flow", "text_to_video_ddim", "text_to_video_gan"):
        yield name, clip
    for name in ("draft_then_finish", "finish_a_clip", "any_model_small"):
        yield name, clip
    yield "train_pyramid", partial(bundled, "text_to_video", "curves.png")
    yield "train_flow", partial(bundled, "text_to_video_flow", "curves_flow.png")
    yield "train_diffusion", partial(bundled, "text_to_video_ddim", "curves_diffusion.png")
    yield "train_gan", partial(bundled, "text_to_video_gan", "curves_gan.png")
    for name in ("official_miniflux", "official_sd3", "helios_text_to_video", "helios_image_to_video"):
        yield name, ladder
    yield "helios_video_to_video", ladder
    for name in ("wan22_text_to_video", "wan22_image_to_video", "ltx2_text_to_video"):
        yield name, any_stages
    for name in ("hunyuan15_text_to_video", "minimax_h3_text_to_video"):
        yield name, any_stages


def write(frames: Frames, path: Path) -> None:
    """Save a webp, animated where there are several pictures, as good as LARGEST allows; and a still of it."""
    for quality in QUALITIES:
        made = io.BytesIO()
        save_webp(made, frames, MILLISECONDS, quality, effort=6)
        if made.tell() <= LARGEST:
            break
    path.write_bytes(made.getvalue())
    frames[len(frames) // 2].save(path.with_suffix(".jpg"), quality=80)
    print(f"{path.name}: {len(frames)} frames, {made.tell()} bytes, quality {quality}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made = dict(pictures())
    parser.add_argument("--only", nargs="+", choices=[*made, *BY_HAND], default=list(made))
    parser.add_argument("--clip", type=Path, help="a clip that the one workflow of --only has saved")
    parser.add_argument("--curves", type=Path, help="picture of the curves that belong to --clip")
    options = parser.parse_args()
    if options.clip:
        frames = frames_of(options.clip)
        frames = over_curves(frames, options.curves) if options.curves else alone(frames)
        write(frames, WORKFLOWS / f"{options.only[0]}.webp")
        return
    for name in options.only:
        write(made[name](name), WORKFLOWS / f"{name}.webp")


if __name__ == "__main__":
    main()
