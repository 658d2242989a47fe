"""What a LoRA for any model promises, asked of tiny models of ComfyUI's own classes without a server.

Run by `test_lora_for_any_model.py` with ComfyUI's Python: `model_lora.py COMFYUI ROOT BASE`; prints one JSON object
{check: error or null}.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from model_lora_lesson import (
    KINDS,
    MORE,
    Lesson,
    NotInThisHost,
    check_gradient_checkpoints_change_no_number,
    check_the_gradient_is_that_of_difference_quotients,
    check_the_model_is_given_back_as_it_was,
)
from model_lora_patches import PATCHED
from model_lora_quantised import QUANTISED
from model_lora_refusals import REFUSED
from model_lora_rotations import ROTATED
from model_lora_starts import STARTS, check_it_is_known_who_starts_in_place
from model_lora_streamed import STREAMED
from spectral_case import VIDEOS_FROM_PICTURES, Case, open_comfyui


def check_a_run_goes_on_to_the_same_weights(lesson):
    straight = lesson.train("straight").parts()
    lesson.train("broken", stop_at=1)
    for name, (down, up, _) in lesson.train("broken").parts().items():
        assert lesson.torch.equal(down, straight[name][0]) and lesson.torch.equal(up, straight[name][1]), name


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


def check_bf16_learns_the_same_with_and_without_checkpoints(lesson):
    made = [lesson.train(str(saves), gradient_checkpointing=saves, precision="bf16").parts() for saves in (False, True)]
    assert made[0].keys() == made[1].keys()
    for name, (_, up, _) in made[0].items():
        assert up.any() and lesson.torch.isfinite(up).all() and lesson.torch.equal(up, made[1][name][1]), name


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
    **STARTS,
    **PATCHED,
    **QUANTISED,
    **ROTATED,
    **REFUSED,
    **STREAMED,
    check_it_is_known_who_starts_in_place: (*KINDS, *MORE),
    check_one_clip_is_learned: ("wan2.1 t2v", "ltx", "flux"),
    check_weights_in_a_class_of_their_own_learn: ("wan2.1 t2v",),
    check_errors_are_those_of_what_is_predicted: ("wan2.1 t2v",),
    check_pictures_come_back_from_both_kinds_of_vae: ("wan2.1 t2v",),
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
