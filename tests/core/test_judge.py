"""The judge of clips is right about real ones, is not fooled, and can say no."""

from __future__ import annotations

import sys

import pytest
import torch
from conftest import ROOT
from PIL import Image, ImageDraw
from pyramid_video.models import causal_vae, checkpoints, miniflux, text_encoder
from pyramid_video.models.latent_format import LatentFormat
from pyramid_video.recipes.emoji.recipe import SUBJECTS
from pyramid_video.samplers.guidance import PyramidGuidance
from pyramid_video.samplers.stages import make_stages
from pyramid_video.training.data.captions import BACKGROUNDS, MOTIONS, Combination
from pyramid_video.training.data.datasets import AnimationDataset

sys.path.append(str(ROOT / "benchmarks"))

from generate import PyramidToVideo  # noqa: E402
from judge import NOTHING, Judge, find_motion  # noqa: E402
from prompt_accuracy import choose_combinations, count_agreement, read_prompts, wilson_interval  # noqa: E402

SHAPES = {
    "ball": ("ellipse", (4, 4, 59, 59), (150, 150, 160)),
    "brick": ("rectangle", (2, 18, 61, 45), (140, 90, 70)),
    "sail": ("polygon", (8, 60, 55, 60, 30, 2), (90, 190, 200)),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    for name, (shape, box, colour) in SHAPES.items():
        pictures = []
        for bright in (0, 30):
            picture = Image.new("RGBA", (64, 64))
            getattr(ImageDraw.Draw(picture), shape)(box, fill=tuple(c + bright for c in colour))
            pictures.append(picture)
        pictures[0].save(folder / f"{name}.png", save_all=True, append_images=pictures[1:], duration=300)
    return AnimationDataset(folder, split="test")


@pytest.fixture(scope="module")
def judge(dataset):
    return Judge(dataset)


def clip_of(dataset: AnimationDataset, *names: str, seed: int = 0) -> torch.Tensor:
    return dataset.clip(Combination(*names), torch.Generator().manual_seed(seed))


def test_real_clips_are_what_they_are_and_not_what_others_are(dataset, judge):
    generator = torch.Generator().manual_seed(0)
    asked = choose_combinations(dataset, len(dataset.combinations), generator)
    assert len(set(asked)) == len(asked)
    verdicts = [judge(dataset.clip(combination, generator)) for combination in asked]
    right = count_agreement(verdicts, asked)
    assert all(row["share"] == 1 for row in right.values())
    shuffled = count_agreement(verdicts, asked[1:] + asked[:1])
    assert shuffled["background"]["share"] < 0.4 and shuffled["motion"]["share"] < 0.5


def test_turning_a_clip_round_turns_the_verdict(dataset, judge):
    clip = clip_of(dataset, "ball", "red", "left")
    assert judge(clip).motion == "left"
    assert judge(clip.flip(-1)).motion == "right"
    assert judge(clip.flip(1)).motion == "right"
    assert judge(clip.transpose(-1, -2)).motion == "up"
    assert judge(clip[:, :1].expand_as(clip)).motion == "still"


def test_half_the_way_is_where_moving_begins():
    """A square that jumps a pixel per picture over 17 of 64 moves a quarter of the frame, more than half the way."""
    pixels = torch.zeros(3, 17, 64, 64)
    for step in range(17):
        pixels[:, step, 24:40, 20 + step : 36 + step] = 255
    assert find_motion(pixels, torch.zeros(3)) == "right"
    assert find_motion(pixels[:, :9].repeat_interleave(2, 1), torch.zeros(3)) == "still"  # half as far


def test_a_blurred_noisy_clip_keeps_its_verdict(dataset, judge):
    clip = clip_of(dataset, "sail", "purple", "up", "large")
    blurred = torch.nn.functional.avg_pool3d(clip, (1, 5, 5), stride=1, padding=(0, 2, 2), count_include_pad=False)
    noisy = blurred + 0.1 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(1))
    verdict = judge(noisy)
    assert all(verdict.agrees(Combination("sail", "purple", "up", "large")).values())
    assert verdict.likeness < judge(clip).likeness


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_an_empty_clip_shows_nothing(judge, background):
    colour = torch.tensor(BACKGROUNDS[background]).view(3, 1, 1, 1) / 127.5 - 1
    verdict = judge(colour.expand(3, 17, 64, 64))
    assert (verdict.subject, verdict.background, verdict.motion) == (NOTHING, background, "still")


def test_noise_shows_nothing(judge):
    noise = torch.rand(3, 17, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert judge(noise).subject == NOTHING


def test_clips_of_another_grid_are_refused(dataset):
    odd = AnimationDataset(dataset.folder, size=40)
    with pytest.raises(ValueError, match="40 pixels.*multiple of 32"):
        Judge(odd)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
)
def test_intervals_are_those_of_newcombe_1998(right, count, low, high):
    assert wilson_interval(right, count) == pytest.approx((low, high), abs=5e-5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny random networks in a folder that is laid out like `models/pretrained`."""
    folder, generator = tmp_path_factory.mktemp("models"), torch.Generator().manual_seed(0)
    tokenizer = text_encoder.Tokenizer.train(["a ball moving left", "a brick on a red background"], 300, max_tokens=16)
    configs = {
        "text_encoders": text_encoder.TextEncoderConfig(tokenizer.vocab_size, 16, 1, 2, 16),
        "diffusion_models": miniflux.MiniFluxConfig(
            2, 8, 16, 16, in_channels=16, num_layers=1, num_single_layers=1, axes_dims_rope=(4, 2, 2)
        ),
        "vae": causal_vae.CausalVAEConfig.from_dict(
            {
                "patch_size": 4,
                "encoder_out_channels": 4,
                "encoder_block_out_channels": [8, 8, 8],
                "encoder_layers_per_block": [1, 1, 1],
                "encoder_spatial_down_sample": [True, False, False],
                "encoder_temporal_down_sample": [True, True, False],
                "encoder_norm_num_groups": 2,
                "decoder_in_channels": 4,
                "decoder_block_out_channels": [8, 8, 8],
                "decoder_layers_per_block": [1, 1, 1],
                "decoder_spatial_up_sample": [True, False, False],
                "decoder_temporal_up_sample": [True, True, False],
                "decoder_norm_num_groups": 2,
            }
        ),
    }
    for name, kind, module, network in (
        ("text_encoders", "text_encoder", text_encoder, text_encoder.TextEncoder),
        ("diffusion_models", "miniflux", miniflux, miniflux.MiniFluxTransformer),
        ("vae", "causal_vae", causal_vae, causal_vae.CausalVideoVAE),
    ):
        weights = network(configs[name])
        module.init_weights(weights, generator)
        for parameter in weights.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)  # no layer starts at nothing
        extra = {"tokenizer": tokenizer.to_json()} if name == "text_encoders" else None
        latent_format = LatentFormat("tiny", 0.1, 2.0, 0.0, 1.5) if name == "diffusion_models" else None
        checkpoints.save(folder / name / "tiny.safetensors", weights, kind, configs[name], latent_format, extra)
    return folder


@pytest.mark.parametrize("strength", [0.0, 3.0])
def test_a_prompt_gives_the_same_clip_in_a_batch_as_alone(models, strength):
    model = PyramidToVideo(models, make_stages(first_steps=2, video_steps=1), PyramidGuidance(strength, strength))
    prompts = ["a ball moving left", "a red brick that stands as still as a brick can"]
    together = model(prompts, seed=5, frames=9, size=64)
    assert together.shape == (2, 3, 9, 64, 64)
    torch.testing.assert_close(model(prompts[1:], seed=6, frames=9, size=64), together[1:], atol=1e-4, rtol=0)
    assert (model(prompts[:1], seed=6, frames=9, size=64) - together[1:]).abs().max() > 1e-3  # the words matter


def test_prompts_in_other_words_ask_for_what_there_is(tmp_path):
    prompts, asked = read_prompts(ROOT / "benchmarks" / "other_words.tsv")
    assert len(prompts) == len(set(prompts)) == len(asked) > 40
    assert {combination.subject for combination in asked} == set(SUBJECTS)
    assert {combination.background for combination in asked} == set(BACKGROUNDS)
    assert {combination.motion for combination in asked} == set(MOTIONS)
    (tmp_path / "short.tsv").write_text("a tiger\ttiger\tblue\n")
    with pytest.raises(ValueError, match="line 1 has 3 parts"):
        read_prompts(tmp_path / "short.tsv")
