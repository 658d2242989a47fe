"""Trainers in one of several processes, for the tests: `process_worker.py MODELS INPUTS OUTPUT ACCUMULATE [fsdp]`.

accelerate itself offers FSDP on accelerators only. With `fsdp` it is told that its CPU processes were launched with
it; all that follows, its own preparing, sharding and clipping too, is what happens on GPUs.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest

conftest.import_checkout()

import torch  # noqa: E402
from pyramid_video.host import use_host  # noqa: E402
from pyramid_video.host.standalone import StandaloneHost  # noqa: E402
from pyramid_video.runner.ranks import leave_others  # noqa: E402
from pyramid_video.runner.registry import node_classes  # noqa: E402
from pyramid_video.training.processes import start_accelerator  # noqa: E402
from tiny_models import MODEL, TEXT, VAE  # noqa: E402

FAMILIES = {"flow": "Flow", "diffusion": "Diffusion", "gan": "GAN", "pyramid": "Pyramid"}


def launched_with_fsdp() -> None:
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    state = start_accelerator().state
    for shared in (PartialState._shared_state, AcceleratorState._shared_state):
        shared["distributed_type"] = DistributedType.FSDP
    state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2)


def run(node_id: str, **values):
    node = node_classes()[node_id]()
    answer = getattr(node, node.FUNCTION)(**values)
    return answer["result"] if isinstance(answer, dict) else answer


def train_all(accumulate: int) -> None:
    """Every kind of run, each stopped after two of its four steps and gone on with."""
    dataset = {"folder": "animations", "subjects": "", "size": 64, "frames": 5, "fps": 8.0, "split": "train"}
    (data,) = run("PyramidVideoAnimationDataset", **dataset)
    (vae,) = run("PyramidVideoLoadVAE", vae_name=VAE)
    (clip,) = run("PyramidVideoLoadTextEncoder", text_encoder_name=TEXT)
    wired = {"dataset": data, "vae": vae, "clip": clip, "clips": 3}
    (watched,) = run("PyramidVideoValidation", prompts="a ball", every=2, steps=1)

    def settings(steps: int, **values):
        values = {"batch": 4, "learning_rate": 1e-3, "accumulate": accumulate, "average": 0.9, **values}
        return run("PyramidVideoTrainingSettings", steps=steps, warmup=0, **values)[0]

    for steps in (2, 4):
        for family, block in FAMILIES.items():
            (trainee,) = run("PyramidVideoNewModel", family=family, size="tiny")
            more = {"validation": watched} if family == "flow" else {}
            plan = settings(steps, gradient_checkpointing=family == "pyramid")
            trained = run(f"PyramidVideoTrain{block}", trainee=trainee, run_name=family, settings=plan, **wired, **more)
        (trainee,) = run("PyramidVideoLoadForTraining", model_name=MODEL, family="as it is")
        lora = {"rank": 2, "alpha": 2.0, "targets": "all", "settings": settings(steps)}
        trained = run("PyramidVideoTrainLoRA", trainee=trainee, run_name="lora", **wired, **lora)
        (trainee,) = run("PyramidVideoVAETrainee", vae_name=VAE, decoder_only=False)
        pieces = {"clips": 3, "frames": 5, "judge_from": 1, "settings": settings(steps, batch=1)}
        trained = run("PyramidVideoTrainVAE", trainee=trainee, dataset=data, run_name="vae", **pieces)
    if trained[0].run.is_main:
        run("PyramidVideoSaveTrainedVAE", run=trained[0], name="mine")


if __name__ == "__main__":
    torch.set_num_threads(1)
    models, inputs, output, accumulate, *more = sys.argv[1:]
    if more == ["fsdp"]:
        launched_with_fsdp()
    use_host(StandaloneHost(Path(models), Path(inputs), Path(output), silent=True, device="cpu"))
    with torch.inference_mode():
        train_all(int(accumulate))
    leave_others()
