"""One training loop for every family: optimiser, average of the weights, exact resume, clean stop.

The loop knows nothing of what is learned. A recipe hands it modules and an objective, a function that draws one batch
with the generator it is given and returns the losses. The generator is seeded anew from (seed, step, process), so that
a resumed run draws what an unbroken one would have drawn, and two processes never draw the same.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.files import write_beside

Objective = Callable[[int, torch.Generator], Mapping[str, Tensor]]  # (step, generator) -> losses; "loss" is minimised
STATE, LOSSES = "state.pt", "losses.jsonl"
OnStep = Callable[[int, Mapping[str, float]], None]  # may raise to stop: the run is saved first


@dataclass(frozen=True)
class TrainSettings:
    """How one run learns.

    `steps` counts optimiser updates. The rate climbs in a line for `warmup` steps, then falls along a half cosine to
    `final_rate` times `learning_rate`. `average` is the decay of the exponential moving average of the weights
    (0 = none), which warms up so that early averages are not made of the random start.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    final_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    average: float = 0.999
    accumulate: int = 1
    precision: str = "no"
    save_seconds: float = 180.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a training run needs at least 1 step, got {self.steps}")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}; expected between 0 and 1, 1e-4 to 1e-3 are usual")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; expected 0 (no average) up to less than 1, usually 0.999")

    def rate(self, step: int) -> float:
        """The learning rate of step `step` (from 0) as a share of `learning_rate`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class TrainingRun:
    """Modules being trained, with everything that an exact resume needs.

    Under `accelerate launch` every process draws its own batch and the gradients are averaged. Files in `folder`:
    `state.pt` (weights, optimiser, average, step; tensors only, read without unpickling objects), `settings.json`,
    `losses.jsonl` (one line a step).
    """

    modules: dict[str, nn.Module]
    settings: TrainSettings
    folder: Path
    step: int = 0

    def __post_init__(self) -> None:
        from accelerate import Accelerator
        from diffusers.training_utils import EMAModel

        self.folder = Path(self.folder)
        self.accelerator = Accelerator(mixed_precision=self.settings.precision)
        self._network = nn.ModuleDict(self.modules).to(self.accelerator.device)
        decay = [p for p in self._network.parameters() if p.requires_grad and p.ndim >= 2]
        plain = [p for p in self._network.parameters() if p.requires_grad and p.ndim < 2]
        optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": self.settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=self.settings.learning_rate,
            betas=self.settings.betas,
            eps=1e-8,
        )
        self.optimizer = self.accelerator.prepare(optimizer)
        self._average = None
        if self.settings.average:
            self._average = EMAModel(
                self._network.parameters(), decay=self.settings.average, use_ema_warmup=True, inv_gamma=10.0, power=0.9
            )
        self._pending: list[str] = []
        self._updating = False

    @property
    def device(self) -> torch.device:
        """Where the modules are; batches go there."""
        return self.accelerator.device

    def train(self, objective: Objective, until: int | None = None, on_step: OnStep | None = None) -> TrainingRun:
        """Take steps up to `until` (default: all); saved every few minutes, at the end, and when anything stops it."""
        until = self.settings.steps if until is None else min(until, self.settings.steps)
        saved = time.monotonic()
        try:
            while self.step < until:
                losses = self._update(objective)
                if on_step is not None:
                    on_step(self.step, losses)
                if time.monotonic() - saved > self.settings.save_seconds:
                    self.save()
                    saved = time.monotonic()
        finally:
            if not self._updating:  # stopped in the middle of an update, the last saved state is the newest whole one
                self.save()
        return self

    def _update(self, objective: Objective) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self.settings.rate(self.step)
        generator = torch.Generator()
        for part in range(self.settings.accumulate):
            generator.manual_seed(self._seed(part))
            with self.accelerator.autocast():
                losses = objective(self.step, generator)
            self.accelerator.backward(losses["loss"] / self.settings.accumulate)
        values = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(values["loss"]):
            self.optimizer.zero_grad()
            raise ValueError(
                f"the loss of step {self.step} is {values['loss']}: training stopped and the state before this step "
                f"is kept in {self.folder}. Lower the learning rate of {self.settings.learning_rate} or check the data."
            )
        self._average_gradients()
        self.accelerator.clip_grad_norm_(self._network.parameters(), self.settings.clip_norm)
        self._updating = True
        self.optimizer.step()
        if self._average is not None:
            self._average.step(self._network.parameters())
        self._pending.append(json.dumps({"step": self.step, **values}))
        self.step += 1
        self._updating = False
        self.optimizer.zero_grad(set_to_none=True)
        return values

    def _seed(self, part: int) -> int:
        """One number for each batch of the run: splitmix, a bijection of 64 bits, so neighbours are unlike."""
        place = (self.step * self.settings.accumulate + part) * self.accelerator.num_processes
        x = (self.settings.seed * 0x9E3779B97F4A7C15 + place + self.accelerator.process_index) % 2**64
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> shift)) * factor % 2**64
        return x ^ (x >> 31)

    def _average_gradients(self) -> None:
        """Mean over processes in one message; objectives may call the modules in any way, which DDP's hooks forbid."""
        if self.accelerator.num_processes == 1:
            return
        gradients = [p.grad for p in self._network.parameters() if p.grad is not None]
        mean = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), reduction="mean")
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def averaged(self) -> dict[str, dict[str, Tensor]]:
        """State dicts of the modules with averaged weights (the plain ones when there is no average)."""
        parameters = list(self._network.parameters())
        if self._average is not None:
            self._average.store(parameters)
            self._average.copy_to(parameters)
        states = {name: {k: v.detach().clone() for k, v in m.state_dict().items()} for name, m in self.modules.items()}
        if self._average is not None:
            self._average.restore(parameters)
        return states

    def save(self) -> Path:
        """Write the whole state beside the old one and rename it into place."""
        if not self.accelerator.is_main_process:
            return self.folder
        state = {
            "step": self.step,
            "network": self._network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }
        with write_beside(self.folder / STATE) as part:
            torch.save(state, part)
        with write_beside(self.folder / "settings.json") as part:
            part.write_text(json.dumps(asdict(self.settings), indent=1))
        with open(self.folder / LOSSES, "a", encoding="utf-8") as log:
            log.writelines(line + "\n" for line in self._pending)
        self._pending.clear()
        return self.folder

    def resume(self) -> bool:
        """Go on from `folder`; False when there is nothing yet. ValueError if it belongs to other modules."""
        path = self.folder / STATE
        if not path.exists():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        network = self.accelerator.unwrap_model(self._network)
        own, found = network.state_dict(), state["network"]
        wrong = [
            k for k in own.keys() | found.keys() if k not in own or k not in found or own[k].shape != found[k].shape
        ]
        if wrong:
            raise ValueError(
                f"{path} holds a run of another model: {len(wrong)} of its tensors differ, first {sorted(wrong)[0]!r}. "
                "Give the run a new folder, or the settings it was started with."
            )
        self._network.load_state_dict(found)
        self.optimizer.load_state_dict(state["optimizer"])
        if self._average is not None and state["average"] is not None:
            self._average.load_state_dict(state["average"])
        self.step = int(state["step"])
        return True


def run_exists(folder: Path) -> bool:
    """Whether a run has been saved in `folder`."""
    return (Path(folder) / STATE).exists()
