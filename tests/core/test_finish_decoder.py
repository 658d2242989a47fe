"""The decoder that learns from clips a flow has rebuilt: what a piece is, what the flow gives back, what is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pyramid_video.models import checkpoints
from pyramid_video.models.frame_discriminator import FrameDiscriminator, init_weights
from pyramid_video.models.latent_format import LatentFormat
from pyramid_video.recipes.emoji import rebuilt_clips, small_models
from pyramid_video.recipes.emoji.finish_decoder import FinishObjective, RebuiltThenHalf
from pyramid_video.recipes.emoji.latents import encode_clips, resized
from pyramid_video.recipes.emoji.needed_files import check_files
from pyramid_video.recipes.emoji.rebuilt_clips import Flow, Pieces, RebuiltClips
from pyramid_video.recipes.emoji.recipe import TRANSFORMER_FILES, VAE_FILE
from pyramid_video.recipes.emoji.texts import new_transformer
from pyramid_video.training import presets
from pyramid_video.training.objectives.vae import VAEObjective
from pyramid_video.training.run.loop import TrainSettings
from small_recipe import RECIPE, drawn_dataset, narrow_vae, save_text_encoder
from torch.nn.functional import avg_pool2d

CELLS, CELL = 8, 4
CLIPS, SEED = 3, 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def numbered() -> RebuiltClips:
    """Two plain clips of 9 frames whose latents hold the number of their cell, as do the pixels, and a figure."""
    cells = torch.arange(CELLS**2).view(CELLS, CELLS)
    pixels = cells.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1).to(torch.uint8)
    clips = pixels.expand(2, 3, 9, -1, -1).contiguous()
    latents = cells.float().expand(2, 1, 3, -1, -1)
    return RebuiltClips(clips, latents, latents)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_piece_is_the_same_place_of_pixels_and_latents(numbered, frames):
    pieces = numbered.draw(frames, 40, generator())
    assert pieces.latents.shape == (40, 1, frames, 6, 6) and pieces.videos.shape == (40, 3, 4 * frames - 3, 24, 24)
    cells = avg_pool2d((pieces.videos[:, 0, 0] + 1) * 127.5, CELL)
    torch.testing.assert_close(cells, pieces.latents[:, 0, 0])
    assert len({int(latent[0, 0, 0, 0]) for latent in pieces.latents}) > 5


def test_a_piece_knows_the_borders_of_the_picture_and_not_where_it_was_cut(numbered):
    seen = set()
    for latent, known in zip(*(lambda p: (p.latents, p.known))(numbered.draw(1, 60, generator())), strict=True):
        top, left = divmod(int(latent[0, 0, 0, 0]), CELLS)
        expected = torch.ones(24, 24, dtype=torch.bool)
        if top:
            expected[:CELL] = False
        if top + 6 < CELLS:
            expected[-CELL:] = False
        if left:
            expected[:, :CELL] = False
        if left + 6 < CELLS:
            expected[:, -CELL:] = False
        assert torch.equal(known[0, 0], expected)
        seen.add((top, left))
    assert {(0, 0), (2, 2)} <= seen and any(top == 1 for top, _ in seen)


def test_whole_clips_are_known_everywhere_and_come_in_every_fifth_step(numbered):
    half = replace(numbered, part=1.0)
    both = RebuiltThenHalf(numbered, half)
    sizes = [tuple(both.draw(step, generator(step)).latents.shape[2:]) for step in range(10)]
    assert sizes == 2 * [(3, 6, 6), (3, 6, 6), (3, 6, 6), (3, 6, 6), (3, 8, 8)]
    assert half.draw(3, 2, generator()).known.all()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return drawn_dataset(tmp_path_factory.mktemp("animations"))


@pytest.fixture
def vae():
    return narrow_vae()


@pytest.fixture
def models(tmp_path):
    """A models folder with a text encoder, and a flow that knows nothing yet."""
    folder = tmp_path / "models"
    save_text_encoder(folder)
    save_flow(folder)
    return folder


def save_flow(folder, seed=0):
    network = new_transformer(RECIPE, "flow", seed)
    with torch.no_grad():
        network.proj_out.bias.fill_(float(seed))
    path = folder / TRANSFORMER_FILES["flow"]
    path.unlink(missing_ok=True)
    channels = (0.1,) * 48, (2.0,) * 48, (0.3,) * 48, (1.5,) * 48
    checkpoints.save(path, network.state_dict(), "miniflux", network.config, LatentFormat("small", *channels))


def test_a_flow_that_knows_the_clip_gives_it_back(dataset, vae, models, tmp_path):
    """The exact velocity of a straight path to one point is (x - point) / sigma; guidance of two alike is the same."""
    latents, combinations = encode_clips(dataset, vae, tmp_path, 1, SEED)
    flow = Flow(models)
    point = flow.format.normalize(latents)
    flow.network.predict = lambda x, time, *rest: (x - point) / (time / 1000)
    for levels in rebuilt_clips.LEVELS:
        torch.testing.assert_close(flow.rebuild(latents, combinations[0], levels, generator()), latents)


def test_clips_are_rebuilt_once_and_again_for_another_flow(dataset, vae, models, tmp_path, monkeypatch):
    monkeypatch.setattr(rebuilt_clips, "CHUNK", 2)
    calls, usual = [], Flow.rebuild

    def counting(self, *inputs):
        calls.append(1)
        return usual(self, *inputs)

    monkeypatch.setattr(Flow, "rebuild", counting)

    def made() -> RebuiltClips:
        return rebuilt_clips.rebuilt_clips(dataset, vae, models, tmp_path / "run", CLIPS, SEED)

    first, again = made(), made()
    assert len(calls) == CLIPS and torch.equal(first.rebuilt, again.rebuilt)
    assert first.rebuilt.shape == first.latents.shape == (CLIPS, 48, 3, 8, 8) and first.rebuilt.isfinite().all()
    (tmp_path / "run" / "rebuilt" / "00002.safetensors").write_bytes(b"cut short")
    assert torch.equal(made().rebuilt, first.rebuilt) and len(calls) == CLIPS + 1
    save_flow(models, seed=1)
    assert not torch.equal(made().rebuilt, first.rebuilt) and len(calls) == 2 * CLIPS + 1
    (tmp_path / "run" / "state.pt").touch()  # from here on they belong to a run
    assert len(made().rebuilt) == CLIPS
    save_flow(models, seed=2)
    with pytest.raises(ValueError, match="learned from other clips: its flow"):
        made()


def test_nothing_is_asked_where_a_piece_was_cut(vae):
    pieces = Pieces(torch.zeros(1, 3, 5, 32, 32), torch.randn(1, 48, 2, 4, 4, generator=generator()), None)
    objective = FinishObjective(VAEObjective(foreground=4.0, gradient=2.0, colour=6.0))
    unknown = torch.zeros(1, 1, 1, 32, 32, dtype=torch.bool)
    assert objective({"vae": vae}, replace(pieces, known=unknown), generator())["loss"] == 0
    losses = objective({"vae": vae}, replace(pieces, known=~unknown), generator())
    assert losses["absolute"] > 0.01 < losses["gradient"]


@pytest.mark.parametrize("most", [None, 1, 4, 9])
def test_a_discriminator_sees_so_many_frames_at_most_and_all_in_turn(vae, most):
    judge, seen = FrameDiscriminator((8, 8)), []
    init_weights(judge, generator())
    judge.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    video = torch.arange(9.0).view(1, 1, 9, 1, 1).expand(1, 3, 9, 16, 16) / 9
    decoded = vae.decode(torch.zeros(1, 48, 3, 2, 2))
    objective = VAEObjective(judged_frames=most)
    for seed in range(40):
        objective.of_decoded({"vae": vae, "discriminator": judge}, decoded, video, generator(seed))
    counts = {frames.shape[2] for frames in seen}
    assert max(counts) == {None: 9, 1: 1, 4: 3, 9: 9}[most]  # every third is 3 of 9
    real = {float(frame) for frames in seen for frame in frames[0, 0, :, 0, 0] if frames.eq(frames[..., :1, :1]).all()}
    assert {round(9 * frame) for frame in real} >= set(range(9))


def test_a_decoder_is_finished_without_moving_the_latents(dataset, vae, models, tmp_path):
    before = {name: weight.clone() for name, weight in vae.state_dict().items()}
    dataset = resized(dataset, 128)  # half of it must be large enough for the discriminator
    settings = TrainSettings(steps=6, warmup_steps=1, learning_rate=1e-2, ema_decay=0.5)
    part = small_models.train("finish", dataset, vae, models, tmp_path / "run", settings, clips=2)
    moved = {name for name, weight in part.run.averaged()["vae"].items() if not torch.equal(weight, before[name])}
    assert any(name.startswith("decoder.up_blocks") for name in moved)
    assert not [name for name in moved if name.startswith(presets.ENCODING)]
    assert part.export(tmp_path / "out") == (tmp_path / "out" / VAE_FILE,)


def test_a_flow_is_needed_and_must_be_of_the_same_recipe(models, vae, tmp_path):
    checkpoints.save(models / VAE_FILE, vae.state_dict(), "causal_vae", vae.config)
    with pytest.raises(ValueError, match="of another recipe: its num_attention_heads is 1"):
        check_files("finish", 128, models, tmp_path / "run", None)
    (models / TRANSFORMER_FILES["flow"]).unlink()
    with pytest.raises(FileNotFoundError, match="whose clips the decoder learns to draw: first train"):
        check_files("finish", 128, models, tmp_path / "run", None)
