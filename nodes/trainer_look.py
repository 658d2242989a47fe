"""What all trainers look like."""

from __future__ import annotations

from typing import Any

from .train_run import NamesRun


def trainer_inputs(family: str, **own: tuple[Any, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What every trainer is wired to, and the widgets of its own."""
    return {
        "required": {
            "trainee": ("VIDEO_TRAINEE", {"tooltip": f"A {family} model, from 'New model' or 'Load for training'."}),
            "dataset": ("VIDEO_DATASET", {"tooltip": "Captioned clips, from a dataset block."}),
            "vae": ("VAE", {"tooltip": "Makes the latents that are learned. It is not trained; belongs to the model."}),
            "clip": ("CLIP", {"tooltip": "Reads the captions. It is not trained, and belongs to the model."}),
            "run_name": (
                "STRING",
                {
                    "default": f"my_{family}",
                    "tooltip": "The run is kept in output/training under this name, and goes on from there when the "
                    "graph is run again. Another name is another run.",
                },
            ),
            "clips": (
                "INT",
                {
                    "default": 1000,
                    "min": 1,
                    "max": 1_000_000,
                    "tooltip": "Clips that are drawn from the dataset once and kept as latents. Few are learned by "
                    "heart; many take time at the start and disk space.",
                },
            ),
        },
        "optional": {
            "settings": ("TRAINING_SETTINGS", {"tooltip": "From 'Training settings'. Left open: its defaults."}),
            "validation": (
                "TRAINING_VALIDATION",
                {"tooltip": "From 'Validation': prompts that are made into clips while the model learns."},
            ),
            **own,
        },
    }


class Trainer(NamesRun):
    CATEGORY = "pyramid video/training"
    SEARCH_ALIASES = ["train", "training", "trainer", "fine-tune", "from scratch", "learn"]
    RETURN_TYPES = ("TRAINING_RUN",)
    RETURN_NAMES = ("run",)
    OUTPUT_TOOLTIPS = ("For 'Save trained model' and 'Training curves'.",)
    FUNCTION = "train"
    OUTPUT_NODE = True
