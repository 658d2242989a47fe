"""Which clips are made of fixed prompts while a model is trained, to see what it has learned."""

from __future__ import annotations

from dataclasses import dataclass

FOLDER = "validation"
MOST_PROMPTS = 16


@dataclass(frozen=True)
class ValidationPlan:
    """Which prompts are made into clips, and after how many steps again; steps 0: the usual number of the family."""

    prompts: tuple[str, ...]
    every: int = 500
    steps: int = 0
    cfg: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.prompts) <= MOST_PROMPTS:
            raise ValueError(f"{len(self.prompts)} prompts for validation; write 1 to {MOST_PROMPTS}, one a line")
        if self.every < 1:
            raise ValueError(f"validation every {self.every} steps; expected at least 1")

    def due(self, step: int, steps: int) -> bool:
        """Whether clips are made after `step` of `steps`; after the last they always are."""
        return step % self.every == 0 or step == steps

    def next_due(self, step: int, steps: int) -> int:
        """The first step after `step` that clips are made after."""
        return min(steps, (step // self.every + 1) * self.every)
