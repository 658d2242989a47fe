"""Every place at which the host may wait for a device, or copy to or from it, and why. Nothing else may.

A copy to the device from ordinary memory makes the host wait too. A place is a file of the project, or one function of
it, `file:function`, where the rest of the file works in every step.
"""

from __future__ import annotations

# In the first step of a stage, when small tables go to the device.
FIRST_STEP = {
    "models/token_layout.py": "which text tokens are real, which keys a frame sees",
    "models/rotary.py:rotation_table": "positions of a stage, worked out in float64 on the CPU",
    "models/layers.py:timestep_frequencies": "the frequencies of timesteps, once a process",
    "models/history_levels.py": "positions of the history of Helios, once a unit",
}
# Before, between and after stages and runs.
OUTSIDE_STEPS = {
    "host/standalone/devices.py": "does a device hold numbers: asked where it is chosen",
    "host/standalone/sampling.py": "noise and prompts on their way in, the finished clip on its way out",
    "host/standalone/any_model.py": "the same of the pyramid for models of one size",
    "host/standalone/wires.py": "weights, once for each piece of work; pictures and latents; prompts",
    "models/vae_pieces.py:decode_into": "finished pictures, one copy for each chunk",
    "models/vae_pieces.py:leave": "finished tiles, one copy for each chunk",
    "samplers/noise.py": "noise is drawn on the CPU, so that a seed means the same clip on every device",
    "samplers/pyramid.py:sample_stage": "is a stage finite: asked once a stage",
    "samplers/solvers.py": "is the clip finite: asked once a run",
    "samplers/noise_schedule.py": "the tables of a schedule, once a process",
    "models/latent_format.py": "the scale of latents",
    "models/text_features.py": "prompts that were encoded on the CPU",
}
# In a step of a training. What only copies towards the device could be hidden by pinned memory and is small.
TRAINING = {
    "training/batch.py": "the clips and texts of a batch, which lie in ordinary memory",
    "training/objectives/draw.py": "random numbers are drawn on the CPU, so that a run is the same on every device",
    "samplers/stages.py": "the noise levels of a stage, looked up by numbers that were drawn on the CPU",
    "models/causal_vae.py": "noise of the VAE, drawn on the CPU",
    "training/run/processes.py:read_together": "losses and the norm of the gradients, once a step",
    "training/run/loop.py:__post_init__": "weights, once a run",
    "training/run/loop.py:_leave_for": "weights on their way home, once a run",
    "training/run/loop.py:leaving_device": "the weights that a LoRA learned beside, once a run",
    "models/feature_discriminator.py:to": "the weights that a GAN was judged by, once a run",
    "training/run/ema.py": "weights that are set aside while averages are in their place, for a file or a clip",
    "training/trainers/lora.py": "weights, once a run",
    "training/trainers/model_lora.py": "which layers a gradient reaches, once a run",
    "training/trainers/model.py": "the weights that a GAN is judged by, once a run",
    "training/trainers/vae.py": "the pictures of a batch",
    "models/checkpoints.py": "weights on their way into a file",
    "models/lora.py:lora_state": "a LoRA on its way into a file, and to the host that makes a clip with it",
    "?": "weights that the test itself fetches",
}
# Where ComfyUI is the host.
COMFYUI = {
    "host": "ComfyUI's own lines, where none of the project is at work",
    "host/comfyui/forward.py:is_true": "are text and old frames those whose keys were kept: asked once a stage",
    "host/comfyui/model.py": "weights; prompts, once a run",
    "host/comfyui/open_network.py:unload_some": "weights that make way for a step that needs their memory",
    "host/comfyui/model_in_training.py": "clips, texts and noise of a step, which lie in ordinary memory",
    "host/comfyui/host.py": "the finished clip on its way out; what text encoders and VAEs are known by",
    "host/comfyui/sampling.py": "the levels of a stage",
    "host/comfyui/any_model.py": "the levels of a schedule, and the finished clip",
    "host/comfyui/spectral.py": "the levels of a schedule; whether there is something to begin with, once a run",
    "host/comfyui/stage_conds.py": "whether there is something to begin with, once a stage",
    "host/comfyui/vae.py": "weights, pictures, latents",
    "nodes/any_model.py": "the levels of a schedule, for the sentence on the block",
}
EVERYWHERE = FIRST_STEP | OUTSIDE_STEPS | TRAINING


def strangers(notes: list[str], allowed: dict[str, str]) -> list[str]:
    """The notes, `what file:line:function`, of places that `allowed` does not name."""

    def is_allowed(place: str) -> bool:
        file, function = place.partition(":")[0], place.rpartition(":")[2]
        return file in allowed or f"{file}:{function}" in allowed

    return [note for note in notes if not is_allowed(note.split()[-1])]
