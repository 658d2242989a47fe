"""Helios' transformer: diffusers' class is the judge, for every switch of the published configurations."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.models import skip_init
from pyramid_video.models.helios import HeliosConfig, HeliosTransformer, HistoryLevel, HistoryLevels
from pyramid_video.models.history_levels import history_rotation

helios = pytest.importorskip("diffusers.models.transformers.transformer_helios")

SMALL = dict(
    num_attention_heads=2,
    attention_head_dim=16,
    rope_dim=(8, 4, 4),
    text_dim=24,
    ffn_dim=48,
    num_layers=2,
)
SWITCHES = [
    {},
    {"guidance_cross_attn": False},
    {"zero_history_timestep": False},
    {"is_amplify_history": True},
    {"is_amplify_history": True, "history_scale_mode": "scalar"},
    {"guidance_cross_attn": False, "zero_history_timestep": False, "is_amplify_history": True},
]
FRAMES = 9
# the unit's rows and columns, the history's, how many frames are long, mid and short
SIZES = [
    ((8, 12), (8, 12), (16, 2, 2)),  # the last stage of the official sizes
    ((4, 6), (16, 24), (16, 2, 2)),  # an earlier stage: the past keeps its full size
    ((6, 10), (6, 10), (16, 2, 2)),  # patches of the past that must be filled up
    ((2, 2), (2, 2), (3, 1, 1)),  # odd numbers of frames
    ((10, 6), (20, 12), (5, 3, 4)),
]


def pair(**switches):
    """Diffusers' network and ours with the same random weights."""
    theirs = helios.HeliosTransformer3DModel(**SMALL, **switches).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():  # none may stay as it begins, or a mistake would not show
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name and "weight" in name else 0.2 * noise)
    ours = HeliosTransformer(HeliosConfig(**SMALL, **switches), ops=skip_init).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def inputs(size=SIZES[0], batch=2, seed=0):
    (rows, columns), past, (long, mid, short) = size
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    at = torch.arange(1 + long + mid + short - 1 + FRAMES).split([1, long, mid, short - 1, FRAMES])
    at = {"long": at[1], "mid": at[2], "short": torch.cat((at[0], at[3])), "made": at[4]}
    latents = {name: draw(batch, 16, len(at[name]), *past) for name in ("long", "mid", "short")}
    return {
        "x": draw(batch, 16, FRAMES, rows, columns),
        "timestep": torch.tensor([744.25, 12.5, 999.0])[:batch],
        "text": draw(batch, 7, SMALL["text_dim"]),
        "history": HistoryLevels(
            tuple(at["made"].tolist()),
            **{name: HistoryLevel(clip, tuple(at[name].tolist())) for name, clip in latents.items()},
        ),
    }


def ask(theirs, x, timestep, text, history=None):
    """The same question to diffusers' class."""
    index = lambda frames: torch.tensor(frames)[None]  # noqa: E731
    past = {} if history is None else {"indices_hidden_states": index(history.frames)}
    for name, level, _ in history.levels if history is not None else ():
        past |= {f"latents_history_{name}": level.latents, f"indices_latents_history_{name}": index(level.frames)}
    return theirs(x, timestep, text, **past, return_dict=False)[0]


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@torch.no_grad()
def test_every_switch_gives_the_numbers_of_diffusers(switches):
    theirs, ours = pair(**switches)
    given = inputs()
    assert_same(ours(**given), ask(theirs, **given))


@pytest.mark.parametrize("size", SIZES, ids=str)
@torch.no_grad()
def test_every_size_gives_the_numbers_of_diffusers(size):
    theirs, ours = pair()
    given = inputs(size)
    assert_same(ours(**given), ask(theirs, **given))


@pytest.mark.parametrize("memory_patch", [True, False])
@torch.no_grad()
def test_without_a_past_too(memory_patch):
    theirs, ours = pair(has_multi_term_memory_patch=memory_patch)
    given = inputs() | {"history": None}
    assert_same(ours(**given), ask(theirs, **given))


@torch.no_grad()
def test_only_a_near_past():
    theirs, ours = pair()
    given = inputs()
    given["history"] = HistoryLevels(given["history"].frames, short=given["history"].short)
    assert_same(ours(**given), ask(theirs, **given))


def test_gradients_are_those_of_diffusers():
    theirs, ours = pair(is_amplify_history=True)
    given = inputs()
    weights = torch.randn(given["x"].shape, generator=torch.Generator().manual_seed(5))
    (ours(**given) * weights).sum().backward()
    (ask(theirs, **given) * weights).sum().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-3, rtol=1e-3, msg=name)
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_every_frame_of_the_past_and_its_place_have_a_say():
    _, ours = pair()
    given = inputs()
    history, before = given["history"], ours(**given)
    for name, level, _ in history.levels:
        for at in range(len(level.frames)):
            latents, frames = level.latents.clone(), list(level.frames)
            latents[:, :, at] += 1
            frames[at] += 1
            for changed in (HistoryLevel(latents, level.frames), HistoryLevel(level.latents, tuple(frames))):
                past = {each: other for each, other, _ in history.levels} | {name: changed}
                after = ours(**given | {"history": HistoryLevels(history.frames, **past)})
                assert (after - before).abs().max() > 1e-3, (name, at)
    later = HistoryLevels(tuple(at + 1 for at in history.frames), **{name: level for name, level, _ in history.levels})
    assert (ours(**given | {"history": later}) - before).abs().max() > 1e-3


@torch.no_grad()
def test_each_row_of_a_batch_equals_its_run_alone():
    _, ours = pair()
    given = inputs()
    both = ours(**given)
    for row in range(2):
        one = {key: value[row : row + 1] for key, value in given.items() if key != "history"}
        alone = ours(**one, history=given["history"].each(lambda clip, row=row: clip[row : row + 1]))
        torch.testing.assert_close(both[row : row + 1], alone, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_half_precision_keeps_float32_where_it_matters():
    """Weights in bfloat16 move the answer by no more than rounding does; noise levels and norms stay float32."""
    _, ours = pair(is_amplify_history=True)
    given = inputs()
    exact = ours(**given)
    half = HeliosTransformer(ours.config, ops=skip_init, dtype=torch.bfloat16)
    half.load_state_dict(ours.state_dict())
    kept = {name for name, parameter in half.named_parameters() if parameter.dtype == torch.float32}
    parts = HeliosTransformer.KEEPS_FLOAT32
    assert kept == {name for name, _ in half.named_parameters() if any(part in name for part in parts)}
    rounded = half(given["x"].bfloat16(), given["timestep"], given["text"].bfloat16(), given["history"])
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_keys_and_shapes_of_the_full_size_are_those_of_diffusers():
    for switches in ({}, {"is_amplify_history": True}):
        with torch.device("meta"):
            theirs = helios.HeliosTransformer3DModel(**switches).state_dict()
        ours = HeliosTransformer(HeliosConfig(**switches), ops=skip_init, device="meta").state_dict()
        assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}
        assert 14e9 < sum(value.numel() for value in ours.values()) < 15e9


def test_a_config_is_read_as_diffusers_reads_it(caplog):
    theirs = dict(helios.HeliosTransformer3DModel(**SMALL).config)
    config = HeliosConfig.from_dict(theirs | {"restrict_self_attn": False})
    assert config == HeliosConfig(**SMALL)
    assert "restrict_self_attn" in caplog.text
    assert HeliosConfig.from_dict(config.to_dict()) == config
    for wrong in ({"patch_size": [1, 4, 4]}, {"rope_dim": [8, 8, 8]}, {"qk_norm": None}, {"history_scale_mode": "all"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            HeliosConfig.from_dict(theirs | wrong)


def test_what_does_not_fit_is_said():
    _, ours = pair()
    given = inputs()
    history = given["history"]
    for change, words in (
        ({"x": given["x"][:, :8]}, "takes .batch, 16"),
        ({"x": given["x"][:, :, :3]}, "9 frames was given with 3 frames"),
        ({"x": given["x"][..., :7, :]}, "nearest size"),
        ({"text": given["text"][..., :5]}, "UMT5"),
        ({"text": given["text"][:1]}, "text features for 1 rows"),
        ({"timestep": given["timestep"][:1]}, "timestep has the shape .1,.; expected .2,"),
        ({"history": history.each(lambda clip: clip[:1])}, "batch of 1"),
    ):
        with pytest.raises(ValueError, match=words):
            ours(**given | change)
    with pytest.raises(ValueError, match="index for every frame"):
        HistoryLevel(history.long.latents, (1, 2))
    _, forgetful = pair(has_multi_term_memory_patch=False)
    with pytest.raises(ValueError, match="no history"):
        forgetful(**given)


def test_the_rotary_table_is_the_one_of_diffusers_far_out():
    """Frame 5000 of a long film: worked out in float64, so it is at least as exact as float32 angles."""
    table = history_rotation((((4999, 5000), 3, 5, 1),), SMALL["rope_dim"], torch.device("cpu"))
    theirs = helios.HeliosRotaryPosEmbed(SMALL["rope_dim"], 10000.0)(torch.tensor([[4999, 5000]]), 3, 5, "cpu")
    cos, sin = theirs[0].flatten(1).T.chunk(2, dim=1)
    expected = torch.complex(cos[:, ::2], sin[:, ::2])
    torch.testing.assert_close(torch.view_as_complex(table[0, :, 0]), expected, atol=1e-3, rtol=0)
    assert table.dtype == torch.float32


@pytest.mark.parametrize("switches", SWITCHES[:2])
@torch.no_grad()
def test_no_layer_is_asked_of_nothing_where_there_is_no_past(switches):
    """Layers that scale what they are given by its largest number cannot do it without any."""
    _, ours = pair(**switches)
    sizes = []
    for layer in ours.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].numel()))
    given = inputs()
    ours(given["x"], given["timestep"], given["text"])
    assert sizes and all(sizes)
