"""Text and pictures of Helios without a host: transformers and diffusers are the judges."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from official_helios import PROMPTS, TEXT_WIDTH, VAE, vae, write_descriptions, write_helios, write_text, write_vae
from pyramid_video.host.folders import ModelFolders
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.host.standalone.sampling import join_texts
from pyramid_video.models.checkpoints import CheckpointError, inspect
from pyramid_video.models.helios import TEXT_TOKENS, HistoryLevel, HistoryLevels, text_window
from pyramid_video.models.latent_format import WAN
from pyramid_video.models.official_text import UMT5_TOKENS, load_official_text
from pyramid_video.models.wan_vae import WanVAEConfig

TEXTS = [*PROMPTS[:2], "", "tiger " * 700, "  a tiger \n runs &amp; a <b>ball ", "\ud800 🐯 \x00"]


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    return write_helios(tmp_path_factory.mktemp("models") / "Helios-Distilled")


@pytest.fixture(scope="module")
def host(top):
    return StandaloneHost(models=top.parent, device="cpu", silent=True)


def opened(host, top, kind, part):
    name = "/".join((top.name, part)).strip("/")
    return host.find_model(kind, name)


def by_the_book(top, text, length=512):
    """What the official pipeline hands to its transformer."""
    import transformers
    from diffusers.pipelines.helios import pipeline_helios

    pipeline_helios.ftfy = SimpleNamespace(fix_text=lambda text: text)  # it mends text from a wrong code page
    pipeline = SimpleNamespace(
        _execution_device="cpu",
        tokenizer=transformers.AutoTokenizer.from_pretrained(top / "tokenizer"),
        text_encoder=transformers.UMT5EncoderModel.from_pretrained(top / "text_encoder").eval(),
    )
    return pipeline_helios.HeliosPipeline._get_t5_prompt_embeds(pipeline, text, max_sequence_length=length)[0]


@pytest.mark.parametrize("text", TEXTS[:5], ids=range(5))
@torch.no_grad()
def test_the_network_gets_what_the_official_pipeline_gives_it(host, top, text):
    clip = host.load_text_encoder(opened(host, top, "text_encoders", ""))
    (tokens, extras), *rest = host.encode_prompt(clip, text)
    assert not rest and "pooled_output" not in extras and tokens.shape[1] <= UMT5_TOKENS
    torch.testing.assert_close(text_window(tokens), by_the_book(top, text), atol=0, rtol=0)
    model = host.load_model(opened(host, top, "diffusion_models", "transformer"))
    assert model.info.reads(tokens, None) and model.info.reads(tokens, torch.zeros(1, 768))
    assert not model.info.reads(tokens[..., 1:], None)
    both = join_texts([(tokens, None), (tokens[:, :1], None)], model)
    assert both.tokens.shape == (2, TEXT_TOKENS, TEXT_WIDTH) and both.mask is None and both.pooled is None
    torch.testing.assert_close(both.tokens[:1], by_the_book(top, text), atol=0, rtol=0)


@torch.no_grad()
def test_any_text_can_be_encoded(top):
    encoders = load_official_text(top, "cpu", torch.float32)
    for text in TEXTS:
        tokens, pooled = encoders.encode(text)
        assert pooled is None and torch.isfinite(tokens).all() and 1 <= tokens.shape[1] <= UMT5_TOKENS


def test_texts_that_core_blocks_padded_or_joined_are_brought_into_shape():
    words = torch.randn(2, 5, 3)
    zeros = torch.zeros(2, 4, 3)
    joined = torch.cat((words[:, :2], zeros, words[:, 2:], zeros), dim=1)
    window = text_window(joined)
    torch.testing.assert_close(window[:, :5], words, atol=0, rtol=0)
    assert window.shape == (2, 512, 3) and not window[:, 5:].any()
    assert torch.equal(text_window(window), window)
    long = torch.randn(1, 700, 3)
    assert torch.equal(text_window(long), long[:, :512])


def test_the_kind_is_told_by_the_folders(top, tmp_path):
    assert inspect(top).kind == "official_text_helios"
    shutil.copytree(top / "text_encoder", tmp_path / "text_encoder")
    with pytest.raises(CheckpointError, match="no weights"):
        inspect(tmp_path)
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(CheckpointError, match="tokenizer holds no vocabulary"):
        load_official_text(tmp_path)
    (tmp_path / "text_encoder" / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(CheckpointError, match="lacks tokenizer_2, text_encoder_2"):
        inspect(tmp_path)


@pytest.mark.parametrize("place", ["", "pyramid_video", "diffusion_models"])
def test_an_official_folder_is_found_by_kind(tmp_path, place):
    folder = write_descriptions(write_text(tmp_path / place / "Helios-Mid"), "mid")
    write_vae(folder / "vae")
    (folder / "transformer").mkdir()
    (folder / "transformer" / "config.json").write_text('{"has_multi_term_memory_patch": true}')
    (folder / "transformer" / "diffusion_pytorch_model-00001-of-00002.safetensors").write_bytes(b"")
    (folder / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors").write_bytes(b"")
    folders = ModelFolders.below(tmp_path)
    for kind, part in (("diffusion_models", "transformer"), ("vae", "vae"), ("text_encoders", "")):
        found = {name: path for name, path in folders.entries(kind).items() if "pyramid_video_small" not in name}
        assert list(found.values()) == [folder / part]


# Pictures


@pytest.fixture(scope="module")
def wan(host, top):
    return host.load_vae(opened(host, top, "vae", "vae"))


def test_the_vae_knows_its_units(wan):
    info = wan.info
    assert (info.time_compression, info.space_compression, info.latent_channels, info.unit) == (4, 8, 16, 9)
    assert (info.unit_frames, info.lengths) == (33, "33k")
    assert [info.frames_of(n) for n in (0, 1, 9, 10, 18)] == [0, 1, 33, 34, 66]
    assert [info.latent_frames_of(n) for n in (1, 33, 34, 66, 71)] == [1, 9, 10, 18, 20]
    assert [info.nearest_length(n) for n in (1, 49, 50, 121, 132)] == [33, 33, 66, 132, 132]


@torch.no_grad()
def test_every_unit_is_decoded_on_its_own_as_officially(host, wan):
    latent = torch.randn(2, 16, 18, 4, 6, generator=torch.Generator().manual_seed(0))
    frames = host.decode(wan, latent, chunk=2).unflatten(0, (2, 66))
    official = vae()
    for row in range(2):
        for unit in range(2):
            given = latent[row : row + 1, :, 9 * unit : 9 * unit + 9]
            expected = official.decode(given).sample[0].movedim(0, -1) / 2 + 0.5  # (33, h, w, 3)
            torch.testing.assert_close(frames[row, 33 * unit : 33 * unit + 33], expected, atol=1e-6, rtol=1e-5)
    assert frames[0].std() > 0.01


@torch.no_grad()
def test_every_unit_is_encoded_on_its_own_as_officially(host, wan):
    pictures = torch.rand(2 * 33 + 1, 16, 24, 3, generator=torch.Generator().manual_seed(0))
    latent = host.encode(wan, pictures)
    assert latent.shape == (1, 16, 19, 2, 3)
    official = vae()
    for start, end, at in ((0, 33, slice(0, 9)), (33, 66, slice(9, 18)), (66, 67, slice(18, 19))):
        video = pictures[start:end].movedim(-1, 0)[None] * 2 - 1
        expected = official.encode(video).latent_dist.mode()
        torch.testing.assert_close(latent[:, :, at], expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="35 frames cannot be encoded.*nearest shorter is 34"):
        wan.network.encode(torch.zeros(1, 3, 35, 16, 24))
    assert torch.equal(host.encode(wan, pictures[:35]), host.encode(wan, pictures[:34]))


@torch.no_grad()
def test_tiles_join_to_nearly_the_same_pictures(host, wan):
    """Not quite the same: the network attends to whole frames."""
    latent = torch.randn(1, 16, 9, 8, 12, generator=torch.Generator().manual_seed(0)) / 4
    whole, tiled = host.decode(wan, latent), host.decode(wan, latent, tile=64)
    assert tiled.shape == whole.shape and (tiled - whole).abs().mean() < 0.2 * whole.std()
    assert torch.equal(host.decode(wan, latent, tile=128), whole)


def test_statistics_are_those_of_the_official_vae():
    config = vae().config
    latent = torch.randn(1, 16, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    mean, deviation = (torch.tensor(config[key]).view(1, 16, 1, 1, 1) for key in ("latents_mean", "latents_std"))
    torch.testing.assert_close(WAN.normalize(latent), (latent - mean) / deviation)
    torch.testing.assert_close(WAN.denormalize(WAN.normalize(latent)), latent)


def test_other_vaes_are_refused(tmp_path):
    assert WanVAEConfig.from_dict(VAE | {"latents_mean": [0.0]}).base_dim == VAE["base_dim"]
    with pytest.raises(ValueError, match="Wan 2.2"):
        WanVAEConfig.from_dict({"is_residual": True, "z_dim": 48})
    with pytest.raises(ValueError, match="8 times in space"):
        WanVAEConfig(temperal_downsample=(True, True, True))


# The model itself


@torch.no_grad()
def test_a_model_answers_as_its_network_does(host, top):
    model = host.load_model(opened(host, top, "diffusion_models", "transformer"))
    assert (model.info.kind, model.info.family.variant) == ("helios", "distilled")
    assert (model.info.text_width, model.info.pooled_width, model.info.latent_channels) == (TEXT_WIDTH, 0, 16)
    draw = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(0))  # noqa: E731
    memory = HistoryLevels(tuple(range(3, 12)), short=HistoryLevel(draw(1, 16, 2, 4, 6), (0, 2)))
    text = join_texts([(draw(1, 3, TEXT_WIDTH), None), (draw(1, 5, TEXT_WIDTH), None)], model)
    x, timestep = draw(2, 16, 9, 4, 6), torch.full((2,), 500.0)
    answer = model.predict(x, timestep, memory, text)
    expected = model.network(x, timestep, text.tokens, memory.each(lambda clip: clip.repeat(2, 1, 1, 1, 1)))
    torch.testing.assert_close(answer, expected)
    torch.testing.assert_close(model.predict(x, timestep, (), text), model.network(x, timestep, text.tokens))
