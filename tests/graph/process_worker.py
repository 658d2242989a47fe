"""Trainers in one of several processes, for the tests: `process_worker.py MODELS INPUTS OUTPUT ACCUMULATE [fsdp]`.

accelerate itself offers FSDP on accelerators only. With `fsdp` it is told that its CPU processes were launched with
it; all that follows, its own preparing, sharding and clipping too, is what happens on GPUs.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest

conftest.import_checkout()

import torch  # noqa: E402
from pyramid_video.host import use_host  # noqa: E402
from pyramid_video.host.standalone.host import StandaloneHost  # noqa: E402
from pyramid_video.runner.ranks import end_if_connected  # noqa: E402
from pyramid_video.runner.registry import node_classes  # noqa: E402
from pyramid_video.training.run.processes import start_accelerator  # noqa: E402
from tiny_models import MODEL, TEXT, VAE  # noqa: E402

HALF, STEPS = 2, 4
FAMILIES = {"flow": "Flow", "gan": "GAN", "pyramid": "Pyramid"}  # diffusion asks its network as a flow does


def launched_with_fsdp() -> None:
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    state = start_accelerator().state
    for shared in (PartialState._shared_state, AcceleratorState._shared_state):
        shared["distributed_type"] = DistributedType.FSDP
    state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2)


def kept_share(network: torch.nn.Module) -> float:
    """How much of the weights lies in this process."""
    parameters = list(network.parameters())
    own = [p.to_local() if hasattr(p, "to_local") else p for p in parameters]
    return sum(p.numel() for p in own) / sum(p.numel() for p in parameters)


def run(node_id: str, **values):
    node = node_classes()[node_id]()
    answer = getattr(node, node.FUNCTION)(**values)
    return answer["result"] if isinstance(answer, dict) else answer


def train_all(accumulate: int) -> dict[str, float]:
    """Every kind of run, each stopped after two of its four steps and gone on with, and saved.

    Answers how much of each run's first network lies here.
    """
    dataset = {"folder": "animations", "subjects": "", "size": 64, "frames": 5, "fps": 8.0, "split": "train"}
    (data,) = run("PyramidVideoAnimationDataset", **dataset)
    (vae,) = run("PyramidVideoLoadVAE", vae_name=VAE)
    (clip,) = run("PyramidVideoLoadTextEncoder", text_encoder_name=TEXT)
    wired = {"dataset": data, "vae": vae, "clip": clip, "clips": 3}
    (watched,) = run("PyramidVideoValidation", prompts="a ball", every=2, steps=1)
    found = {}

    def finish(trained, save: str, **values) -> None:
        found[trained.run.folder.name] = kept_share(next(iter(trained.run.modules.values())))
        if trained.run.is_main and trained.run.step == STEPS:
            run(save, run=trained, name=trained.run.folder.name, **values)

    for steps in (HALF, STEPS):

        def settings(steps: int = steps, **values):
            values = {"batch": 4, "learning_rate": 1e-3, "accumulate": accumulate, "average": 0.9, **values}
            return run("PyramidVideoTrainingSettings", steps=steps, warmup=0, **values)[0]

        for family, block in FAMILIES.items():
            if family == "gan":  # with both discriminators
                (trainee,) = run("PyramidVideoLoadForTraining", model_name=MODEL, family=family)
            else:
                (trainee,) = run("PyramidVideoNewModel", family=family, size="tiny")
            values = {"trainee": trainee, "run_name": family, **wired}
            values["settings"] = settings(gradient_checkpointing=family == "pyramid")
            values |= {"validation": watched} if family == "flow" else {}
            (trained,) = run(f"PyramidVideoTrain{block}", **values)
            finish(trained, "PyramidVideoSaveTrained", precision="fp32")
        (trainee,) = run("PyramidVideoLoadForTraining", model_name=MODEL, family="as it is")
        values = {"rank": 2, "alpha": 2.0, "targets": "all", "settings": settings()}
        (trained,) = run("PyramidVideoTrainLoRA", trainee=trainee, run_name="lora", **wired, **values)
        finish(trained, "PyramidVideoSaveTrainedLoRA")
        (trainee,) = run("PyramidVideoVAETrainee", vae_name=VAE, decoder_only=False)
        values = {"clips": 3, "frames": 5, "judge_from": 1, "settings": settings(batch=1)}
        (trained,) = run("PyramidVideoTrainVAE", trainee=trainee, dataset=data, run_name="vae", **values)
        finish(trained, "PyramidVideoSaveTrainedVAE")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    models, inputs, output, accumulate, *more = sys.argv[1:]
    if more == ["fsdp"]:
        launched_with_fsdp()
    use_host(StandaloneHost(Path(models), Path(inputs), Path(output), silent=True, device="cpu"))
    with torch.inference_mode():
        found = train_all(int(accumulate))
    Path(output, f"shares-{os.environ['RANK']}.json").write_text(json.dumps(found))
    end_if_connected()
