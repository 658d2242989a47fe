"""Short runs of the training blocks, in a host of `training_fixtures`."""

from __future__ import annotations

from pyramid_video.runner.registry import node_classes
from tiny_models import MODEL

FAMILIES = {"flow": "Flow", "diffusion": "Diffusion", "gan": "GAN", "pyramid": "Pyramid"}


def run(node_id: str, **values):
    node = node_classes()[node_id]()
    answer = getattr(node, node.FUNCTION)(**values)
    return answer["result"] if isinstance(answer, dict) else answer


def settings(steps: int = 2, **values):
    return run("PyramidVideoTrainingSettings", **{"steps": steps, "batch": 4, "learning_rate": 1e-3, **values})[0]


def trainee(family: str):
    return run("PyramidVideoNewModel", family=family, size="tiny")[0]


def train(family: str, parts, name: str = "mine", steps: int = 2, **values):
    inputs = {"trainee": trainee(family), "run_name": name, "settings": settings(steps), **parts, **values}
    return run(f"PyramidVideoTrain{FAMILIES[family]}", **inputs)[0]


def train_vae(parts, vae_name: str, name: str = "vae", steps: int = 2, decoder_only: bool = False, **values):
    (chosen,) = run("PyramidVideoVAETrainee", vae_name=vae_name, decoder_only=decoder_only)
    plan = settings(steps, batch=1, learning_rate=1e-3)
    wired = {"dataset": parts["dataset"], "clips": 3, "frames": 5, **values}
    return run("PyramidVideoTrainVAE", trainee=chosen, run_name=name, settings=plan, **wired)[0]


def train_lora(parts, family: str = "pyramid", name: str = "lora", steps: int = 3, **values):
    (chosen,) = run("PyramidVideoLoadForTraining", model_name=values.pop("model", MODEL), family="as it is")
    wired = {"trainee": chosen, "run_name": name, "settings": settings(steps, learning_rate=1e-2), **parts}
    lora = {"rank": 2, "alpha": 2.0, "targets": "all"}
    return run("PyramidVideoTrainLoRA", **{**wired, **lora, **values})[0]
