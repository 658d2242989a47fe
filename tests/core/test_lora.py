"""LoRA: nothing at first, the same in weights as beside them, and never in the wrong model."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.host.standalone import layers as standalone_layers
from pyramid_video.models import checkpoints, layers
from pyramid_video.models.checkpoint_files import CheckpointError
from pyramid_video.models.lora import TARGETS, LoRA, LoRASettings, load_lora, lora_state, merge_lora, save_lora
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.models.mmdit import MMDiTConfig, MMDiTTransformer
from safetensors.torch import load_file, save_file

MINIFLUX = MiniFluxConfig(
    in_channels=16,
    num_layers=1,
    num_single_layers=1,
    attention_head_dim=12,
    num_attention_heads=2,
    axes_dims_rope=(4, 4, 4),
    joint_attention_dim=8,
    pooled_projection_dim=6,
)
MMDIT = MMDiTConfig(
    in_channels=4,
    num_layers=2,
    attention_head_dim=12,
    num_attention_heads=2,
    joint_attention_dim=8,
    caption_projection_dim=24,
    pooled_projection_dim=6,
)


def make(kind: str = "miniflux"):
    network = MiniFluxTransformer(MINIFLUX) if kind == "miniflux" else MMDiTTransformer(MMDIT)
    generator = torch.Generator().manual_seed(0)
    layers.init_weights(network, generator)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return network.eval()


def ask(network):
    generator = torch.Generator().manual_seed(1)
    clip = torch.randn(2, 4, 2, 4, 4, generator=generator)
    text, pooled = torch.randn(2, 3, 8, generator=generator), torch.randn(2, 6, generator=generator)
    return network((clip,), torch.full((2,), 500.0), text, None, pooled)


def filled(network, targets="all", rank=2, alpha=3.0):
    """A LoRA that changes something."""
    lora = LoRA(network, LoRASettings(rank, alpha, targets), torch.Generator().manual_seed(2))
    for addition in lora.additions:
        torch.nn.init.normal_(addition.up, std=0.3, generator=torch.Generator().manual_seed(3))
    return lora


every_kind = pytest.mark.parametrize("kind", ["miniflux", "mmdit"])


@every_kind
@pytest.mark.parametrize("targets", TARGETS)
def test_a_new_lora_changes_nothing_and_learns_alone(kind, targets):
    network = make(kind)
    before = ask(network).detach()
    lora = LoRA(network, LoRASettings(2, 2.0, targets), torch.Generator().manual_seed(2))
    torch.testing.assert_close(ask(network), before, rtol=0, atol=2e-6)  # another memory layout rounds differently
    ask(network).square().mean().backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(addition.up.grad is not None and addition.up.grad.any() for addition in lora.additions)
    assert "transformer_blocks.1.attn.add_q_proj" not in lora.names, "the last MMDiT block asks nothing of the text"
    assert set(network.state_dict()) == set(make(kind).state_dict()), "the model's own file stays what it is"


@every_kind
def test_in_the_weights_it_does_what_it_does_beside_them(kind):
    network = make(kind).requires_grad_(False)
    plain = ask(network)
    lora = filled(network)
    beside = ask(network)
    parts = lora.parts(lora.state_dict())
    lora.detach()
    assert torch.equal(ask(network), plain) and (beside - plain).abs().max() > 0.01
    torch.testing.assert_close(ask(merge_lora(network, parts, 1.0)), beside, rtol=1e-4, atol=1e-5)
    assert torch.equal(ask(network), plain), "the model that is given stays as it is"


def test_gradient_checkpointing_gives_the_same_gradients():
    gradients = []
    for enabled in (False, True):
        network = make()
        lora = filled(network)
        network.enable_gradient_checkpointing(enabled)
        ask(network).square().mean().backward()
        gradients.append([parameter.grad for parameter in lora.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_strength_scales_what_is_added_and_0_adds_nothing():
    network = make()
    lora = filled(network)
    parts = lora.parts(lora.state_dict())
    lora.detach()
    weights = network.state_dict()
    none, half, whole = (merge_lora(network, parts, strength).state_dict() for strength in (0.0, 0.5, 1.0))
    assert all(torch.equal(none[key], weight) for key, weight in weights.items())
    changed = {f"{name}.weight" for name in parts}
    for key, weight in weights.items():
        torch.testing.assert_close(whole[key] - weight, 2 * (half[key] - weight), rtol=1e-4, atol=1e-6)
        assert torch.equal(whole[key], weight) != (key in changed)
        assert key in changed or whole[key].data_ptr() == weight.data_ptr(), "what does not change is shared"


def test_a_file_gives_back_what_was_saved(tmp_path):
    lora = filled(make(), rank=2, alpha=3.0)
    parts = lora.parts(lora.state_dict())
    path = save_lora(tmp_path / "lora.safetensors", lora_state(parts), {"kind": "lora"})
    loaded = load_lora(path)
    assert loaded.keys() == parts.keys()
    for name, (down, up, scale) in parts.items():
        assert torch.equal(loaded[name][0], down) and torch.equal(loaded[name][1], up)
        assert loaded[name][2] == pytest.approx(scale)
    keys = {
        f"diffusion_model.{name}{end}" for name in parts for end in (".lora_down.weight", ".lora_up.weight", ".alpha")
    }
    assert set(load_file(path)) == keys


@pytest.mark.parametrize(
    ("down", "up"), [("lora_A.weight", "lora_B.weight"), ("lora_A.default.weight", "lora_B.default.weight")]
)
def test_files_with_the_names_of_peft_are_read(tmp_path, down, up):
    layer = "transformer_blocks.0.attn.to_q"
    first, second = torch.ones(2, 24), torch.ones(24, 2)
    save_file({f"diffusion_model.{layer}.{down}": first, f"diffusion_model.{layer}.{up}": second}, tmp_path / "a.sft")
    ((name, (read_down, read_up, scale)),) = load_lora(tmp_path / "a.sft").items()
    assert name == layer and scale == 1 and torch.equal(read_down, first) and torch.equal(read_up, second)


@pytest.mark.parametrize(
    "kind", ("kohya", "base_model.model.", "unet.", "transformer.", "base_model.model.transformer.")
)
def test_files_of_other_trainers_change_the_same_weights(tmp_path, kind):
    network = make()
    lora = filled(network)
    parts = lora.parts(lora.state_dict())
    lora.detach()
    state = {}
    for key, tensor in lora_state(parts).items():
        layer, ending = key.removeprefix("diffusion_model.").split(".lora_" if ".lora_" in key else ".alpha")
        layer = f"lora_unet_{layer.replace('.', '_')}" if kind == "kohya" else kind + layer
        state[f"{layer}.lora_{ending}" if ending else f"{layer}.alpha"] = tensor
    save_file(state, tmp_path / "theirs.safetensors")
    wanted = merge_lora(network, parts, 0.7).state_dict()
    found = merge_lora(network, load_lora(tmp_path / "theirs.safetensors"), 0.7).state_dict()
    assert all(torch.equal(found[key], weight) for key, weight in wanted.items())


def test_weights_stored_in_float8_change_in_a_type_that_is_fine_enough(tmp_path):
    network = make()
    path = checkpoints.save(tmp_path / "model.safetensors", network, "miniflux", MINIFLUX)
    coarse, _ = checkpoints.load(path, ["miniflux"], standalone_layers, dtype=torch.float8_e4m3fn)
    lora = filled(network, "attention")
    parts = lora.parts(lora.state_dict())
    changed = merge_lora(coarse, parts, 0.01, torch.float32)
    for name, (down, up, scale) in parts.items():
        exact = coarse.get_submodule(name).weight.float() + 0.01 * scale * (up @ down)
        torch.testing.assert_close(changed.get_submodule(name).weight, exact.detach())
    assert changed.proj_out.weight.dtype == torch.float8_e4m3fn
    assert ask(changed).isfinite().all()


def test_the_same_seed_gives_the_same_lora():
    one, other = (filled(make()).state_dict() for _ in range(2))
    assert all(torch.equal(other[key], value) for key, value in one.items())


def damaged(path, change):
    lora = filled(make())
    state = lora_state(lora.parts(lora.state_dict()))
    change(state, next(iter(lora.names)))
    save_file(state, path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state, name: state.clear() or state.update(a=torch.zeros(1)), "is no LoRA of a model of this pack"),
        (lambda state, name: state.update({"other.weight": torch.zeros(1)}), "this one holds other.weight"),
        (lambda state, name: state.pop(f"diffusion_model.{name}.lora_up.weight"), "a damaged LoRA"),
        (
            lambda state, name: state.update(
                {f"diffusion_model.{name}.lora_up.weight": torch.full((24, 2), float("nan"))}
            ),
            "NaN or infinite",
        ),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path, change, words):
    with pytest.raises(CheckpointError, match=words):
        load_lora(damaged(tmp_path / "lora.safetensors", change))


def test_what_is_no_safetensors_file_is_told(tmp_path):
    path = tmp_path / "lora.safetensors"
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        load_lora(path)


def test_a_lora_of_another_model_is_told():
    lora = filled(make("mmdit"))
    with pytest.raises(ValueError, match="this LoRA is of another model: it changes transformer_blocks"):
        merge_lora(make("miniflux"), lora.parts(lora.state_dict()), 1.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [((0, 1.0, "all"), "rank 0"), ((4, 0.0, "all"), "alpha is 0.0"), ((4, 4.0, "some"), "unknown targets 'some'")],
)
def test_wrong_settings_are_told(values, words):
    with pytest.raises(ValueError, match=words):
        LoRASettings(*values)
