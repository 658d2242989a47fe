"""How one run learns, and which of that may change when a run goes on."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...models.files import write_beside
from ...models.json_file import NotReadable, read_object
from ..presets import PRECISIONS
from .loss_log import pass_over

log = logging.getLogger(__name__)
SETTINGS = "settings.json"
LONGEST_WAIT = 0.1  # of a run
OPTIMIZERS = ("adamw", "muon")
LACKING: Mapping[str, Any] = {"module_rates": {}}  # in the files of older versions, and what they were then
OLD_NAMES = {  # of settings, in the files of older versions
    "warmup": "warmup_steps",
    "average": "ema_decay",
    "accumulate": "gradient_accumulation_steps",
    "clip_norm": "max_grad_norm",
}


@dataclass(frozen=True)
class ModuleRate:
    """How the learning rate of one module differs: it is so many `times` that of the run.

    The module `waits` for so many steps before it learns, but for a tenth of the run at most. What the optimiser
    measures of its gradients it knows by then, so its rate has no warm-up of its own.
    """

    times: float = 1.0
    waits: int = 0

    def __post_init__(self) -> None:
        if not (self.times > 0 and self.waits >= 0):
            raise ValueError(f"times is {self.times} and waits is {self.waits}; expected more than 0, and at least 0")


@dataclass(frozen=True)
class TrainSettings:
    """How one run learns.

    `steps` counts optimiser updates; with `minutes` the run also ends when it has learned for so long, on whatever
    there is, and its rate follows the clock. `optimizer` is "adamw" or "muon". The rate climbs in a line for
    `warmup_steps`, then falls along a half cosine to `final_rate` times `learning_rate`; `module_rates` names modules
    whose rate is another. `ema_decay` is that of the exponential moving average of the weights (0 = none), which warms
    up so that early averages are not made of the random start. An update is the mean over
    `gradient_accumulation_steps` batches in each process, its gradient cut to the length `max_grad_norm`. `precision`
    is "no" (float32), "bf16", or "auto" for bf16 on devices that compute in it. The last `keep` states stay on disk,
    saved every `save_seconds`. `gradient_checkpointing` trades time for memory in the modules that can.
    """

    steps: int
    learning_rate: float = 1e-3
    optimizer: str = "adamw"
    minutes: float | None = None
    warmup_steps: int = 100
    final_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    gradient_accumulation_steps: int = 1
    precision: str = "no"
    save_seconds: float = 180.0
    keep: int = 2
    gradient_checkpointing: bool = False
    seed: int = 0
    module_rates: Mapping[str, ModuleRate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "gradient_accumulation_steps", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes is {self.minutes}; expected more than 0, or none for as many steps as there are")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}; expected one of {', '.join(OPTIMIZERS)}")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}; expected between 0 and 1, 1e-4 to 1e-3 are usual")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; expected 0 (no average) up to less than 1, usually 0.999")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f'precision is {self.precision!r}; expected "auto", "no" (float32) or "bf16": these models overflow in '
                "float16"
            )

    def rate(self, step: int, seconds: float = 0.0) -> float:
        """The learning rate of step `step` (from 0), after so many seconds, as a share of `learning_rate`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        done = max(done, self.share_of_time(seconds))
        return self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * done))

    def rate_of(self, module: str, step: int, seconds: float = 0.0) -> float:
        """The learning rate of a module, where `rate` is that of the run; as a share of `learning_rate`, too."""
        own = self.module_rates.get(module, ModuleRate())
        waiting = step < own.waits and self.done(step, seconds) < LONGEST_WAIT
        return 0.0 if waiting else own.times * self.rate(step, seconds)

    def done(self, step: int, seconds: float = 0.0) -> float:
        """How much of the run lies behind it at a step, 0..1."""
        return max(step / self.steps, self.share_of_time(seconds))

    def share_of_time(self, seconds: float) -> float:
        """How much of the time is gone after so many seconds of learning, 0..1; always 0 where it is not limited."""
        return 0.0 if self.minutes is None else min(1.0, seconds / (60 * self.minutes))


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write them where people look for them; only a full disk, which would lose the state too, is an error."""
    try:
        with write_beside(folder / SETTINGS) as part:
            part.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    except OSError as error:
        pass_over(folder / SETTINGS, error)


def check_settings(folder: Path, settings: Mapping[str, Any], seed: int | None = None) -> None:
    """Compare `settings` with those that the run in `folder` was last saved with, and log what is new.

    ValueError for another seed: the run would go on with batches of another run. `seed` is that of the state; only old
    states have none, and then the file counts, which people may have edited or lost.
    """
    try:
        found = {OLD_NAMES.get(name, name): value for name, value in read_object(folder / SETTINGS).items()}
        before = {**LACKING, **found}
    except NotReadable as error:
        log.warning("%s cannot be compared with the new settings: %s", folder / SETTINGS, error)
        before = {}
    now = json.loads(json.dumps(settings))  # tuples become lists, as in the file
    was = before.get("seed", now["seed"]) if seed is None else seed
    if was != now["seed"]:
        raise ValueError(
            f"the run in {folder} was begun with seed {was}, and seed {now['seed']} would draw other batches from here "
            f"on. Go on with seed {was}, or give seed {now['seed']} a new folder"
        )
    changed = {
        name: (before[name], now[name])
        for name in now
        if name in before and before[name] != now[name] and name != "seed"
    }
    if changed:
        changes = ", ".join(f"{name} {was} -> {new}" for name, (was, new) in changed.items())
        log.warning("the run in %s goes on with other settings: %s%s", folder, changes, batch_advice(before, now))


def batch_advice(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What to set where a step takes more or fewer batches than before, because there are other processes."""
    counts = [each.get(name, 1) for each in (before, now) for name in ("processes", "gradient_accumulation_steps")]
    if not all(type(count) is int for count in counts) or before.get("processes") == now["processes"]:
        return ""
    was, new = counts[0] * counts[1], counts[2] * counts[3]
    if was == new:
        return ""
    kept = was // now["processes"]
    hint = f"; accumulate {kept} keeps it as it was" if kept * now["processes"] == was else ""
    return f". A step now takes {new} batches instead of {was}{hint}"
