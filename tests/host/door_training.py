"""What the door to ComfyUI promises of training: outside inference mode, cancelled at a step, gone on with exactly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from door_tools import same

STEPS, SEED = 4, 5


def still_ball(door):
    """Clips of one disc, drawn by the generator; as small as a dataset can be."""

    def draw(generator, shape, index):
        y, x = door.torch.randint(8, 56, (2,), generator=generator).tolist()
        rows = door.torch.arange(64)
        video = door.torch.full((3, 5, *shape), -1.0)
        video[:, :, (rows[:, None] - y) ** 2 + (rows[None] - x) ** 2 < 36] = 1.0
        return video, "a ball", "ball"

    return SimpleNamespace(
        size=64,
        frames=5,
        fps=8.0,
        fingerprint=lambda on_read=None: "still-ball",
        bucket_counts=lambda clips: {(64, 64): clips},
        draw=draw,
        caption_for=lambda label, generator: f"a {label}, still",
    )


def train(door, family, name, steps=STEPS, **more):
    from pyramid_video.nodes import NODE_CLASS_MAPPINGS as nodes

    (settings,) = nodes["PyramidVideoTrainingSettings"]().make(steps=steps, batch=4, learning_rate=1e-3)
    (trainee,) = nodes["PyramidVideoNewModel"]().make(family=family.lower(), size="tiny")
    block = nodes[f"PyramidVideoTrain{family}"]()
    wired = {"dataset": still_ball(door), "vae": door.vae, "clip": door.clip, "clips": 4}
    return block.train(trainee=trainee, run_name=name, settings=settings, **wired, **more)


def weights(answer):
    return answer["result"][0].run.averaged()["transformer"]


def check_a_cancelled_run_goes_on_to_the_same_weights(door):
    import comfy.model_management as management
    from pyramid_video.nodes import training_progress

    straight = weights(train(door, "Flow", "straight"))
    usual = training_progress.ProgressReporter.__call__

    def cancel(watch, step, losses):
        if step == 2:
            management.interrupt_current_processing()
        usual(watch, step, losses)

    training_progress.ProgressReporter.__call__ = cancel
    try:
        train(door, "Flow", "cancelled")
        raise AssertionError("the run was not cancelled")
    except management.InterruptProcessingException:
        pass
    finally:
        training_progress.ProgressReporter.__call__ = usual
    answer = train(door, "Flow", "cancelled")
    for key, value in weights(answer).items():
        same(door, value, straight[key])


def check_a_trained_model_samples_in_the_same_graph(door):
    import folder_paths
    from pyramid_video.nodes import NODE_CLASS_MAPPINGS as nodes

    (plan,) = nodes["PyramidVideoValidation"]().make(prompts="a ball", every=2, steps=2, cfg=2.0)
    answer = train(door, "GAN", "watched", validation=plan)
    shown = answer["ui"]["images"][0]
    output = Path(folder_paths.get_output_directory())
    assert (output / shown["subfolder"] / shown["filename"]).is_file() and answer["ui"]["animated"] == (True,)
    (model,) = nodes["PyramidVideoSaveTrained"]().save(answer["result"][0], "watched")["result"]
    assert "watched.safetensors" in folder_paths.get_filename_list("diffusion_models")
    latent = door.latent()
    (made,) = nodes["PyramidVideoGANSampler"]().sample(model, door.positive, latent, 1)
    assert door.torch.isfinite(made["samples"]).all() and made["samples"].any()


def check_a_trained_lora_loads_in_the_hosts_own_loader(door):
    import comfy.sd
    import folder_paths
    from pyramid_video.nodes import NODE_CLASS_MAPPINGS as nodes

    (settings,) = nodes["PyramidVideoTrainingSettings"]().make(steps=3, batch=4, learning_rate=1e-2)
    (trainee,) = nodes["PyramidVideoLoadForTraining"]().load(door.path["diffusion_models"].name, "as it is")
    wired = {"dataset": still_ball(door), "vae": door.vae, "clip": door.clip, "clips": 4}
    lora = {"rank": 2, "alpha": 4.0, "targets": "all"}
    answer = nodes["PyramidVideoTrainLoRA"]().train(
        trainee=trainee, run_name="lora", settings=settings, **wired, **lora
    )
    run = answer["result"][0]
    (wire,) = nodes["PyramidVideoSaveTrainedLoRA"]().save(run, "ours")["result"]
    folder_paths.add_model_folder_path("loras", str(Path(folder_paths.get_output_directory()) / "loras"))
    loader = door.core.LoraLoaderModelOnly()
    (off,) = loader.load_lora_model_only(door.model, "ours.safetensors", 0.0)
    same(door, door.sample(model=off), door.usual)
    (on,) = loader.load_lora_model_only(door.model, "ours.safetensors", 1.0)
    assert len(on.patches) == len(run.run.modules["lora"].names), "every layer is patched"
    made = door.sample(model=on)
    assert (made - door.usual).abs().max() > 1e-3
    by_wire, _ = comfy.sd.load_lora_for_models(door.model, None, wire, 1.0, 0)
    same(door, door.sample(model=by_wire), made)
    same(door, door.sample(), door.usual)

    from pyramid_video.host.standalone import sampling as standalone_sampling
    from pyramid_video.host.standalone import wires as standalone_wires
    from pyramid_video.models import checkpoints
    from pyramid_video.models.lora import merge_lora

    network, info = checkpoints.load(door.path["diffusion_models"], ("miniflux",), dtype=door.torch.float32)
    changed = merge_lora(network, run.parts(), 1.0)
    model = standalone_wires.Model(changed, info, door.torch.device("cpu"), door.torch.float32)
    guider = standalone_sampling.Guider(model, door.positive, door.negative, door.guidance)
    sampler = standalone_sampling.PyramidSampler(door.sampler.stages, door.sampler.history)
    alone = standalone_sampling.sample(guider, sampler, door.latent(), SEED, None)["samples"]
    same(door, made, alone, 2e-4)
