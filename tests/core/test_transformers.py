"""What must hold for both Pyramid Flow transformers, whatever their weights; test_reference.py has recorded numbers."""

from __future__ import annotations

import cmath
import json
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from pyramid_video.models import attention, attention_forms, token_layout, transformer
from pyramid_video.models.cached_tokens import CachedTokens
from pyramid_video.models.layers import timestep_frequencies, unpatchify
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer, init_weights
from pyramid_video.models.mmdit import MMDiTConfig, MMDiTTransformer, sincos_table
from pyramid_video.models.rotary import grid_positions, rotate, rotation_table, two_kernels
from safetensors.torch import load_file
from torch import nn

CLASSES = {"miniflux": (MiniFluxConfig, MiniFluxTransformer), "sd3_mmdit": (MMDiTConfig, MMDiTTransformer)}
SIZES = {
    "miniflux": dict(in_channels=16, num_layers=2, num_single_layers=2, axes_dims_rope=(4, 6, 6)),
    "sd3_mmdit": dict(in_channels=4, num_layers=3, caption_projection_dim=32, sample_size=16, pos_embed_max_size=24),
}
SHARED = dict(attention_head_dim=16, num_attention_heads=2, joint_attention_dim=24, pooled_projection_dim=20)
CLIPS = ((2, 2, 4), (1, 4, 8), (2, 8, 16))  # frames, rows, columns: history at falling resolution, a unit of two frames
GRIDS = tuple((t, h // 2, w // 2) for t, h, w in CLIPS)
FRAME_SIZES = [rows * columns for frames, rows, columns in GRIDS for _ in range(frames)]
MASKS = {
    "no_mask": None,
    "all_real": torch.ones(3, 6, dtype=torch.long),
    "one_length": torch.tensor([[1, 1, 1, 1, 0, 0]] * 3),
    "many_lengths": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]),
    "scattered": torch.tensor([[0, 1, 0, 1, 1, 0], [1, 0, 1, 0, 1, 1], [0, 0, 1, 1, 0, 1]]),
    "one_without_text": torch.tensor([[1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]),
}


def make(kind: str, dtype=torch.float64, **changes):
    config, network = CLASSES[kind]
    network = network(config(**{**SHARED, **SIZES[kind], **changes}), dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():  # none may stay at zero, or a mistake behind a gate would not show
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if parameter.shape == (16,) else 0.2 * noise)
    return network


def inputs(mask=MASKS["scattered"], dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator).to(dtype)  # noqa: E731
    clips = [draw(3, 4, *size) for size in CLIPS]
    return [clips, torch.tensor([744.256, 12.5, 999.0]), draw(3, 6, 24), mask, draw(3, 20)]


@pytest.fixture(params=CLASSES)
def kind(request):
    return request.param


def allowed_pairs(mask, causal):
    """The rule as the paper has it: (3, query, key), text first; padding sees padding, so no row is empty."""
    time = torch.tensor([0] * 6 + [frame for frame, size in enumerate(FRAME_SIZES) for _ in range(size)])
    real = torch.ones(3, len(time), dtype=torch.bool)
    if mask is not None:
        real[:, :6] = mask.bool()
    pairs = real[:, :, None] == real[:, None, :]
    return pairs & (time[:, None] >= time[None, :]) if causal else pairs


def kernel_by_hand(query, key, value, segments):
    """What the varlen kernel does: each sequence of queries looks at as many keys as it is told, from where it is."""
    queries, keys, values = (x.flatten(0, 1) for x in (query, key, value))
    starts, firsts, lengths = (
        numbers.tolist() for numbers in (segments.query_starts, segments.key_starts, segments.key_lengths)
    )
    parts = []
    for start, end, first, length in zip(starts, starts[1:], firsts, lengths, strict=False):
        assert 0 < end - start <= segments.longest
        q, k, v = (x.transpose(0, 1) for x in (queries[start:end], keys[first:][:length], values[first:][:length]))
        parts.append(F.scaled_dot_product_attention(q, k, v).transpose(0, 1))
    return torch.cat(parts).unflatten(0, query.shape[:2]).flatten(2)


@pytest.fixture(params=["runs", "masked", "settled", "varlen"])
def form(request, monkeypatch):
    monkeypatch.setattr(transformer, "choose_form", lambda *_: request.param)
    monkeypatch.setattr(attention_forms, "attend_segments", kernel_by_hand)
    return request.param


@pytest.mark.parametrize("flags", [{}, {"use_temporal_causal": False}, {"use_t5_mask": False}], ids=str)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_every_form_of_attention_equals_the_rule(kind, mask, flags, form, monkeypatch):
    network, given = make(kind, **flags), inputs(mask)
    with torch.no_grad():
        answer = network(*given)
    pairs = allowed_pairs(mask if network.config.use_t5_mask else None, network.config.use_temporal_causal)

    def by_the_rule(query, key, value, layout, attention):
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        allowed = pairs[:, None, -query.shape[2] :]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed).transpose(1, 2).flatten(2)

    monkeypatch.setattr(attention, "attend", by_the_rule)
    monkeypatch.setattr(transformer, "text_order", lambda *_: ((0, 0, 0), None))
    with torch.no_grad():
        torch.testing.assert_close(answer, network(*given))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_runs_work_out_no_pair_that_a_mask_would_throw_away(mask):
    network, pairs = make("miniflux"), []

    def count(query, key, value):
        pairs.append(len(query) * query.shape[2] * key.shape[2])
        return F.scaled_dot_product_attention(query, key, value)

    network.attention = count
    network(*inputs(mask))
    real = torch.ones(3, 6 + sum(FRAME_SIZES), dtype=torch.bool)
    real[:, :6] = torch.ones(3, 6) if mask is None else mask
    allowed = allowed_pairs(mask, True) & real[:, :, None]
    last_clip = sum(FRAME_SIZES[-2:])
    assert sum(pairs) == 3 * allowed.sum() + allowed[:, -last_clip:].sum()  # the last of four blocks asks less


def test_two_calls_ask_for_all_frames_and_rows(kind, monkeypatch):
    """Whatever the number of frames in the past and of lengths of text."""
    network, calls, masked_last = make(kind), [], []

    def count(query, key, value, attn_mask=None):
        calls.append(query.shape)
        masked_last.append(attn_mask is not None)
        return F.softmax(query @ key.mT, dim=-1) @ value

    monkeypatch.setattr(transformer, "choose_form", lambda *_: "masked")
    network.attention = count
    for mask in (None, MASKS["many_lengths"]):
        calls.clear(), masked_last.clear()
        with torch.no_grad():
            network(*inputs(mask))
        layers = network.cache_shape(1, 1)[0]
        assert len(calls) == 2 * layers
        assert all(masked_last[1::2]) is (mask is not None), "the last frame needs no mask where texts are alike"


@pytest.mark.parametrize("large", [1, 10**6], ids=["frames apart", "frames together"])
def test_kept_tokens_change_no_number(kind, form, large, monkeypatch):
    """The next unit sees the same text and old frames: their keys and values are taken over."""
    monkeypatch.setattr(token_layout, "LARGE", large)
    token_layout.token_layout.cache_clear()
    network, given = make(kind, torch.float32), inputs(MASKS["many_lengths"], torch.float32)
    old, text = 2 * 2, 5  # tokens of the two old frames, and of the text when its padding is cut
    past = torch.full(network.cache_shape(3, text + old), torch.nan)
    with torch.no_grad():
        whole = network(*given)
        clips, *rest = given
        earlier = [clips[0], torch.zeros(3, 4, 1, 8, 16)]  # another frame in work, the same before it
        network(earlier, *rest, CachedTokens(fresh=past, settled=text + old))
        kept = CachedTokens(past, settled=text + old)
        torch.testing.assert_close(network(clips, *rest, kept), whole, rtol=2e-5, atol=2e-5)
        again = torch.full(network.cache_shape(3, FRAME_SIZES[2]), torch.nan)
        network(clips, *rest, CachedTokens(past, again, settled=text + old))
        assert not again.isnan().any(), "what follows the kept tokens is kept for the unit after"


@torch.no_grad()
def test_joining_in_one_copy_changes_no_number(kind, monkeypatch):
    """Many rows join their tokens tensor by tensor, few rows in one copy: the same to the last bit."""
    network, given = make(kind, torch.float32), inputs(MASKS["many_lengths"], torch.float32)
    past = torch.zeros(network.cache_shape(3, 9))
    network(*given, CachedTokens(fresh=past, settled=9))
    one_copy = network(*given), network(*given, CachedTokens(past, settled=9))
    monkeypatch.setattr(attention_forms, "FEW_ROWS", 0)
    for joined, plain in zip(one_copy, (network(*given), network(*given, CachedTokens(past, settled=9))), strict=True):
        assert torch.equal(joined, plain)


def test_what_stands_in_padding_is_never_read(kind):
    network, given = make(kind), inputs()
    velocity = network(*given)
    given[2] = torch.where(given[3].bool()[..., None], given[2], float("nan"))
    torch.testing.assert_close(network(*given), velocity)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_each_row_of_a_batch_equals_its_run_alone(kind, mask):
    network, (clips, timestep, text, mask, pooled) = make(kind), inputs(mask)
    velocity = network(clips, timestep, text, mask, pooled)
    for row in range(3):
        one = slice(row, row + 1)
        alone = network(
            [clip[one] for clip in clips], timestep[one], text[one], None if mask is None else mask[one], pooled[one]
        )
        torch.testing.assert_close(velocity[one], alone)


def test_nothing_flows_back_in_time(kind):
    network, given = make(kind), inputs()
    blocks = network.single_transformer_blocks if kind == "miniflux" else network.transformer_blocks
    seen = []
    blocks[-2].register_forward_hook(lambda module, args, out: seen.append(out if kind == "miniflux" else out[0]))
    before = network(*given)
    given[0][-1][:, :, 1] += 1.0
    after = network(*given)
    torch.testing.assert_close(after[:, :, 0], before[:, :, 0])
    assert not torch.allclose(after[:, :, 1], before[:, :, 1])
    changed = FRAME_SIZES[-1]
    torch.testing.assert_close(seen[0][:, :-changed], seen[1][:, :-changed])  # text, all earlier frames


def test_every_clip_and_the_text_have_a_say(kind):
    network, given = make(kind), inputs()
    before = network(*given)
    for part in (*given[0], given[1], given[2], given[4]):
        part += 1.0
        assert not torch.allclose(network(*given), before)
        part -= 1.0


def test_keys_and_shapes_are_those_of_the_released_models(kind, reference):
    manifest = json.loads((reference / f"manifest_{kind}.json").read_text())
    config, network = CLASSES[kind]
    for values in (manifest["config_on_disk"], manifest["config_on_disk"] | manifest["added_by_the_loader"]):
        read = config.from_dict(values)
        assert read == config() == config.from_dict(json.loads(json.dumps(read.to_dict())))
    network = network(read, device="meta")
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == manifest["keys"]
    assert [name for name, _ in network.named_buffers()] == manifest["buffers_in_state_dict"]


def test_full_width_forward_on_the_meta_device(kind):
    config, network = CLASSES[kind]
    few = dict(num_layers=2, num_single_layers=1) if kind == "miniflux" else dict(num_layers=2)
    network = network(config(**few), device="meta", dtype=torch.bfloat16)
    draw = lambda *shape: torch.empty(*shape, device="meta", dtype=torch.bfloat16)  # noqa: E731
    clips = [draw(2, 16, 5, 24, 40), draw(2, 16, 1, 48, 80), draw(2, 16, 1, 96, 160)]
    mask = torch.arange(128) < torch.tensor([[40], [128]])
    pooled = draw(2, network.config.pooled_projection_dim)
    velocity = network(clips, draw(2), draw(2, 128, 4096), mask, pooled)
    assert (velocity.shape, velocity.dtype) == (clips[-1].shape, torch.bfloat16)


def test_every_layer_comes_from_ops(kind):
    def recording(name):
        return type(name, (getattr(nn, name),), {})

    ops = SimpleNamespace(**{name: recording(name) for name in ("Linear", "Conv2d", "LayerNorm", "RMSNorm")})
    config, network = CLASSES[kind]
    network = network(config(**{**SHARED, **SIZES[kind]}), ops=ops)
    leaves = [module for module in network.modules() if not list(module.children())]
    assert leaves and all(isinstance(leaf, tuple(vars(ops).values())) for leaf in leaves)


def test_norms_have_the_documented_eps(kind):
    network = make(kind)
    for module in network.modules():
        if isinstance(module, nn.RMSNorm):
            assert module.eps == {"miniflux": 1e-6, "sd3_mmdit": 1e-5}[kind]
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-6 and not module.elementwise_affine


def test_bfloat16_stays_close_to_float32(kind):
    network, given = make(kind, torch.float32), inputs(dtype=torch.float32)
    with torch.inference_mode():
        exact = network(*given)
        clips, timestep, text, mask, pooled = given
        half = network.bfloat16()(
            [clip.bfloat16() for clip in clips], timestep, text.bfloat16(), mask, pooled.bfloat16()
        )
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() < 0.03 * exact.norm()


def test_checkpointing_changes_no_gradient(kind):
    network, given = make(kind), inputs()

    def gradients():
        network.zero_grad()
        network(*given).square().mean().backward()
        return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    rotation_table.cache_clear()
    timestep_frequencies.cache_clear()
    with torch.inference_mode():
        network(*given)  # tables first made while sampling must serve training as well
    plain = gradients()
    network.enable_gradient_checkpointing(True)
    torch.testing.assert_close(gradients(), plain)
    silent = {name for name, p in network.named_parameters() if p.requires_grad} - plain.keys()
    assert not silent, "parameters without a gradient stop training on many GPUs"


def test_a_new_network_is_the_zero_field_and_learns(kind):
    first, second = (make(kind, torch.float32), make(kind, torch.float32))
    for network in (first, second):
        init_weights(network, torch.Generator().manual_seed(3))
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    given = inputs(dtype=torch.float32)
    assert not first(*given).any()
    optimizer = torch.optim.Adam(first.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        losses.append((first(*given) - given[0][-1]).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


def test_the_input_skip_adds_the_noisy_clip_with_gains_of_its_own(kind):
    """What it adds is linear in the clip, feature by feature, and nothing else changes."""
    plain, skipping, given = make(kind), make(kind, input_skip=True), inputs()
    state = {name: weight for name, weight in skipping.state_dict().items() if not name.startswith("skip.")}
    plain.load_state_dict(state)
    with torch.no_grad():
        skipping.skip.weight.zero_()
        gains = unpatchify(skipping.skip.bias.expand(3, math.prod(GRIDS[-1]), -1), GRIDS[-1])
        torch.testing.assert_close(skipping(*given) - plain(*given), gains * given[0][-1])


def test_history_spans_the_grid_of_the_last_clip():
    positions = grid_positions([(2, 2, 2), (1, 4, 4), (2, 8, 8)], stretch=True)
    assert positions[4:8].tolist() == [[1, 1.5, 1.5], [1, 1.5, 5.5], [1, 5.5, 1.5], [1, 5.5, 5.5]]
    assert positions[8:12].tolist() == [[2, 0.5, 0.5], [2, 0.5, 2.5], [2, 0.5, 4.5], [2, 0.5, 6.5]]
    assert positions[-1].tolist() == [4, 7, 7]
    assert grid_positions([(1, 2, 2), (1, 4, 4)], stretch=False)[:4, 1:].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_angles_are_worked_out_in_float64():
    table = rotation_table(2, ((30000, 1, 1),), (64,), True, torch.device("cpu"))[:, :, 0]
    assert (
        table.dtype == torch.float32 and (table[:, :2] == torch.tensor([[1.0, 0.0], [0.0, 1.0]])[:, None, None]).all()
    )
    exact = [cmath.rect(1.0, 29999 / 10000 ** (2 * k / 64)) for k in range(32)]
    turns = torch.view_as_complex(table[:, -1].contiguous())
    expected = torch.tensor([exact, [1j * turn for turn in exact]], dtype=torch.complex64)
    torch.testing.assert_close(turns, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_way_to_rotate_gives_the_same(dtype, monkeypatch):
    """A CPU turns complex numbers, a device works in real ones, a compiler gets a plain sum."""
    table = rotation_table(3, ((2, 2, 4),), (4, 6, 6), True, torch.device("cpu"))
    x = torch.randn(2, 19, 3, 16).to(dtype)
    answer = rotate(x, table)
    tolerance = {"rtol": 0, "atol": 1e-6 if dtype == torch.float32 else 0.04}
    torch.testing.assert_close(two_kernels(x, table), answer, **tolerance)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(rotate(x, table), answer, **tolerance)


def test_rotation_tables_last_a_stage_and_not_a_run():
    rotation_table.cache_clear()
    ladder = [((unit, 2, 2), (1, side, side)) for unit in range(1, 9) for side in (2, 4, 8)]
    for grids in ladder:
        for _step in range(5):
            for text in (6, 3):  # a host short of memory asks for positive and negative apart
                rotation_table(text, grids, (4, 6, 6), True, torch.device("cpu"))
    made = rotation_table.cache_info()
    assert made.misses == 2 * len(ladder), "made once a stage"
    assert made.currsize <= 4, "no host manages this memory, so it must stay small"


def test_table_of_places_is_that_of_the_checkpoints(reference):
    config = MMDiTConfig.from_dict(json.loads((reference / "weights_mmdit.json").read_text())["config"])
    recorded = load_file(reference / "weights_mmdit.safetensors")["weights.pos_embed.pos_embed"]
    step = config.sample_size / 2 / config.pos_embed_max_size
    torch.testing.assert_close(sincos_table(config.pos_embed_max_size, step, config.width), recorded, rtol=0, atol=1e-6)


def test_sd3_without_time_rotation_knows_no_order():
    clips, *rest = inputs()
    clips = [clips[0][:, :, :1], clips[0][:, :, 1:], clips[-1]]
    swapped = [clips[1], clips[0], clips[2]]
    for rotation, same in ((False, True), (True, False)):
        network = make("sd3_mmdit", add_temp_pos_embed=rotation, use_temporal_causal=False)
        assert torch.allclose(network(clips, *rest), network(swapped, *rest)) is same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g[0].clear(), "no clips"),
        (lambda g: g[0].insert(0, torch.zeros(3, 4, 1, 3, 4)), "nearest size is 4x4"),
        (
            lambda g: g[0].insert(0, torch.zeros(2, 4, 1, 4, 4)),
            "clip 1 of 4 has a batch of 2 and the last clip one of 3",
        ),
        (lambda g: g[0].insert(0, torch.zeros(3, 16, 1, 4, 4)), "(batch, 4, frames, rows, columns)"),
        (lambda g: g.__setitem__(1, torch.zeros(2)), "timestep has the shape (2,)"),
        (lambda g: g.__setitem__(2, torch.zeros(3, 6, 768)), "expects text features 24 wide, got 768"),
        (lambda g: g.__setitem__(2, torch.zeros(1, 6, 24)), "text features for 1 rows and clips for 3"),
        (lambda g: g.__setitem__(3, torch.ones(3, 7)), "mask has the shape (3, 7)"),
        (lambda g: g.__setitem__(4, torch.zeros(3, 768)), "expects a pooled text vector 20 wide, got 768"),
    ],
)
def test_wrong_inputs_are_told_what_is_right(kind, change, message):
    given = inputs()
    change(given)
    with pytest.raises(ValueError) as error:
        make(kind)(*given)
    assert message in str(error.value)


def test_wrong_configs_are_told_what_is_right():
    with pytest.raises(ValueError, match="'num_layer'; did you mean 'num_layers'"):
        MiniFluxConfig.from_dict({"num_layer": 3})
    with pytest.raises(ValueError, match="attention_head_dim = 64"):
        MiniFluxConfig(axes_dims_rope=(16, 24, 26))
    assert MiniFluxConfig(num_layers=0).num_single_layers == 16
    with pytest.raises(ValueError, match="num_layers and num_single_layers are both 0"):
        MiniFluxConfig(num_layers=0, num_single_layers=0)
    with pytest.raises(ValueError, match="caption_projection_dim"):
        MMDiTConfig(num_attention_heads=12)
    with pytest.raises(ValueError, match="24x24 places"):
        make("sd3_mmdit")([torch.zeros(3, 4, 1, 2, 64, dtype=torch.float64)], *inputs()[1:])
