"""Several processes on one graph, as `accelerate launch` and torchrun start them: the first does it all, others train.

A trainer splits its work among them. What comes after it, files and clips, is made once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .workflow import Prompt

TRAINED = "TRAINING_RUN"


def is_first() -> bool:
    """Whether this process is the only one or the first."""
    return os.environ.get("RANK", "0") == "0"


def own_outputs(prompt: Prompt, outputs: list[str], classes: Mapping[str, type]) -> list[str]:
    """Which output nodes this process runs: all of them, or only trainers."""
    if is_first():
        return outputs
    return [node_id for node_id in outputs if TRAINED in classes[prompt[node_id]["class_type"]].RETURN_TYPES]
