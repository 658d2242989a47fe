"""Checks of the text encoders in ComfyUI, run by `door.py`: core's own sets, and what stays of a shared CLIP."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

from door_tools import differs, refused, same

TEXTS = ("a tiger", "", "tiger " * 300)
WIDTHS = {
    "l": 24,
    "g": 40,
}  # of the CLIPs; core's SD3 set joins their tokens with T5's, which therefore keeps its width
T5_WIDTH = 4096
PIECES = 31  # of the tiny T5 tokenizer


def check_plain_text_encode_gives_our_numbers(door):
    tokens, extras = door.core.CLIPTextEncode().encode(door.clip, "a tiger")[0][0]
    same(door, tokens, door.positive[0][0])
    same(door, extras["pooled_output"], door.positive[0][1]["pooled_output"])


def check_cores_sd3_set_gives_the_numbers_of_transformers(door):
    """SD3's CLIP-L file has no projection: diffusers reads that as the identity, core as whatever the memory held."""
    nets = small_networks(door)
    clip = core_set(door, nets)
    projection = clip.cond_stage_model.clip_l.transformer.text_projection.weight
    for text in TEXTS:
        tokens, extras = door.host.encode_prompt(clip, text)[0]
        expected = by_the_book(door, nets, text)
        same(door, tokens, expected.tokens, 1e-4 * expected.tokens.abs().max().item())
        same(door, extras["pooled_output"], expected.pooled, 1e-5 * expected.pooled.abs().max().item())
        projection.fill_(door.torch.nan)  # seen in core after loading such a file


def check_cores_flux_set_gives_the_numbers_of_transformers(door):
    nets = small_networks(door)
    clip = core_set(door, nets, "flux")
    for text in TEXTS:
        tokens, extras = door.host.encode_prompt(clip, text)[0]
        expected = by_the_book(door, nets, text)
        same(door, tokens, expected.tokens, 1e-4 * expected.tokens.abs().max().item())
        same(door, extras["pooled_output"], expected.pooled[:, : WIDTHS["l"]], 1e-5)


def check_a_shared_clip_is_left_as_it_was_found(door):
    nets = small_networks(door)
    for kind in ("sd3", "flux"):
        clip = core_set(door, nets, kind)
        weights = {key: value.clone() for key, value in clip.get_sd().items()}
        options, others = options_of(clip), door.core.CLIPTextEncode().encode(clip, "a tiger")[0][0]
        door.host.encode_prompt(clip, "a tiger")
        assert options_of(clip) == options, (options_of(clip), options)
        assert clip.tokenizer_options == {} and clip.layer_idx is None
        for key, value in clip.get_sd().items():
            same(door, value, weights[key])
        same(door, door.core.CLIPTextEncode().encode(clip, "a tiger")[0][0][0], others[0])

        clip.cond_stage_model.t5xxl.encode_token_weights = None  # fails in the middle
        try:
            door.host.encode_prompt(clip, "a tiger")
        except TypeError:
            assert options_of(clip) == options
        else:
            raise AssertionError("nothing failed")


def check_hooks_of_a_clip_travel_with_its_prompt(door):
    clip = core_set(door, small_networks(door))
    clip.apply_hooks_to_conds = hooks = object()
    assert door.host.encode_prompt(clip, "a tiger")[0][1]["hooks"] is hooks


def check_hooks_with_a_schedule_encode_a_prompt_for_each_part_of_the_run(door):
    """As core's CLIPTextEncode does: the LoRA is off in the first half, and on in the second."""
    import comfy.hooks
    from comfy_extras.nodes_hooks import SetClipHooks

    lora = {}
    for key, weight in door.clip.cond_stage_model.state_dict().items():
        if key.endswith("qkv.weight"):
            layer = f"text_encoders.{key.removesuffix('.weight')}"
            lora[f"{layer}.lora_A.weight"] = door.torch.linspace(-1, 1, 2 * weight.shape[1]).view(2, -1)
            lora[f"{layer}.lora_B.weight"] = door.torch.linspace(-1, 1, 2 * len(weight)).view(-1, 2)
    hooks, keyframes = comfy.hooks.create_hook_lora(lora, 0.0, 1.0), comfy.hooks.HookKeyframeGroup()
    for strength, start in ((0.0, 0.0), (1.0, 0.5)):
        keyframes.add(comfy.hooks.HookKeyframe(strength=strength, start_percent=start))
    hooks.set_keyframes_on_hooks(keyframes)
    hooked = SetClipHooks().apply_hooks(door.clip, True, True, hooks)[0]
    ours, cores = door.host.encode_prompt(hooked, "a tiger"), door.core.CLIPTextEncode().encode(hooked, "a tiger")[0]
    assert [extras["clip_start_percent"] for _, extras in ours] == [0.0, 0.5]
    for (features, extras), (expected, others) in zip(ours, cores, strict=True):
        same(door, features, expected)
        assert extras.keys() == others.keys()
    same(door, ours[0][0], door.positive[0][0])
    assert differs(ours[1][0], door.positive[0][0])
    assert differs(door.sample(positive=ours), door.usual)


def check_sets_with_a_missing_part_are_refused(door):
    nets = small_networks(door)
    for part, name in (("l", "CLIP-L"), ("g", "CLIP-G"), ("t5xxl", "T5-XXL")):
        clip = core_set(door, {key: net for key, net in nets.items() if key != part})
        refused(lambda clip=clip: door.host.encode_prompt(clip, "a tiger"), name, "TripleCLIPLoader")


def check_official_text_without_projection_is_refused_for_sd3_only(door):
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as folder:
        for kind in ("miniflux", "sd3"):
            top = Path(shutil.copytree(door.official / f"pyramid-flow-{kind}", Path(folder) / kind))
            file = top / "text_encoder" / "model.safetensors"
            state = load_file(file)
            state.pop("text_projection.weight", None)
            save_file(state, file, metadata={"format": "pt"})
            if kind == "sd3":
                refused(lambda top=top: door.host.load_text_encoder(top), "text_encoder", "text_projection.weight")
            else:
                assert differs(*(door.host.encode_prompt(door.host.load_text_encoder(top), t)[0][0] for t in "ab"))


def small_networks(door) -> dict:
    """Random networks of transformers, by the names of core's tokens: the three that the text of SD3 needs."""
    import transformers

    door.torch.manual_seed(0)
    nets = {}
    for name, width in WIDTHS.items():
        config = transformers.CLIPTextConfig(**clip_sizes(name, width), bos_token_id=49406, projection_dim=width)
        nets[name] = transformers.CLIPTextModelWithProjection(config).eval()
    nets["l"].text_projection.weight.data.copy_(door.torch.eye(WIDTHS["l"]))
    nets["t5xxl"] = transformers.T5EncoderModel(transformers.T5Config(**T5_SIZES)).eval()
    return nets


def clip_sizes(name: str, width: int) -> dict:
    act = {"l": "quick_gelu", "g": "gelu"}[name]
    depth = {"num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 77}
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "hidden_act": act}
    return {**sizes, **depth, "vocab_size": 49408, "eos_token_id": 49407}


T5_SIZES = {
    "vocab_size": PIECES,
    "d_model": T5_WIDTH,
    "d_kv": 8,
    "d_ff": 16,
    "num_layers": 2,
    "num_heads": 2,
    "is_gated_act": True,
    "dense_act_fn": "gelu_pytorch_tanh",
    "feed_forward_proj": "gated-gelu",
}


def core_set(door, nets: dict, kind: str = "sd3"):
    """Core's CLIP of a kind with the parts of `nets`, small and with a small T5 tokenizer."""
    import comfy.sd
    import comfy.text_encoders.flux as flux
    import comfy.text_encoders.sd3_clip as sd3
    from pyramid_video.host.comfyui.official_text import host_key, read_weights

    target = SimpleNamespace(params={}, clip=flux.flux_clip(), tokenizer=flux.FluxTokenizer)
    if kind == "sd3":
        target.clip = sd3.sd3_clip(clip_l="l" in nets, clip_g="g" in nets, t5="t5xxl" in nets)
        target.tokenizer = sd3.SD3Tokenizer
    options = {f"clip_{name}_model_config": clip_sizes(name, width) for name, width in WIDTHS.items()}
    options |= {"t5xxl_model_config": T5_SIZES, "dtype": door.torch.float32}
    clip = comfy.sd.CLIP(target, model_options=options)
    clip.tokenizer.t5xxl = door.host.load_text_encoder(door.official / "pyramid-flow-sd3").tokenizer.tokenizers["t5xxl"]
    for name, net in nets.items():
        part = getattr(clip.cond_stage_model, host_key(name), None)
        if part is not None:
            with tempfile.TemporaryDirectory() as folder:
                net.save_pretrained(folder)
                missing, unexpected = part.load_sd(read_weights(Path(folder)))
            assert not missing and not unexpected, (missing, unexpected)
    return clip


def options_of(clip) -> list:
    """What may be set on each encoder of a CLIP."""
    return [(part.layer, part.layer_idx, part.return_projected_pooled) for part in clip.cond_stage_model.children()]


def by_the_book(door, nets: dict, text: str) -> SimpleNamespace:
    """T5's features of the first 128 tokens and the projected vectors of both CLIPs, by transformers alone."""
    import transformers

    t5 = transformers.T5TokenizerFast.from_pretrained(door.official / "pyramid-flow-sd3" / "tokenizer_3")
    ids = t5(text, truncation=True, max_length=128, return_tensors="pt").input_ids
    words = transformers.CLIPTokenizer.from_pretrained(Path(door.core.__file__).parent / "comfy" / "sd1_tokenizer")
    clip_ids = words(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    pooled = [nets[name](clip_ids).text_embeds for name in WIDTHS]
    return SimpleNamespace(tokens=nets["t5xxl"](ids).last_hidden_state, pooled=door.torch.cat(pooled, dim=-1))


def check_texts_that_were_kept_are_of_a_clip_with_its_lora_or_without(door):
    """A LoRA reaches the weights when the CLIP is loaded; the key of kept texts must say of it before."""
    key, weight = next(item for item in door.clip.cond_stage_model.state_dict().items() if item[1].ndim == 2)

    def digest(filled: float, strength: float) -> str:
        clip = door.clip.clone()
        clip.add_patches({key: ("diff", (door.torch.full_like(weight, filled),))}, strength)
        return door.host.fingerprint(clip)

    plain = door.host.fingerprint(door.clip)
    assert len({plain, digest(1.0, 1.0), digest(1.0, 0.5), digest(2.0, 1.0)}) == 4
    assert digest(1.0, 1.0) == digest(1.0, 1.0)
    assert door.host.fingerprint(door.clip.clone()) == plain
