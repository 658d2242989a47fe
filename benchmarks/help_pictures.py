"""The pictures of the help pages that the small models make: same prompt, same seed, one setting changed.

    python benchmarks/help_pictures.py --animations package/assets
    python benchmarks/help_pictures.py --animations package/assets --only guidance decode

They are written to `web/docs`, each under 60 KB. `--animations` is the folder of the small model's data
(`models/pretrained/README.md`), which a few of them need. A clip is made by the graph blocks
themselves, outside ComfyUI. The pictures of blocks in those pages are photographs of the browser.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import _package
import torch
from _small_models import FPS, PROMPT, SmallModels, block, enlarged, in_time
from generate import PIXELS
from PIL import Image
from pyramid_video.drawings.animation import to_picture
from pyramid_video.drawings.comparison import SMALLEST_LABELLED, fit, paper, side_by_side
from pyramid_video.drawings.contact_sheet import clip_sheet, standardised
from pyramid_video.drawings.pen import as_image
from pyramid_video.host import get_host, use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.host.standalone.sampling import sample
from pyramid_video.media.webp import save_webp
from pyramid_video.models.latent_format import LatentFormat
from torch import Tensor

DOCS = _package.ROOT / "web" / "docs"
LARGEST = 56_000  # bytes of a picture
QUALITIES = range(85, 44, -10)
SHEET_HEIGHT = 434  # pixels: five rows of latent channels
PARTS = (1.0, 0.75, 0.5)  # of its width and height, where a picture would be too large


def shown(*clips: Tensor, labels: Sequence[str]) -> Tensor:
    """Clips as 'Compare clips' puts them beside each other, two in a row: the help panel is narrow."""
    clips = [fit(clip, SMALLEST_LABELLED, len(clip))[0] for clip in clips]
    rows = [side_by_side(clips[at : at + 2], labels[at : at + 2])[0] for at in range(0, len(clips), 2)]
    width = max(row.shape[2] for row in rows)
    empty = [paper(len(row), row.shape[1], width - row.shape[2], row) for row in rows]
    return torch.cat([torch.cat(row, dim=2) for row in zip(rows, empty, strict=True)], dim=1)


def guidance(small: SmallModels) -> Tensor:
    rules = (block("Guidance", first_frame_scale=s, video_scale=s)[0] for s in (1.0, 3.0, 7.0))
    return shown(*(small.pyramid(guidance=rule) for rule in rules), labels=["1", "3", "7"])


def guidance_zero(small: SmallModels) -> Tensor:
    clips, stages = [], block("Stages")[0]  # of 20 and 10 steps, of which two are little
    for steps in (None, 0, 2):
        rule = block("Guidance", first_frame_scale=9.0, video_scale=9.0)[0]
        rule = rule if steps is None else block("GuidanceZero", guidance=rule, zero_steps=steps)[0]
        clips.append(small.pyramid(guidance=rule, stages=stages))
    return shown(*clips, labels=["guidance 9", "CFG-Zero*, 0 still", "CFG-Zero*, 2 still"])


def flow_steps(small: SmallModels) -> Tensor:
    steps = (1, 2, 5, 10)
    return shown(*(small.flow(steps=n) for n in steps), labels=[f"{n} step{'s' * (n > 1)}" for n in steps])


def ddim_steps(small: SmallModels) -> Tensor:
    clips = [small.ddim(steps=n, eta=eta) for n, eta in ((5, 0.0), (50, 0.0), (50, 1.0))]
    return shown(*clips, labels=["5 steps, eta 0", "50 steps, eta 0", "50 steps, eta 1"])


def gan_seeds(small: SmallModels) -> Tensor:
    return shown(*(small.gan(seed=s) for s in range(1, 5)), labels=[f"seed {s}" for s in range(1, 5)])


def families(small: SmallModels) -> Tensor:
    clips = (small.gan(), small.ddim(steps=50, eta=0.0), small.flow(), small.pyramid())
    return shown(*clips, labels=["GAN", "diffusion", "flow", "pyramid"])


def prompts(small: SmallModels) -> Tensor:
    texts = [f"a {subject} on a {colour} background" for subject, colour in WORDS]
    return shown(*map(small.pyramid, texts), labels=[f"{subject}, {colour}" for subject, colour in WORDS])


WORDS = (("tiger moving left", "blue"), ("rabbit moving left", "blue"), ("rabbit moving up", "yellow"))


def steps_of_a_stage(small: SmallModels) -> Tensor:
    """1 step in the last stage, 1 in the first, and the usual number."""
    usual = block("Stages")[0]
    ladders = [block("StageSteps", stages=usual, stage=s, first_steps=1, video_steps=1)[0] for s in (0, 2)]
    clips = (small.pyramid(stages=stages) for stages in (*ladders, usual))
    return shown(*clips, labels=["stage 0: 1 step", "stage 2: 1 step", "20 and 10 each"])


def image_to_video(small: SmallModels) -> Tensor:
    """The clip that a start image begins, with a past that is trusted and with one that is not; the image."""
    start, clips = read_picture(_package.ROOT / "workflows" / "input" / "pyramid_video_rabbit.png"), []
    for noise in (0.0, 0.33):
        past = {"vae": small.vae, "start_image": start, "latent_image": small.empty()}
        history = block("History", noise=noise, **past)[0]
        clips.append(small.pyramid("a rabbit moving right on a blue background", history=history))
    return shown(*clips, start.expand(17, -1, -1, -1), labels=["noise 0", "noise 0.33", "start image"])


def read_picture(path: Path, frame: int = 0) -> Tensor:
    """An IMAGE (1, h, w, 3), of an animation one frame."""
    opened = Image.open(path)
    opened.seek(frame)
    return as_image(opened)


def sizes(small: SmallModels) -> Tensor:
    """The two sizes that the model knows, and one that it does not."""
    asked = ((128, 128), (64, 64), (192, 128))
    clips = (small.pyramid(latent_image=small.empty(*size)) for size in asked)
    return shown(*clips, labels=[f"{width} x {height}" for width, height in asked])


def vae_roundtrip(small: SmallModels) -> Tensor:
    clip = block("DatasetPreview", dataset=small.dataset(), count=1, seed=3)[0]
    samples = {"samples": get_host().encode(small.vae, clip)}
    return shown(clip, small.decode(samples), labels=["a clip", "encoded and decoded"])


def decode(small: SmallModels) -> Tensor:
    """Each latent frame for as long as the frames that it holds, and those frames."""
    samples = small.pyramid_latents()
    return shown(small.preview(samples), small.decode(samples), labels=["latent", "decoded"])


def compare_clips(small: SmallModels) -> Tensor:
    few, many = block("Stages", first_steps=2, video_steps=2)[0], block("Stages")[0]
    return shown(*(small.pyramid(stages=stages) for stages in (few, many)), labels=["2 steps", "20 and 10 steps"])


def latent_frames(small: SmallModels) -> Tensor:
    samples = small.pyramid_latents()
    return block("LatentViewer", samples=samples, view="frames", model=small.model(""))[0]


def latent_channels(small: SmallModels) -> Tensor:
    """The first rows of the sheet, as all of it is long."""
    samples = small.pyramid_latents()
    return block("LatentViewer", samples=samples, view="channels")[0][:, :SHEET_HEIGHT]


def preview_colours(small: SmallModels) -> Tensor:
    """The preview of a model whose colours nobody knows, the same with fitted ones, and the clip."""
    samples = small.pyramid_latents()
    unknown = LatentFormat("unknown", 0.0, 1.0, 0.0, 1.0).preview(standardised(samples["samples"])[0].movedim(1, 0))
    clips = (in_time(unknown), small.preview(samples), small.decode(samples))
    return shown(*clips, labels=["false colours", "fitted colours", "decoded"])


def stages_of_a_clip(small: SmallModels) -> Tensor:
    """What every stage hands to the next, as a clip of its own size."""
    wires, made = small.wires(""), {0: [], 1: [], 2: []}
    guider = get_host().make_guider(wires["model"], wires["positive"], wires["negative"], small.usual_guidance())

    def keep(call, estimate: Tensor) -> None:
        if call.step == call.steps - 1:
            made[call.stage].append(estimate)

    sample(guider, get_host().make_sampler(None, None), wires["latent_image"], wires["seed"], keep)
    latents = [wires["model"].latent_format.denormalize(torch.cat(frames, dim=2)) for frames in made.values()]
    clips = [enlarged(small.decode({"samples": latent})) for latent in latents]
    return shown(*clips, labels=["32 x 32", "64 x 64", "128 x 128"])


def ladder(small: SmallModels) -> Tensor:
    return block("Stages")[1]


def ladder_of_a_stage(small: SmallModels) -> Tensor:
    return block("StageSteps", stages=block("Stages")[0], stage=2, first_steps=4, video_steps=2)[1]


def helios_history(small: SmallModels) -> Tensor:
    """What Helios sees of a clip of three units, at full size."""
    latent = {"samples": torch.zeros(1, 16, 27, 48, 80)}
    stages = block("Stages", made_for="Helios", solver="dmd", stage_count=1)[0]
    return block("HistoryPicture", history=block("HeliosMemory")[0], latent_image=latent, stages=stages)[0]


def dataset(small: SmallModels) -> Tensor:
    frames, captions = block("DatasetPreview", dataset=small.dataset(), count=4, seed=5)
    return shown(*frames.chunk(4), labels=captions.splitlines())


def training(small: SmallModels) -> dict[str, Tensor]:
    """A tiny flow that learns for a few minutes: its curves, and its validation clip after 200, 400 and 800 steps."""
    source = block("NewModel", family="flow", size="tiny")[0]
    plan = block("Validation", prompts=PROMPT, every=TRAINED // 4, steps=10, cfg=3.0)[0]
    settings = block("TrainingSettings", steps=TRAINED, batch=16, learning_rate=2e-3, average=0.98)[0]
    wires = {"dataset": small.dataset(size=PIXELS // 2), "vae": small.vae, "clip": small.clip, "clips": 400}
    answer = block("TrainFlow", trainee=source, **wires, run_name="help", settings=settings, validation=plan)
    clips = sorted((get_host().output_dir / "training" / "help" / "validation").glob("*.webp"))
    looks = [torch.cat([read_picture(clip, n) for n in range(17)]) for clip in (clips[0], clips[1], clips[-1])]
    return {
        "training_curves": block("TrainingCurves", run=answer[0])[0],
        "validation": as_image(clip_sheet(looks)),
    }


def plan_picture(rows: int, columns: int, steps: int, shift: float, **settings) -> Tensor:
    """The drawing of 'Pyramid stages (any model)' for Wan at a size of latents."""
    from pyramid_video.drawings.any_model import draw_plan
    from pyramid_video.samplers.flow import flow_sigmas
    from pyramid_video.samplers.spectral import FLOW, PictureInfo

    stages = block("AnyStages", **settings)[0]
    info = PictureInfo(2, FLOW, "Wan21", 8)
    segments = stages.plan((rows, columns), 2, flow_sigmas(steps, shift), FLOW, info.latents)
    return as_image(draw_plan(stages, segments, (rows, columns), info))


def stage_picture(small: SmallModels) -> Tensor:
    from pyramid_video.drawings.stages import draw_stages, full_table

    stages = block("Stages")[0]
    return as_image(draw_stages(stages, full_table(stages, 48, 80, 8), (48, 80)))


def any_stages(small: SmallModels) -> Tensor:
    return plan_picture(90, 160, 20, 5.0)


def any_stages_three(small: SmallModels) -> Tensor:
    return plan_picture(136, 240, 30, 5.0, scales="1/4 + 1/2", care=0.05)


def with_pyramid(small: SmallModels, **settings):
    """Wires of the blocks for any model, for the small flow model."""
    wires = {**small.wires("flow"), "cfg": 3.0, "steps": 20, **settings}
    return {name: wire for name, wire in wires.items() if wire is not None}


def any_sampler(small: SmallModels) -> Tensor:
    clips = [small.flow(steps=20)]
    for level in ("0.95", "0.8"):
        stages = block("AnyStages", levels=level)[0]
        clips.append(small.decode(block("AnySampler", **with_pyramid(small, stages=stages))[0]))
    return shown(*clips, labels=["plain", "half size to 0.95", "half size to 0.8"])


def drafts(small: SmallModels) -> Tensor:
    """Three drafts at half size, and the second one finished."""
    stages = block("AnyStages", levels="0.9")[0]
    draft, clips = block("Draft", **with_pyramid(small, stages=stages, drafts=3))
    looks = [enlarged(small.decode({"samples": row})) for row in clips["samples"].split(1)]
    wires = {
        name: wire for name, wire in with_pyramid(small).items() if name in ("model", "positive", "negative", "cfg")
    }
    done = small.decode(block("FinishDraft", **wires, draft=draft, which="2")[0])
    return shown(*looks, done, labels=["draft 1", "draft 2", "draft 3", "draft 2, finished"])


def fitted(small: SmallModels) -> tuple:
    clip = block("DatasetPreview", dataset=small.dataset(), count=16, seed=3)[0]
    return block("FitSpectrum", images=clip, vae=small.vae, model=small.model("flow"))


def fit_spectrum(small: SmallModels) -> Tensor:
    return fitted(small)[1]


def finish_clip(small: SmallModels) -> Tensor:
    """A clip made half as large by its pixels, that clip enlarged, and finished."""
    from pyramid_video.nodes.pictures import fill

    clip = fill(small.flow(steps=20), 64, 64)
    samples = {"samples": get_host().encode(small.vae, clip)}
    done = block("FinishClip", **with_pyramid(small, steps=10), clip=samples, spectrum=fitted(small)[0])[0]
    return shown(enlarged(clip), small.decode(done), labels=["64 x 64", "finished at 128 x 128"])


TRAINED = 800
PICTURES: dict[str, Callable[[SmallModels], Tensor | dict[str, Tensor]]] = {
    picture.__name__: picture
    for picture in (
        families,
        flow_steps,
        ddim_steps,
        gan_seeds,
        stages_of_a_clip,
        prompts,
        ladder,
        ladder_of_a_stage,
        steps_of_a_stage,
        guidance,
        guidance_zero,
        image_to_video,
        helios_history,
        sizes,
        decode,
        vae_roundtrip,
        dataset,
        compare_clips,
        latent_frames,
        latent_channels,
        preview_colours,
        stage_picture,
        any_stages,
        any_stages_three,
        any_sampler,
        drafts,
        fit_spectrum,
        finish_clip,
        training,
    )
}


def write(frames: Tensor, path: Path, largest: int = LARGEST) -> None:
    """Save pictures (n, h, w, 3) as a webp of up to `largest` bytes, animated where they are several."""
    pictures = [to_picture(frame) for frame in frames]
    for part, quality in itertools.product(PARTS, QUALITIES):
        size = round(part * pictures[0].width), round(part * pictures[0].height)
        made = io.BytesIO()
        smaller = [picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures]
        save_webp(made, smaller, 1000 // FPS, quality, effort=6)
        if made.tell() <= largest:
            path.write_bytes(made.getvalue())
            print(f"{path.name}: {len(frames)} of {size[0]}x{size[1]}, {made.tell()} bytes, quality {quality}")
            return
    sys.exit(f"error: {path.name} would be {made.tell()} bytes even as {size[0]}x{size[1]}; {largest} are allowed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--animations", type=Path, help="folder of the animations that were learned")
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        host = StandaloneHost(inputs=options.animations and options.animations.parent, output=Path(folder))
        use_host(host)
        try:
            make(options.only, SmallModels(options.animations))
        except (ValueError, FileNotFoundError) as error:
            sys.exit(f"error: {error}")


def make(names: Sequence[str], small: SmallModels) -> None:
    """Make these pictures and save them."""
    for name in names:
        made = PICTURES[name](small)
        for title, frames in (made if isinstance(made, dict) else {name: made}).items():
            write(frames, DOCS / f"{title}.webp")


if __name__ == "__main__":
    main()
