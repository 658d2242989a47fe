"""One lesson of a LoRA for any model, and the checks that others make of a changed model, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spectral_case import Case

STEPS, RATE = 3, 1e-2
NUDGE = 2e-2  # along a direction, for a difference quotient in float32
KINDS = ("wan2.1 t2v", "wan2.1 i2v", "wan2.1 vace", "wan2.2 i2v", "wan2.2 5B", "ltx", "ltx2", "hunyuan1.5")
KINDS = (*KINDS, "minimax h3", "flux", "sd3", "sdxl")
MORE = ("qwen-image", "z-image", "flux.2", "chroma", "hunyuan video", "kandinsky 5", "mochi", "cosmos predict2 t2i")
MORE = (*MORE, "cosmos predict2 video", "sd1.5", "hidream", "ltx2.3", "ltx2.5", "ernie", "joyimage", "krea 2")
MORE = (*MORE, "mage flow")


class NotInThisHost(Exception):
    pass


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


def check_the_model_is_given_back_as_it_was(lesson):
    before = lesson.outputs()
    weights = {name: id(each) for name, each in lesson.model.model.diffusion_model.named_parameters()}
    lesson.train("given", gradient_checkpointing=True)
    lesson.case.same(lesson.outputs(), before, 0)
    assert weights == {name: id(each) for name, each in lesson.model.model.diffusion_model.named_parameters()}
    assert "optimized_attention_override" not in lesson.model.model_options.get("transformer_options", {})
