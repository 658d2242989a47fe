"""Checks of Helios in ComfyUI, run by `door.py`: diffusers and transformers read the same official folder beside it."""

from __future__ import annotations

from types import SimpleNamespace

from door_tools import differs, refused, same

TOP = "Helios-Mid"
ROWS = 2


def load(door, weight_dtype="fp32"):
    return door.host.load_model(door.official / TOP / "transformer", weight_dtype)


def question(door):
    """What a sampler asks in the middle of a clip: one past, and a prompt for each of two rows."""
    from pyramid_video.models.helios import HistoryLevel, HistoryLevels

    torch = door.torch
    draw = lambda *shape, seed: torch.randn(*shape, generator=torch.Generator().manual_seed(seed))  # noqa: E731
    levels = {"long": (16, range(1, 17)), "mid": (2, (17, 18)), "short": (2, (0, 19))}
    return SimpleNamespace(
        x=draw(ROWS, 16, 9, 4, 4, seed=1),
        timestep=700.0,
        text=[draw(1, n, 24, seed=n) for n in (3, 5)],
        memory=HistoryLevels(
            tuple(range(20, 29)),
            **{name: HistoryLevel(draw(1, 16, n, 8, 8, seed=n), tuple(at)) for name, (n, at) in levels.items()},
        ),
    )


def answer(door, patcher, asked, options=()):
    """The velocity as the host gets it: prompts through `extra_conds`, the past in `transformer_options`."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([patcher])
    model = patcher.model
    conds = [model.extra_conds(cross_attn=tokens)["text"] for tokens in asked.text]
    text = conds[0].process_cond(batch_size=1).concat([conds[1].process_cond(batch_size=1)])
    pyramid = {"timestep": door.torch.tensor([asked.timestep]), "history": asked.memory}
    sigma = door.torch.full((ROWS,), 0.5)
    chosen = {"pyramid": pyramid, **dict(options)}
    clean = model.apply_model(asked.x, sigma, text=text, transformer_options=chosen)
    return (asked.x - clean) / 0.5


def expected(door, asked):
    """The same of diffusers' class."""
    from diffusers import HeliosTransformer3DModel

    torch = door.torch
    network = HeliosTransformer3DModel.from_pretrained(door.official / TOP / "transformer").eval()
    text = torch.cat([torch.nn.functional.pad(tokens, (0, 0, 0, 512 - tokens.shape[1])) for tokens in asked.text])
    past = {"indices_hidden_states": torch.tensor(asked.memory.frames)[None]}
    for name, level, _ in asked.memory.levels:
        past[f"latents_history_{name}"] = level.latents.expand(ROWS, -1, -1, -1, -1)
        past[f"indices_latents_history_{name}"] = torch.tensor(level.frames)[None]
    return network(asked.x, torch.full((ROWS,), asked.timestep), text, **past, return_dict=False)[0]


def check_helios_gives_the_numbers_of_diffusers(door):
    patcher, asked = load(door), question(door)
    info = door.host.model_info(patcher)
    assert (info.kind, info.family.variant, info.pooled_width) == ("helios", "mid", 0), info
    same(door, answer(door, patcher, asked), expected(door, asked), 1e-4)


def check_helios_loaded_in_parts_gives_the_same(door):
    patcher, asked = load(door), question(door)
    whole = answer(door, patcher, asked)
    patcher.detach()
    patcher.load(door.torch.device("cpu"), lowvram_model_memory=patcher.model_size() // 3)
    assert patcher.model.model_lowvram
    same(door, answer(door, patcher, asked), whole, 1e-5)


def check_helios_in_fp8_is_computed_in_bf16(door):
    torch = door.torch
    patcher, asked = load(door, "fp8_e4m3fn"), question(door)
    network = patcher.model.diffusion_model
    assert network.blocks[0].ffn.net["2"].weight.dtype == torch.float8_e4m3fn
    assert network.blocks[0].scale_shift_table.dtype == network.blocks[0].norm2.weight.dtype == torch.float32
    exact = expected(door, asked)
    assert (answer(door, patcher, asked) - exact).norm() < 0.2 * exact.norm()


def check_a_lora_changes_helios(door):
    import comfy.sd

    torch = door.torch
    patcher, asked = load(door), question(door)
    lora = {}
    for key, weight in patcher.model.diffusion_model.state_dict().items():
        if ".attn" in key and key.endswith("to_q.weight") or key.endswith("net.2.weight"):
            name = f"diffusion_model.{key.removesuffix('.weight')}"
            lora[f"{name}.lora_A.weight"] = torch.full((2, weight.shape[1]), 0.2)
            lora[f"{name}.lora_B.weight"] = torch.linspace(-1, 1, 2 * weight.shape[0]).view(-1, 2)
    patched, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)
    assert len(patched.patches) == len(lora) // 2 == 6
    before = answer(door, patcher, asked)
    assert differs(answer(door, patched, asked), before)
    patched.detach()
    same(door, answer(door, patcher, asked), before)


def check_a_saved_helios_loads_again(door):
    import comfy_extras.nodes_model_merging as saving

    patcher, asked = load(door), question(door)
    saving.ModelSave().save(patcher, "diffusion_models/helios")
    again = door.host.load_model(door.host.find_model("diffusion_models", "helios_00001_.safetensors"), "fp32")
    assert door.host.model_info(again).family.variant == "mid"
    same(door, answer(door, again, asked), answer(door, patcher, asked), 1e-5)


def check_helios_does_not_run_in_a_ksampler(door):
    prompt = [[door.torch.zeros(1, 3, 24), {}]]
    latent = {"samples": door.torch.zeros(1, 16, 9, 8, 8)}
    refused(
        lambda: door.core.KSampler().sample(load(door), 1, 1, 1.0, "euler", "simple", prompt, prompt, latent),
        "Sample pyramid",
    )
    refused(lambda: load(door).model.extra_conds(cross_attn=door.torch.zeros(1, 3, 4)), "text 24 wide")


def check_umt5_gives_the_numbers_of_transformers(door):
    """Core's encode block and ours; what the model gets of either is what the official pipeline hands over."""
    import transformers

    top, torch = door.official / TOP, door.torch
    clip = door.host.load_text_encoder(top)
    tokenizer = transformers.AutoTokenizer.from_pretrained(top / "tokenizer")
    network = transformers.UMT5EncoderModel.from_pretrained(top / "text_encoder").eval()
    model = load(door).model
    for text in ("a tiger", "", "a red ball and a tiger in the snow", "tiger " * 700):
        given = tokenizer(text, padding="max_length", max_length=512, truncation=True, return_tensors="pt")
        features = network(given.input_ids, given.attention_mask).last_hidden_state
        features = features * given.attention_mask[..., None]
        for conditioning in (door.host.encode_prompt(clip, text), door.core.CLIPTextEncode().encode(clip, text)[0]):
            tokens, extras = conditioning[0]
            if len(text) < 1000 or conditioning[0][0].shape[1] == 512:  # core does not cut what is too long
                read = model.extra_conds(cross_attn=tokens, **extras)["text"].cond
                assert read.shape == (1, 512, 24)
                same(door, read, features, 1e-4 * features.abs().max().item())
    joined = door.core.ConditioningConcat().concat(*[door.core.CLIPTextEncode().encode(clip, "tiger")[0]] * 2)[0]
    read = model.extra_conds(cross_attn=joined[0][0])["text"].cond
    words = int(read.any(dim=-1).sum())
    assert read.shape == (1, 512, 24) and words == 2 * int(features_of(door, clip, "tiger").any(dim=-1).sum())
    assert not torch.isnan(read).any()


def features_of(door, clip, text):
    return door.host.encode_prompt(clip, text)[0][0]


def check_the_official_vae_gives_the_numbers_of_diffusers(door):
    import comfy.utils
    from diffusers import AutoencoderKLWan

    torch = door.torch
    vae = door.host.load_vae(door.official / TOP / "vae")
    official = AutoencoderKLWan.from_pretrained(door.official / TOP / "vae").to(vae.vae_dtype).eval()
    latent = torch.randn(1, 16, 18, 4, 4, generator=torch.Generator().manual_seed(0))
    pictures = torch.cat([official.decode(unit.to(vae.vae_dtype)).sample for unit in latent.split(9, dim=2)], dim=2)
    expected = (pictures[0].float() / 2 + 0.5).clamp(0, 1).movedim(0, -1)
    same(door, door.host.decode(vae, latent, chunk=2), expected, 1e-5)
    same(door, door.core.VAEDecode().decode(vae, {"samples": latent})[0], expected, 1e-5)
    video = torch.rand(40, 32, 36, 3, generator=torch.Generator().manual_seed(0))
    encoded = door.core.VAEEncode().encode(vae, video)[0]["samples"]
    wanted = [
        official.encode((unit[:, :, 2:-2].movedim(-1, 0)[None] * 2 - 1).to(vae.vae_dtype)).latent_dist.mode()
        for unit in (video[:33], video[33:38])
    ]
    same(door, encoded, torch.cat(wanted, dim=2).float(), 1e-5)
    assert door.core.VAEDecodeTiled().decode(vae, {"samples": latent}, 64, 16, 8, 4)[0].shape == (66, 32, 32, 3)
    path = door.path["vae"].parent / "saved_wan.safetensors"
    comfy.utils.save_torch_file({key: value.contiguous() for key, value in vae.get_sd().items()}, path)
    same(door, door.host.decode(door.host.load_vae(path), latent), expected, 1e-5)


def check_cores_wan_vae_works_unit_by_unit(door):
    import comfy.ldm.wan.vae
    import comfy.sd

    torch = door.torch
    sizes = {"dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
    network = comfy.ldm.wan.vae.WanVAE(**sizes, temperal_downsample=[False, True, True], dropout=0.0)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 100
        torch.nn.init.normal_(parameter, std=fan**-0.5, generator=generator)
    vae = comfy.sd.VAE(sd=network.state_dict())
    info = door.host.vae_info(vae)
    assert (info.time_compression, info.space_compression, info.latent_channels, info.unit) == (4, 8, 16, 9)
    latent = torch.randn(1, 16, 10, 2, 2, generator=generator)
    pictures = door.host.decode(vae, latent)
    assert pictures.shape == (34, 16, 16, 3)
    same(door, pictures, torch.cat([vae.decode(unit) for unit in (latent[:, :, :9], latent[:, :, 9:])], dim=1)[0], 1e-5)
    assert differs(
        pictures[33:], vae.decode(latent)[0, 33:34]
    )  # the host's own block takes the tenth for a later frame
    encoded = door.host.encode(vae, pictures)
    assert encoded.shape == latent.shape
    same(door, encoded[:, :, 9:], vae.encode(pictures[33:]), 1e-5)
    assert door.host.decode(vae, latent, tile=64).shape == pictures.shape
    assert door.host.fingerprint(vae)


def check_the_wire_is_in_the_scale_of_the_vae(door):
    """As core's own Wan model has it, so that latents of both fit both."""
    import comfy.latent_formats

    torch = door.torch
    patcher, theirs = load(door), comfy.latent_formats.Wan21()
    ours = patcher.model.latent_format
    latent = torch.randn(1, 16, 9, 2, 2, generator=torch.Generator().manual_seed(0))
    same(door, ours.process_in(latent), theirs.process_in(latent), 1e-5)
    same(door, ours.process_out(latent), theirs.process_out(latent), 1e-5)
    assert ours.latent_rgb_factors == theirs.latent_rgb_factors
    assert door.host.model_info(patcher).latent_format == ours.ours  # blocks show the colours of previews


def check_a_helios_clip_is_the_one_made_without_the_host(door):
    """Two units of the model's own ladder, guided, and loaded in parts."""
    from pyramid_video.host.standalone.host import StandaloneHost
    from pyramid_video.samplers.guidance import PyramidGuidance

    torch, top = door.torch, door.official / TOP
    alone = StandaloneHost(models=top, device="cpu", silent=True)
    latent = {"samples": torch.zeros(1, 16, 18, 8, 8)}
    guidance = PyramidGuidance(5.0, 5.0)

    def clip(host, model):
        text = host.load_text_encoder(top)
        prompts = [host.encode_prompt(text, words) for words in ("a tiger in the snow", "")]
        guider = host.make_guider(model, *prompts, guidance)
        return host.sample(guider, host.make_sampler(None, None), latent, 3)["samples"]

    patcher = load(door)
    patcher.load(torch.device("cpu"), lowvram_model_memory=patcher.model_size() // 3)
    made, expected = clip(door.host, patcher), clip(alone, alone.load_model(top / "transformer", "fp32"))
    assert made.shape == (1, 16, 18, 8, 8) and made.std() > 0.1
    same(door, made, expected, 1e-3 * expected.abs().max().item())
