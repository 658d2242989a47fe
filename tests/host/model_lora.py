"""What a LoRA for any model promises, asked of tiny models of ComfyUI's own classes without a server.

Run by `test_lora_for_any_model.py` with ComfyUI's Python: `model_lora.py COMFYUI ROOT BASE`; prints one JSON object
{check: error or null}.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import traceback
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from spectral_case import VIDEOS_FROM_PICTURES, Case, open_comfyui

KINDS = ("wan2.1 t2v", "wan2.1 i2v", "wan2.1 vace", "wan2.2 i2v", "wan2.2 5B", "ltx", "ltx2", "hunyuan1.5")
KINDS = (*KINDS, "minimax h3", "flux", "sd3", "sdxl")
MORE = ("qwen-image", "z-image", "flux.2", "chroma", "hunyuan video", "kandinsky 5", "mochi", "cosmos predict2 t2i")
MORE = (*MORE, "cosmos predict2 video", "sd1.5", "hidream")
UNFILLED = ("hunyuan video", "kandinsky 5", "mochi", "wan2.1 vace", "cosmos", "pixart")  # patches are taken whole only
IN_PLACE = ("wan2.2 5B", "ltx", "ltx2")
ONE_FRAME = ("flux", "qwen-image", "cosmos predict2 t2i")
STEPS, RATE = 3, 1e-2
NUDGE = 2e-2  # along a direction, for a difference quotient in float32


class Lesson:
    """A model with one clip to learn from, inside ComfyUI and in its inference mode."""

    def __init__(self, case: Case, folder: Path) -> None:
        from pyramid_video.host.comfyui.model_training import ModelTraining
        from pyramid_video.training.data.latent_cache import LatentSet, Row
        from pyramid_video.training.trainers.model_lora import ModelClips

        self.case, self.torch, self.kind, self.folder = case, case.torch, case.kind, folder
        models = case.inside.models
        self.host, self.model = ModelTraining(), case.model
        channels, *frames = models.KINDS[self.kind].latent
        with self.torch.inference_mode(False):
            latent = models.noise(channels, *(frames or (1,)), 12, 16, seed=7)
            texts = dict.fromkeys(("", "a ball"), [[row.clone() for row in case.positive[0][:1]] + [self.extras()]])
        self.clips = ModelClips(LatentSet((Row(latent, ("a ball",) * 4, ""),), "key"), texts, "key")

    def texts(self) -> list:
        return [[self.case.positive[0][0].clone(), self.extras()]]

    def extras(self) -> dict:
        found = self.case.positive[0][1].items()
        return {key: value.clone() if hasattr(value, "clone") else value for key, value in found}

    def open(self, learn: Callable) -> None:
        with self.torch.inference_mode(False):
            self.host.train(self.host.whole(self.model), self.clips.largest, self.clips.texts[""], learn)

    def training(self, name: str, steps: int = STEPS, **more):
        from pyramid_video.models.lora import LoRASettings
        from pyramid_video.training.run.train_settings import TrainSettings
        from pyramid_video.training.trainers.model import TrainingPlan
        from pyramid_video.training.trainers.model_lora import ModelLoRATraining

        settings = {"learning_rate": RATE, "warmup_steps": 1, "ema_decay": 0.5, "precision": "no", **more}
        plan = TrainingPlan(TrainSettings(steps, **settings), 1, 0.5)
        return ModelLoRATraining(LoRASettings(4, 4.0, "all"), self.clips, self.folder / name, plan)

    def learn(self, training, until: int | None = None):
        """The trained LoRA of a run, after the host has lent the model for a stretch of it."""

        def stretch(model):
            with training.attached(model) as (run, step):
                run.train(step, until)

        self.open(stretch)
        return training.trained

    def train(self, name: str, steps: int = STEPS, stop_at: int | None = None, **more):
        return self.learn(self.training(name, steps, **more), stop_at)

    def outputs(self, work: Callable | None = None, model=None):
        """What a short run of the plain sampler makes."""
        case = self.case
        return case.sample(case.core(), guider=case.guider(model or self.model))


def check_the_gradient_is_that_of_difference_quotients(lesson):
    """Of all additions together, along a random direction: what the host computes in place has not spoiled it."""
    from pyramid_video.models.lora import LoRASettings
    from pyramid_video.training.trainers.model_lora import ModelLoRA, error, learning_layers

    torch = lesson.torch

    def learn(model):
        model.network.requires_grad_(False)
        layers = learning_layers(model, "all", lesson.clips)
        lora = ModelLoRA(model.network, LoRASettings(2, 2.0, "all"), torch.Generator().manual_seed(1), layers)
        generator = torch.Generator().manual_seed(2)
        for parameter in lora.parameters():
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
        ways = [torch.randn(each.shape, generator=generator) for each in lora.parameters()]

        def loss():
            (clip,) = lesson.clips.draw(torch.Generator().manual_seed(3), 1, 0.0)
            return error(model, clip, torch.Generator().manual_seed(4))

        def at(step):
            with torch.no_grad():
                for parameter, way in zip(lora.parameters(), ways, strict=True):
                    parameter += step * way
                value = float(loss())
                for parameter, way in zip(lora.parameters(), ways, strict=True):
                    parameter -= step * way
            return value

        loss().backward()
        slope = sum(float((each.grad * way).sum()) for each, way in zip(lora.parameters(), ways, strict=True))
        size = NUDGE / sum(float(way.square().sum()) for way in ways) ** 0.5
        quotients = [(at(size * n) - at(-size * n)) / (2 * size * n) for n in (1, 2)]
        wanted = (4 * quotients[0] - quotients[1]) / 3  # without the third order
        lora.detach()
        assert abs(slope - wanted) < 0.02 * abs(wanted) + 1e-3, (slope, quotients)

    lesson.open(learn)


def check_gradient_checkpoints_change_no_number(lesson):
    torch = lesson.torch
    plain, saving = (
        lesson.train(name, gradient_checkpointing=saves).parts() for name, saves in (("plain", False), ("saves", True))
    )
    assert plain.keys() == saving.keys() and all(bool(up.any()) for _, up, _ in plain.values())
    for name, (down, up, _) in plain.items():
        torch.testing.assert_close(saving[name][0], down, rtol=0, atol=1e-5)
        torch.testing.assert_close(saving[name][1], up, rtol=0, atol=1e-5)


def check_a_run_goes_on_to_the_same_weights(lesson):
    straight = lesson.train("straight").parts()
    lesson.train("broken", stop_at=1)
    for name, (down, up, _) in lesson.train("broken").parts().items():
        assert lesson.torch.equal(down, straight[name][0]) and lesson.torch.equal(up, straight[name][1]), name


def check_the_model_is_given_back_as_it_was(lesson):
    before = lesson.outputs()
    weights = {name: id(each) for name, each in lesson.model.model.diffusion_model.named_parameters()}
    lesson.train("given", gradient_checkpointing=True)
    lesson.case.same(lesson.outputs(), before, 0)
    assert weights == {name: id(each) for name, each in lesson.model.model.diffusion_model.named_parameters()}
    assert "optimized_attention_override" not in lesson.model.model_options.get("transformer_options", {})


def check_the_host_loads_what_was_saved(lesson):
    """All layers, and the model with the file in its weights is the model that was trained."""
    comfy, torch = lesson.case.inside.comfy, lesson.torch
    trained = lesson.train("saved", ema_decay=0, learning_rate=3e-2)
    path = trained.save(lesson.folder / "saved.safetensors")
    loaded, _ = comfy.sd.load_lora_for_models(lesson.model, None, comfy.utils.load_torch_file(str(path)), 1.0, 0)
    assert len(loaded.patches) == len(trained.parts())
    network = lesson.model.model.diffusion_model
    handles = []
    with torch.inference_mode(False):
        for name, (down, up, scale) in trained.parts().items():
            added = scale * up @ down
            handles.append(
                network.get_submodule(name).register_forward_hook(
                    lambda _, inputs, output, added=added: output + inputs[0] @ added.T
                )
            )
    try:
        wanted = lesson.outputs()
    finally:
        for handle in handles:
            handle.remove()
    lesson.case.same(lesson.outputs(model=loaded), wanted, 1e-3)


def check_clips_between_two_stretches_are_those_of_core_and_change_nothing(lesson):
    """What 'Load LoRA' and 'KSampler' make of the file so far; the run goes on as if nobody had looked."""
    import comfy.sample
    from pyramid_video.host.comfyui.any_model import nested
    from pyramid_video.host.comfyui.model_in_training import empty_streams
    from pyramid_video.models.lora import lora_state
    from pyramid_video.models.model_in_training import ModelClip

    comfy, torch = lesson.case.inside.comfy, lesson.torch
    latent, prompt = lesson.clips.latents.rows[0].latent[None], lesson.clips.texts["a ball"]
    shown = lesson.kind in VIDEOS_FROM_PICTURES
    with torch.inference_mode(False):
        start = torch.rand(latent.shape) if shown else None
        other = [[row[0] + 0.5, *row[1:]] for row in prompt]
    training = lesson.training("looked", ema_decay=0, learning_rate=3e-2)
    trained = lesson.learn(training, until=2)
    with torch.inference_mode(False):
        lora = lora_state(trained.parts())
        _, made = lesson.host.sample(lesson.model, lora, 2 * [ModelClip(latent, prompt, start)], other, 2.0, 3, 4)
    loaded, _ = comfy.sd.load_lora_for_models(lesson.model, None, dict(lora), 1.0, 0)
    extras = {}
    if shown:
        mask = torch.ones(1, 1, *latent.shape[2:])
        mask[:, :, :1] = 0
        extras = {"concat_latent_image": start, "concat_mask": mask}
    conds = [[[row[0], {**row[1], **extras}] for row in each] for each in (prompt, other)]
    empty = nested(empty_streams(lesson.model, latent.shape))
    noise = comfy.sample.prepare_noise(empty, 5)
    wanted = comfy.sample.sample(loaded, noise, 3, 2.0, "euler", "simple", *conds, empty, seed=5)
    wanted = wanted.unbind()[0] if getattr(wanted, "is_nested", False) else wanted
    assert made.shape == latent.shape and made.dtype == torch.float32 and not made.is_inference()
    torch.testing.assert_close(made, wanted.cpu().float().reshape(latent.shape), rtol=0, atol=1e-6)
    with torch.inference_mode(False):
        (plain,) = lesson.host.sample(lesson.model, {}, [ModelClip(latent, prompt, start)], other, 2.0, 3, 5)
    assert not torch.allclose(made, plain, atol=1e-4)
    straight = lesson.train("straight", ema_decay=0, learning_rate=3e-2).parts()
    for name, (_, up, _) in lesson.learn(training).parts().items():
        assert torch.equal(up, straight[name][1]), name


def check_pictures_come_back_from_both_kinds_of_vae(lesson):
    torch, seen = lesson.torch, []

    def decode(latent):
        seen.append(latent.shape)
        return torch.rand(*((1, 5) if latent.ndim == 5 else (1,)), 64, 64, 3)

    for dimensions, frames in ((3, 5), (2, 1)):
        vae = SimpleNamespace(decode=decode, latent_dim=dimensions)
        with torch.inference_mode(False):
            pictures = lesson.host.decode(vae, torch.zeros(1, 4, 1, 8, 8))
        assert pictures.shape == (frames, 64, 64, 3) and not pictures.is_inference()
    assert [len(shape) for shape in seen] == [5, 4]


def check_one_clip_is_learned(lesson):
    from pyramid_video.training.trainers.model_lora import error

    found = []

    def measure(model):
        (clip,) = lesson.clips.draw(lesson.torch.Generator().manual_seed(3), 1, 0.0)
        with lesson.torch.no_grad():
            errors = [float(error(model, clip, lesson.torch.Generator().manual_seed(seed))) for seed in range(16)]
        found.append(sum(errors))

    lesson.open(measure)
    trained = lesson.train("learned", steps=60, learning_rate=3e-2, ema_decay=0)
    comfy = lesson.case.inside.comfy
    path = trained.save(lesson.folder / "learned.safetensors")
    plain = lesson.model
    lesson.model, _ = comfy.sd.load_lora_for_models(plain, None, comfy.utils.load_torch_file(str(path)), 1.0, 0)
    lesson.open(measure)
    lesson.model = plain
    assert found[1] < 0.8 * found[0], found


def check_start_pictures_are_those_of_core(lesson):
    """As WanImageToVideo and HunyuanVideo15ImageToVideo make them; a model that takes none says so."""
    import tiny_core_parts
    from pyramid_video.models.model_in_training import ModelClip

    torch = lesson.torch
    pictures, vae = torch.rand(9, 96, 128, 3), tiny_core_parts.TinyVAE(lesson.kind)
    if lesson.kind not in VIDEOS_FROM_PICTURES:

        def wants_something_else(**given):
            raise AttributeError("'NoneType' object has no attribute 'shape'")

        usual = lesson.model.model.concat_cond
        for concat_cond in (usual, wants_something_else, lambda **given: given["concat_mask"]):
            lesson.model.model.concat_cond = concat_cond
            try:
                lesson.host.start_latent(vae, pictures, lesson.model)
                raise AssertionError("a start picture was taken")
            except ValueError as error:
                assert "turn first_frames off" in str(error)
            finally:
                del lesson.model.model.concat_cond
        return
    start = lesson.host.start_latent(vae, pictures, lesson.model)
    if lesson.kind == "hunyuan1.5":
        assert torch.equal(start[:, :, :1], vae.encode(pictures[:1])) and not start[:, :, 1:].any()
    else:
        gray = torch.full_like(pictures, 0.5)
        gray[:1] = pictures[:1]
        assert torch.equal(start, vae.encode(gray))
    latent = lesson.clips.latents.rows[0].latent[None]
    start = torch.rand(latent.shape)
    mask = torch.ones(1, 1, *latent.shape[2:])
    mask[:, :, :1] = 0
    noise, device = torch.zeros_like(latent), torch.device("cpu")
    wanted = lesson.model.model.concat_cond(
        noise=noise, device=device, concat_latent_image=start, concat_mask=mask, concat_image=None
    )
    seen = []
    handle = lesson.model.model.diffusion_model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        lesson.open(lambda model: model.loss(ModelClip(latent, lesson.clips.texts[""], start), 0.5, torch.zeros))
    finally:
        handle.remove()
    torch.testing.assert_close(seen[0][:, latent.shape[1] :], wanted)


def check_a_start_in_place_is_that_of_core(lesson):
    """The network is shown what core's sampler shows it of a latent with a mask, and learns the rest; so are clips."""
    import comfy.sample
    from pyramid_video.host.comfyui.any_model import nested, noise_rows, tensors_of
    from pyramid_video.host.comfyui.model_in_training import empty_streams
    from pyramid_video.models.model_in_training import ModelClip

    torch, comfy = lesson.torch, lesson.case.inside.comfy
    latent, prompt = lesson.clips.latents.rows[0].latent[None], lesson.clips.texts["a ball"]
    noise = noise_rows(nested(empty_streams(lesson.model, latent.shape)), 3)
    clip = ModelClip(latent, prompt, starts_in_place=True)
    mask = torch.ones(1, 1, *latent.shape[2:])
    mask[:, :, :1] = 0
    losses = []

    def learn(model):
        drawn = iter(tensors_of(noise))
        losses.append(model.loss(clip, 0.5, lambda shape: next(drawn).clone().reshape(shape)))

    (shown,) = lesson.case.seen(lambda: lesson.open(learn))
    picture, *others = empty_streams(lesson.model, latent.shape)
    guider = comfy.samplers.CFGGuider(lesson.model)
    guider.set_conds(prompt, prompt)
    guider.set_cfg(1.0)
    sigma = float(lesson.model.get_model_object("model_sampling").percent_to_sigma(0.5))
    sampled = nested([latent.clone(), *others]), comfy.samplers.sampler_object("euler"), torch.tensor([sigma, 0.0])
    made = []
    (wanted,) = lesson.case.seen(lambda: made.append(guider.sample(noise, *sampled, denoise_mask=mask)))
    assert shown.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(shown[name], value, rtol=0, atol=1e-5, msg=lambda text: f"{name}: {text}")  # noqa: B023
    process = lesson.model.model.process_latent_in
    estimate = tensors_of(made[0])[0].float()
    torch.testing.assert_close(estimate[:, :, :1], latent[:, :, :1], rtol=0, atol=1e-5)
    error = (process(estimate) - process(latent))[:, :, 1:].square().mean() / sigma**2
    torch.testing.assert_close(losses[0].detach(), error, rtol=1e-3, atol=1e-5)

    with torch.inference_mode(False):
        (clip_made,) = lesson.host.sample(lesson.model, {}, [clip], prompt, 1.0, 3, 5)
    started = picture.clone()
    started[:, :, :1] = latent[:, :, :1]
    empty = nested([started, *others])
    fresh = comfy.sample.prepare_noise(empty, 5)
    core = comfy.sample.sample(
        lesson.model, fresh, 3, 1.0, "euler", "simple", prompt, prompt, empty, noise_mask=mask, seed=5
    )
    torch.testing.assert_close(clip_made, tensors_of(core)[0].cpu().float(), rtol=0, atol=1e-6)
    torch.testing.assert_close(clip_made[:, :, :1], latent[:, :, :1], rtol=0, atol=1e-5)

    lesson.clips = replace(lesson.clips, starts_in_place=True)
    check_the_gradient_is_that_of_difference_quotients(lesson)
    check_gradient_checkpoints_change_no_number(lesson)


def check_it_is_known_who_starts_in_place(lesson):
    assert lesson.host.starts_in_place(lesson.model) == (lesson.kind in IN_PLACE)


def check_what_does_not_fit_is_refused(lesson):
    """Latents of another VAE, and videos for a model of pictures: with the first clip, not in the middle of a run."""
    torch, of_pictures = lesson.torch, lesson.kind in ONE_FRAME
    channels, *frames = lesson.case.inside.models.KINDS[lesson.kind].latent

    def encode(pictures, given=channels):
        many = (1, given, 1 + len(pictures) // 4) if frames else (len(pictures), given)
        vae = SimpleNamespace(encode=lambda pictures: torch.zeros(*many, 8, 8))
        return lesson.host.encode(vae, pictures, lesson.model)

    one, five = torch.zeros(1, 64, 64, 3), torch.zeros(5, 64, 64, 3)
    assert encode(one if of_pictures else five).shape == (1, channels, 1 if of_pictures else 2, 8, 8)
    wanted = f"makes latents of {channels + 1} channels, and .* reads {channels}"
    refused = [(lambda: encode(one, channels + 1), wanted)]
    if of_pictures:
        wanted = f"makes pictures, and the clips have {2 if frames else 5} frames as latents: choose 1 frame"
        refused.append((lambda: encode(five), wanted))
    for work, sentence in refused:
        try:
            work()
            raise AssertionError("it was taken")
        except ValueError as error:
            assert re.search(sentence, str(error)), error


def check_sizes_are_refused_that_the_network_cannot_take_and_no_others(lesson):
    """Latents of odd rows and columns: what is refused ends in an error of the network itself, what is not is read."""
    from pyramid_video.models.model_in_training import ModelClip

    torch, cell = lesson.torch, 8
    channels, *frames = lesson.case.inside.models.KINDS[lesson.kind].latent
    vae = SimpleNamespace(spacial_compression_encode=lambda: cell)
    texts = [[row[0], {key: each for key, each in row[1].items() if "concat" not in key}] for row in lesson.texts()]
    seen = set()
    for rows, columns in ((36, 40), (37, 40), (36, 41), (38, 42)):
        said, losses = "", []
        try:
            lesson.host.check_sizes(vae, lesson.model, [(512, 512), (cell * rows + 7, cell * columns)])
        except ValueError as error:
            said = str(error)

        def learn(model, size=(rows, columns), losses=losses):
            latent = lesson.case.inside.models.noise(1, channels, *(frames or (1,)), *size)
            losses.append(float(model.loss(ModelClip(latent, texts), 0.5, torch.zeros)))

        with torch.inference_mode(False):
            whole = lesson.host.whole(lesson.model)
            try:
                lesson.host.train(whole, (channels, *(frames or (1,)), rows, columns), texts, learn)
                taken = True
            except (RuntimeError, AssertionError):
                taken = False
        assert taken == (said == ""), (rows, columns, taken, said)
        assert not taken or torch.isfinite(torch.tensor(losses)).all()
        assert taken or f"clips of {cell * columns}x{cell * rows + 7} pixels" in said and "set multiple to 16" in said
        seen.add((rows, columns) if taken else None)
    assert {(36, 40), (38, 42)} <= seen
    assert lesson.kind not in UNFILLED or seen == {(36, 40), (38, 42), None}


def check_what_does_not_tell_what_it_predicts_is_refused(lesson):
    try:
        lesson.host.check(lesson.model)
        raise AssertionError("it was taken")
    except ValueError as error:
        assert "no LoRA can be trained for it here" in str(error), error


def check_errors_are_those_of_what_is_predicted(lesson):
    """Of every kind of prediction that this host knows, at every level."""
    import comfy.model_sampling as kinds
    from pyramid_video.host.comfyui.model_in_training import error_scale

    torch = lesson.torch
    generator, found = torch.Generator().manual_seed(0), 0
    for name in ("CONST", "EPS", "V_PREDICTION", "EDM", "COSMOS_RFLOW"):
        if not hasattr(kinds, name):
            continue
        sampling, found = getattr(kinds, name)(), found + 1
        sampling.sigma_data = 0.5 if name == "EDM" else 1.0
        for level in (0.01, 0.3, 0.9, 0.99):
            sigma = torch.tensor([level])
            state, one, other = torch.randn(3, 1, 4, 2, 3, 3, generator=generator)
            clean = [sampling.calculate_denoised(sigma, each, state) for each in (one, other)]
            scaled = error_scale(sampling, sigma) * (clean[0] - clean[1]).square()
            torch.testing.assert_close(scaled, (one - other).square(), rtol=1e-3, atol=1e-4)
    assert found >= 4


def check_guidance_on_the_wire_teaches_nothing(lesson):
    plain = lesson.train("plain").parts()
    model = lesson.model.clone()
    model.set_model_sampler_post_cfg_function(lambda args: 1.5 * args["denoised"])
    lesson.model = model
    for name, (_, up, _) in lesson.train("guided").parts().items():
        assert lesson.torch.equal(up, plain[name][1]), name


def check_caches_on_the_wire_teach_what_the_model_teaches(lesson):
    """They keep work from step to step of a sampler, and steps of a training have nothing in common."""
    from comfy_extras import nodes_easycache

    asked = []

    def early_steps_count(call, args):
        """Skips what it has seen, as other packs do, save in the first tenth of the steps that it is told of."""
        network, told = lesson.model.model.diffusion_model, args["c"]["transformer_options"]["sample_sigmas"]
        step = int((told == args["timestep"][0]).nonzero()[0])
        asked.append((step, hasattr(network, "kept_output")))
        if step / (len(told) - 2) < 0.1:
            network.kept_output = call(args["input"], args["timestep"], **args["c"])
        return network.kept_output

    plain, usual = lesson.train("plain").parts(), lesson.model
    cached = usual.clone()
    cached.set_model_unet_function_wrapper(early_steps_count)
    makers = (nodes_easycache.EasyCacheNode, nodes_easycache.LazyCacheNode)
    models = [cached, *(each.execute(usual, 1e6, 0.0, 1.0, False).result[0] for each in makers)]
    for number, lesson.model in enumerate(models):
        for name, (_, up, _) in lesson.train(f"cached {number}").parts().items():
            assert lesson.torch.equal(up, plain[name][1]), (number, name)
    assert set(asked) == {(0, False)} and not hasattr(usual.model.diffusion_model, "kept_output")
    lesson.model = usual


def check_steps_keep_nothing_of_caches(lesson):
    """What a cache of the host's or a patch puts into the options holds the graph, which holds the options."""
    import gc

    from comfy_extras import nodes_easycache

    kept, usual = [], lesson.model

    class Holder:
        output = None

    def keeps_output(call, args):
        output = call(args["input"], args["timestep"], **args["c"])
        holder = Holder()
        holder.output = output
        kept.append(weakref.ref(holder))
        args["c"]["transformer_options"]["kept by a patch"] = holder
        return output

    patched = usual.clone()
    patched.set_model_unet_function_wrapper(keeps_output)
    makers = (nodes_easycache.EasyCacheNode, nodes_easycache.LazyCacheNode)
    models = [*(each.execute(usual, 0.2, 0.1, 0.9, False).result[0] for each in makers), patched]
    for number, lesson.model in enumerate(models):
        alive = []
        for steps in (2, 6):
            lesson.train(f"kept {number} {steps}", steps=steps, gradient_checkpointing=True)
            gc.collect()
            alive.append(sum(isinstance(each, lesson.torch.Tensor) for each in gc.get_objects()))
        assert alive[1] - alive[0] < 8, (number, alive)
    assert kept and not any(each() for each in kept)
    lesson.model = usual


def check_weights_of_patches_get_a_sentence(lesson):
    model, torch = lesson.model.clone(), lesson.torch
    layer = torch.nn.Linear(48, 48)  # made in inference mode, as blocks are that load something

    import comfy.patcher_extension as extension

    def spoil(executor, x, *args, **kw):
        return torch.nn.functional.linear(executor(x, *args, **kw).movedim(1, -1), layer.weight[:16, :16]).movedim(
            -1, 1
        )

    model.add_wrapper(extension.WrappersMP.DIFFUSION_MODEL, spoil)
    lesson.model = model
    try:
        lesson.train("spoiled")
        raise AssertionError("it learned")
    except ValueError as error:
        assert "take it off. LoRAs of 'Load LoRA' may stay" in str(error), error


def check_a_step_that_never_fits_gets_a_sentence(lesson):
    """What was learned before is kept, and the model given back."""
    training, steps = lesson.training("full"), []

    def begin_step():
        steps.append(0)
        if len(steps) > 2:
            raise lesson.torch.cuda.OutOfMemoryError("it is full")

    def stretch(model):
        model.begin_step = begin_step
        with training.attached(model) as (run, step):
            run.train(step)

    try:
        lesson.open(stretch)
        raise AssertionError("it learned")
    except ValueError as error:
        words = "does not fit into the memory of cpu", "ComfyUI keeps all weights", "fewer frames"
        assert all(each in str(error) for each in words), error
    again = lesson.train("full").parts()
    for name, (_, up, _) in lesson.train("straight").parts().items():
        assert lesson.torch.equal(up, again[name][1]), name


def check_bf16_learns_the_same_with_and_without_checkpoints(lesson):
    made = [lesson.train(str(saves), gradient_checkpointing=saves, precision="bf16").parts() for saves in (False, True)]
    assert made[0].keys() == made[1].keys()
    for name, (_, up, _) in made[0].items():
        assert up.any() and lesson.torch.isfinite(up).all() and lesson.torch.equal(up, made[1][name][1]), name


class NotInThisHost(Exception):
    pass


def check_quantised_layers_learn(lesson):
    """Layers in scaled fp8, as core's files have them; they are no linear layers of torch."""
    comfy, models = lesson.case.inside.comfy, lesson.case.inside.models
    if not hasattr(comfy.utils, "detect_layer_quantization"):
        raise NotInThisHost
    lesson.model = models.make_quantised(lesson.kind)
    kind = type(lesson.model.model.diffusion_model.blocks[0].self_attn.q)
    assert not issubclass(kind, lesson.torch.nn.Linear), kind
    check_the_gradient_is_that_of_difference_quotients(lesson)
    check_gradient_checkpoints_change_no_number(lesson)
    assert len(lesson.train("quantised").parts()) == 20


def check_changes_in_place_spoil_no_gradient(lesson):
    """Of what a gradient needs: the network is watched from the second try on, and learns what it would have."""
    from pyramid_video.host.comfyui.open_network import CHANGED

    torch, network = lesson.torch, lesson.model.model.diffusion_model
    block = network.blocks[0]
    for saves in (False, True):
        plain = lesson.train(f"plain {saves}", gradient_checkpointing=saves).parts()
        assert network not in CHANGED
        usual = block.forward

        def forward(*args, usual=usual, **kw):
            output = usual(*args, **kw)
            ones = torch.exp(output * 0)
            product = output * ones
            ones.add_(1)
            return product

        block.forward = forward
        try:
            spoiled = lesson.train(f"in place {saves}", gradient_checkpointing=saves).parts()
            assert network in CHANGED
        finally:
            del block.forward
            CHANGED.discard(network)
        for name, (_, up, _) in spoiled.items():
            torch.testing.assert_close(up, plain[name][1], rtol=0, atol=1e-5)


def check_weights_in_a_class_of_their_own_learn(lesson):
    """As packs that load GGUF files have them, whose layers make plain tensors of them in every forward."""
    from pyramid_video.host.comfyui.open_network import CHANGED

    lesson.model = lesson.case.inside.models.make_packed(lesson.kind)
    CHANGED.add(lesson.model.model.diffusion_model)  # they learn while torch watches, too
    lesson.train("watched")
    CHANGED.discard(lesson.model.model.diffusion_model)
    check_the_gradient_is_that_of_difference_quotients(lesson)
    check_gradient_checkpoints_change_no_number(lesson)
    check_the_model_is_given_back_as_it_was(lesson)
    assert len(lesson.train("packed").parts()) == 20


ONE = {
    check_a_start_in_place_is_that_of_core: IN_PLACE,
    check_it_is_known_who_starts_in_place: (*KINDS, *MORE),
    check_what_does_not_fit_is_refused: ("wan2.1 t2v", "minimax h3", *ONE_FRAME, "cosmos predict2 video"),
    check_sizes_are_refused_that_the_network_cannot_take_and_no_others: (*KINDS, *MORE, "cosmos", "pixart"),
    check_what_does_not_tell_what_it_predicts_is_refused: ("cogvideox",),
    check_one_clip_is_learned: ("wan2.1 t2v", "ltx", "flux"),
    check_start_pictures_are_those_of_core: (*VIDEOS_FROM_PICTURES, "wan2.1 t2v", "ltx", "kandinsky 5"),
    check_quantised_layers_learn: ("wan2.1 t2v",),
    check_weights_in_a_class_of_their_own_learn: ("wan2.1 t2v",),
    check_changes_in_place_spoil_no_gradient: ("wan2.1 t2v",),
    check_errors_are_those_of_what_is_predicted: ("wan2.1 t2v",),
    check_pictures_come_back_from_both_kinds_of_vae: ("wan2.1 t2v",),
    check_guidance_on_the_wire_teaches_nothing: ("wan2.1 t2v", "sdxl"),
    check_caches_on_the_wire_teach_what_the_model_teaches: ("wan2.1 t2v", "flux"),
    check_steps_keep_nothing_of_caches: ("wan2.1 t2v",),
    check_weights_of_patches_get_a_sentence: ("wan2.1 t2v",),
    check_a_step_that_never_fits_gets_a_sentence: ("wan2.1 t2v",),
    check_bf16_learns_the_same_with_and_without_checkpoints: ("wan2.1 t2v", "flux"),
}
OF_A_NETWORK = (
    check_the_gradient_is_that_of_difference_quotients,
    check_gradient_checkpoints_change_no_number,
    check_the_host_loads_what_was_saved,
    check_clips_between_two_stretches_are_those_of_core_and_change_nothing,
)
ALL = (*OF_A_NETWORK, check_a_run_goes_on_to_the_same_weights, check_the_model_is_given_back_as_it_was)
CHECKS = [(check, kind) for kind in KINDS for check in ALL] + [(check, kind) for kind in MORE for check in OF_A_NETWORK]
CHECKS += [(check, kind) for check, kinds in ONE.items() for kind in kinds]


def name_of(check: Callable, kind: str) -> str:
    return f"{check.__name__} [{kind}]"


def main(comfyui: str, root: str, base: str, *only: str) -> None:
    inside = open_comfyui(Path(comfyui), Path(root))
    results = {}
    for check, kind in CHECKS:
        if only and kind not in only and check.__name__ not in only:
            continue
        if kind not in inside.models.known():
            results[name_of(check, kind)] = "not in this host"
            continue
        try:
            with inside.torch.inference_mode(), tempfile.TemporaryDirectory() as folder:  # as the server runs prompts
                check(Lesson(Case(inside, kind), Path(folder)))
            results[name_of(check, kind)] = None
        except NotInThisHost:
            results[name_of(check, kind)] = "not in this host"
        except Exception:
            results[name_of(check, kind)] = traceback.format_exc()
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
