"""One training loop for every family: optimiser, average of the weights, exact resume, clean stop.

The loop knows nothing of what is learned. A recipe hands it modules and an objective, a function that draws one batch
with the generator it is given and returns the losses. The generator is seeded anew from (seed, number of the batch),
so that a resumed run draws what an unbroken one would have drawn. The batches of a step are numbered through all
processes: n processes draw what one process with `accumulate=n` draws, and learn the same.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models.files import remove_parts, write_beside
from .loss_log import LOSSES, LossLog
from .processes import agree, average_gradients, average_values, share_weights
from .run_state import STATE, StateFolder, StateNotSaved, not_saved, run_exists
from .train_settings import SETTINGS, TrainSettings, check_settings

log = logging.getLogger(__name__)
Objective = Callable[[int, torch.Generator], Mapping[str, Tensor]]  # (step, generator) -> losses; "loss" is minimised
OnStep = Callable[[int, Mapping[str, float]], None]  # may raise to stop: the run is saved first
MOST_SKIPPED = 10  # steps in a row; a single bad batch is no reason to stop a long run


@dataclass
class TrainingRun:
    """Modules being trained, with everything that an exact resume needs.

    Under `accelerate launch` every process draws its own batch and the gradients are averaged. Files in `folder`:
    `state.pt` and the states before it (weights, optimiser, average, steps; tensors only, read without unpickling
    objects), `settings.json`, `losses.jsonl` (one line a step).
    """

    modules: dict[str, nn.Module]
    settings: TrainSettings
    folder: Path
    step: int = 0
    skipped: int = 0  # steps in a row, up to now, whose loss or gradients were not finite

    def __post_init__(self) -> None:
        from accelerate import Accelerator

        self.folder = Path(self.folder)
        self.accelerator = Accelerator(mixed_precision="no")  # its precision holds for a whole process, ours for a run
        self._network = nn.ModuleDict(self.modules).to(self.accelerator.device)
        if self.settings.gradient_checkpointing:
            save_memory(self._network)
        share_weights(self._network)
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
            from diffusers.training_utils import EMAModel

            self._average = EMAModel(
                self._network.parameters(), decay=self.settings.average, use_ema_warmup=True, inv_gamma=10.0, power=0.9
            )
        self._states = StateFolder(self.folder, self.settings.keep)
        self._losses = LossLog(self.folder)
        self._owns_folder = False
        self._updating = False

    @property
    def device(self) -> torch.device:
        """Where the modules are; batches go there."""
        return self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and shows things."""
        return self.accelerator.is_main_process

    def train(self, objective: Objective, until: int | None = None, on_step: OnStep | None = None) -> TrainingRun:
        """Take steps up to `until` (default: all); saved every few minutes, at the end, and when anything stops it.

        A step whose loss or gradients are not finite changes nothing and is logged; ValueError when they persist.
        OSError when a state cannot be written, ValueError when `folder` holds a run that was not resumed.
        """
        until = self.settings.steps if until is None else min(until, self.settings.steps)
        if self._updating:
            raise ValueError(
                f"this run was stopped in the middle of an update: make it anew and resume() {self.folder}"
            )
        if self.accelerator.is_main_process and not self._owns_folder and run_exists(self.folder):
            raise ValueError(f"{self.folder} holds a run already: resume() it, or give this one a new folder")
        saved = time.monotonic()
        try:
            while self.step < until:
                losses = self._update(objective)
                if on_step is not None:
                    on_step(self.step, losses)
                if time.monotonic() - saved > self.settings.save_seconds:
                    self.save()
                    saved = time.monotonic()
        except StateNotSaved:
            raise
        except BaseException:
            if not self._updating:  # stopped in the middle of an update, the last saved state is the newest whole one
                self.save()
            raise
        self.save()
        self.accelerator.wait_for_everyone()  # whoever goes on may read what was saved
        return self

    def _update(self, objective: Objective) -> Mapping[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self.settings.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        generator, parts = torch.Generator(), []
        for part in range(self.settings.accumulate):
            generator.manual_seed(self._seed(part))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
                losses = objective(self.step, generator)
            self.accelerator.backward(losses["loss"] / self.settings.accumulate)
            parts.append({name: float(value.detach()) for name, value in losses.items()})
        values = average_values(parts)
        average_gradients(self.accelerator, self._network.parameters())
        norm = float(self.accelerator.clip_grad_norm_(self._network.parameters(), self.settings.clip_norm))
        finite = math.isfinite(values["loss"]) and math.isfinite(norm)  # the same in all processes
        self._updating = True
        if finite:
            self.optimizer.step()
            if self._average is not None:
                self._average.step(self._network.parameters())
        self.skipped = 0 if finite else self.skipped + 1
        told = values if finite else {"skipped": self.skipped}
        self._losses.add(self.step, told)
        self.step += 1
        self._updating = False
        if not finite:
            self._tell_skipped(f"step {self.step - 1} had the loss {values['loss']} and a gradient of norm {norm}")
        return told

    def _tell_skipped(self, what: str) -> None:
        if self.skipped >= MOST_SKIPPED:
            raise ValueError(
                f"{what}, the last of {self.skipped} in a row that are not finite: training stopped, and {self.folder} "
                f"keeps the weights from before them. Lower the learning rate of {self.settings.learning_rate} or "
                "check the data; without its state.pt the run goes on from an older state"
            )
        if self.accelerator.is_main_process:
            log.warning("%s: skipped, %d in a row up to now", what, self.skipped)

    def _seed(self, part: int) -> int:
        """One number for each batch of the run: splitmix, a bijection of 64 bits, so neighbours are unlike."""
        place = (self.step * self.settings.accumulate + part) * self.accelerator.num_processes
        x = (self.settings.seed * 0x9E3779B97F4A7C15 + place + self.accelerator.process_index) % 2**64
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> shift)) * factor % 2**64
        return x ^ (x >> 31)

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
        """Write the whole state beside the old one and rename it into place; OSError where that fails."""
        if not self.accelerator.is_main_process:
            return self.folder
        state = {
            "step": self.step,
            "skipped": self.skipped,
            "network": self._network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }
        try:
            with write_beside(self.folder / SETTINGS) as part:
                part.write_text(json.dumps(self._described(), indent=1))
            self._losses.write()  # before the state: what is too much can be dropped, what is missing cannot be made
            self._states.write(state)
        except (OSError, RuntimeError) as error:
            raise not_saved(self.folder, state, error) from error
        self._owns_folder = True
        return self.folder

    def resume(self) -> bool:
        """Go on from `folder`; False when there is nothing yet.

        ValueError if it belongs to other modules or another seed, or has no state that can be read.
        """
        state = self._states.read()
        if state is not None:
            check_settings(self.folder, self._described())
            self._load(state)
        agree(self.step, self.folder)  # nobody writes before all have read
        if self.accelerator.is_main_process:
            for name in (STATE, SETTINGS, LOSSES):
                remove_parts(self.folder / name)
            if state is not None:
                self._losses.rewind(self.step)
        self._owns_folder = True
        return state is not None

    def _load(self, state: Mapping[str, Any]) -> None:
        own, found = self._network.state_dict(), state["network"]
        wrong = [
            k for k in own.keys() | found.keys() if k not in own or k not in found or own[k].shape != found[k].shape
        ]
        if wrong:
            raise ValueError(
                f"{self.folder} holds a run of another model: {len(wrong)} of its tensors differ, first "
                f"{sorted(wrong)[0]!r}. Give the run a new folder, or the settings it was started with"
            )
        self._network.load_state_dict(found)
        chosen = [{"betas": g["betas"], "weight_decay": g["weight_decay"]} for g in self.optimizer.param_groups]
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise ValueError(
                f"{self.folder} holds a run that trained other tensors of this model. Give the run a new folder, or "
                "the command it was started with"
            ) from error
        for group, values in zip(self.optimizer.param_groups, chosen, strict=True):
            group.update(values)  # the settings of now, not those of the file
        if self._average is not None and state["average"] is not None:
            self._average.load_state_dict({**state["average"], "decay": self.settings.average})
            self._average.to(self.device)
        self.step, self.skipped = int(state["step"]), int(state.get("skipped", 0))

    def _described(self) -> dict[str, Any]:
        return {"processes": self.accelerator.num_processes, **asdict(self.settings)}


def save_memory(network: nn.Module) -> None:
    """Turn on gradient checkpointing in the modules that have it; ValueError where none has."""
    able = [module for module in network.modules() if hasattr(module, "enable_gradient_checkpointing")]
    if not able:
        raise ValueError("none of these modules has gradient checkpointing; train without it, or with a smaller batch")
    for module in able:
        module.enable_gradient_checkpointing()
