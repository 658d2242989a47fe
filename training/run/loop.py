"""One training loop for every family: optimiser, average of the weights, exact resume, clean stop.

The loop knows nothing of what is learned. It is given modules and a training step, a function that draws one batch
with the generator it is given and returns the losses. The generator is seeded anew from (seed, number of the batch),
so that a resumed run draws what an unbroken one would have drawn. Batches are numbered through all processes and all
steps of a run: n processes draw what one process with `gradient_accumulation_steps=n` draws, and learn the same, also
when a run goes on with another number of processes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models.bf16 import autocast_to_bf16
from ...models.files import remove_parts
from ...samplers.seeds import nth_seed
from ..batch import Losses
from .ema import averaged, make_ema
from .loss_log import LOSSES, LossLog
from .optimizer import make_optimizer
from .precision import chosen_precision
from .processes import (
    agree,
    average_gradients,
    average_values,
    decided_by_first,
    read_together,
    share_weights,
    start_accelerator,
)
from .run_description import earlier_description, write_description
from .run_lock import run_lock
from .run_state import STATE, StateFolder, StateNotSaved, failed_on_device, kept, not_saved, run_exists
from .run_tensors import load_tensors, tensors_of
from .sharding import Networks, is_sharded, shard, whole
from .stopping import unbroken
from .train_settings import SETTINGS, TrainSettings, check_settings, write_settings

log = logging.getLogger(__name__)
TrainingStep = Callable[[int, torch.Generator], Losses]  # (step, generator), of one batch
OnStep = Callable[[int, Mapping[str, float]], None]  # may raise to stop: the run is saved first
MOST_SKIPPED = 10  # steps in a row; a single bad batch is no reason to stop a long run


@dataclass
class TrainingRun:
    """Modules being trained, with everything that an exact resume needs.

    Under `accelerate launch` every process draws its own batch and the gradients are averaged; where its config asks
    for FSDP, weights, gradients, optimiser and average are shared among the processes. Files in `folder`: `state.pt`
    and the states before it (weights, optimiser, average, steps; tensors only, read without unpickling objects, the
    same for any number of processes), `settings.json`, `losses.jsonl` (one line a step).
    """

    modules: dict[str, Any]  # by name, of any class of module
    settings: TrainSettings
    folder: Path
    step: int = 0
    batches: int = 0  # drawn up to now by all processes
    skipped: int = 0  # steps in a row, up to now, whose loss or gradients were not finite
    seconds: float = 0.0  # of learning up to now

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        self.accelerator = start_accelerator()
        self._device = self.accelerator.device
        self.precision = chosen_precision(self.settings.precision, self.device)
        self.sharded = is_sharded(self.accelerator)
        self._gathered: dict[str, dict[str, Tensor]] | None = None
        self._network = Networks(self.modules)
        if not self.sharded:  # which leaves on the device what is needed there
            self._network.to(self.device)
        if self.settings.gradient_checkpointing:
            save_memory(self._network)
        if strange := sorted(set(self.settings.module_rates) - set(self.modules)):
            raise ValueError(f"module_rates has {strange[0]!r}; the modules of this run are {', '.join(self.modules)}")
        share_weights(self._network, self.device)
        if self.sharded and self.settings.optimizer == "muon":
            raise ValueError("muon needs whole matrices, and these weights are shared among processes; take adamw")
        optimizer = make_optimizer(self._network, self.settings)
        if self.sharded:
            self._network, self.optimizer = shard(self.accelerator, self._network, optimizer)
        else:
            self.optimizer = optimizer  # accelerate's takes no step while another pack in the process accumulates
        self._ema = make_ema(list(self._network.parameters()), self.settings.ema_decay)
        self._states = StateFolder(self.folder, self.settings.keep)
        self._losses = LossLog(self.folder)
        self._owns_folder = False
        self._updating = False

    @property
    def device(self) -> torch.device:
        """Where the modules are; batches go there."""
        return self._device

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and shows things."""
        return self.accelerator.is_main_process

    @property
    def is_half_updated(self) -> bool:
        """Whether it was stopped in the middle of an update: the newest whole state is the last one that was saved."""
        return self._updating

    def train(
        self, training_step: TrainingStep, until: int | None = None, on_step: OnStep | None = None
    ) -> TrainingRun:
        """Take steps up to `until` (default: all); saved every few minutes, at the end, and when anything stops it.

        Ctrl-C and the like wait for the end of the step, and in all processes for the same one. A step whose loss or
        gradients are not finite changes nothing and is logged; ValueError when they persist. OSError when a state
        cannot be written, ValueError when `folder` holds a run that was not resumed or another process trains there.
        """
        until = self.settings.steps if until is None else min(until, self.settings.steps)
        self._check_complete()
        if self.is_main and not self._owns_folder and run_exists(self.folder):
            raise ValueError(f"{self.folder} holds a run already: resume() it, or give this one a new folder")
        several = self.accelerator.num_processes > 1  # which stop together, not each at a step of its own
        held_back: AbstractContextManager[list[int]] = unbroken() if several else nullcontext([])
        with run_lock(self.folder), held_back as held:
            if self.is_main:
                self._states.check(self.step)
                for name in (STATE, SETTINGS, LOSSES):
                    remove_parts(self.folder / name)
            self._steps(training_step, until, on_step, held)
            self.gather()
            self.accelerator.wait_for_everyone()  # whoever goes on may read what was saved
        return self

    @contextmanager
    def leaving_device(self, *others: Any) -> Iterator[None]:
        """Train and make clips with a run, which then leaves its device, as do `others`: modules it learned beside.

        What is left are modules in memory with averaged weights; after an error, when the folder has all that is kept,
        their shapes alone. To train on, make the run anew and resume() it. Where weights are shared among processes,
        all stays where it is.
        """
        place = torch.device("meta")  # a device that has failed gives nothing back
        try:
            yield
            place = torch.device("cpu")
        finally:
            if not self.sharded:
                self._leave_for(place)
                for module in others:
                    module.to(place)

    def _leave_for(self, place: torch.device) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        self.optimizer.param_groups.clear()
        if self._ema is not None and place.type != "meta":
            self._ema.copy_to(self._network.parameters())
        self._ema = None
        self._network.to(place)
        self._device = place

    def _check_complete(self) -> None:
        """Raise ValueError unless the run has all that it learns with."""
        if self._updating or not self.optimizer.param_groups:
            why = "was stopped in the middle of an update" if self._updating else "has left its device"
            raise ValueError(f"this run {why}: make it anew and resume() {self.folder}")

    def _steps(self, training_step: TrainingStep, until: int, on_step: OnStep | None, held: list[int]) -> None:
        """Take the steps; what was learned is saved whatever ends them. `held`: signals that were held back before."""
        saved, together = time.monotonic(), False
        try:
            while self.step < until and not self._out_of_time():
                began = time.monotonic()
                with unbroken() as held_now:
                    losses, together = self._update(training_step, held, held_now)
                self._add_seconds(time.monotonic() - began)
                if together:
                    raise KeyboardInterrupt
                if on_step is not None:
                    on_step(self.step, losses)
                if self._all_agree(time.monotonic() - saved > self.settings.save_seconds):
                    self.save()
                    saved = time.monotonic()
            self.save()
        except StateNotSaved:
            raise
        except BaseException as error:
            # Stopped in the middle of an update, the last saved state is the newest whole one; so it is where a state
            # needs the shares of all processes and they did not stop together.
            whole_now = not self._updating and (together or not self.sharded)
            if whole_now:
                with suppress(KeyboardInterrupt):  # asked to stop once more
                    self._save_after(error)
            if isinstance(error, KeyboardInterrupt) and self.is_main:
                raise KeyboardInterrupt(kept(self.folder, self.step if whole_now else None)) from error
            raise

    def _save_after(self, error: BaseException) -> None:
        """Save what an error stopped; where a device has failed and gives nothing back, that is logged alone."""
        try:
            self.save()
        except StateNotSaved as failed:
            if not (isinstance(error, RuntimeError) and failed_on_device(failed)):
                raise
            log.warning("%s", failed)

    @property
    def _batches_a_step(self) -> int:
        return self.settings.gradient_accumulation_steps * self.accelerator.num_processes

    @property
    def done(self) -> float:
        """How much of the run lies behind it, 0..1."""
        return self.settings.done(self.step, self.seconds)

    def _add_seconds(self, passed: float) -> None:
        """Count the time of a step, where it is limited by one clock: the rate must be the same in all processes."""
        limited = self.settings.minutes is not None and self.accelerator.num_processes > 1
        self.seconds += decided_by_first(passed) if limited else passed

    def _out_of_time(self) -> bool:
        return self.settings.share_of_time(self.seconds) >= 1

    def _all_agree(self, due: bool) -> bool:
        """Whether to do what all processes must do at once, where they must."""
        return decided_by_first(due) if self.sharded else due

    def _update(self, training_step: TrainingStep, *held: list[int]) -> tuple[Mapping[str, float], bool]:
        """One step; returns its losses, and whether to stop after it, because a process has `held` back a signal."""
        for group in self.optimizer.param_groups:
            rate = self.settings.rate_of(group["module"], self.step, self.seconds)
            group["lr"] = self.settings.learning_rate * rate
        self._gathered = None
        self.optimizer.zero_grad(set_to_none=True)
        generator, parts = torch.Generator(), []
        for part in range(self.settings.gradient_accumulation_steps):
            generator.manual_seed(self._seed(part))
            with self.autocast():
                losses = self._network(training_step, self.step, generator)
            (losses["loss"] / self.settings.gradient_accumulation_steps).backward()
            parts.append({name: value.detach() for name, value in losses.items()})
        if not self.sharded:  # where it is done on the way back
            average_gradients(self.accelerator, self._network.parameters())
        clip = self.accelerator.clip_grad_norm_ if self.sharded else nn.utils.clip_grad_norm_
        norm = clip(list(self._network.parameters()), self.settings.max_grad_norm)
        numbers, norm = read_together(parts, whole(norm) if self.sharded else norm)
        values, stopped = average_values(numbers, any(held))
        finite = math.isfinite(values["loss"]) and math.isfinite(norm)  # the same in all processes
        self._updating = True
        if finite:
            self.optimizer.step()
            if self._ema is not None:
                self._ema.step(self._network.parameters())
        self.skipped = 0 if finite else self.skipped + 1
        written = values if finite else {"skipped": self.skipped}
        self._losses.add(self.step, written)
        self.step += 1
        self.batches += self._batches_a_step
        self._updating = False
        if not finite:
            self._report_skipped(f"step {self.step - 1} had the loss {values['loss']} and a gradient of norm {norm}")
        return written, stopped

    def _report_skipped(self, what: str) -> None:
        if self.skipped >= MOST_SKIPPED:
            raise ValueError(
                f"{what}, the last of {self.skipped} in a row that are not finite: training stopped, and {self.folder} "
                f"keeps the weights from before them. Lower the learning rate of {self.settings.learning_rate} or "
                "check the data; without its state.pt the run goes on from an older state"
            )
        if self.is_main:
            log.warning("%s: skipped, %d in a row up to now", what, self.skipped)

    def _seed(self, part: int) -> int:
        """One number for each batch of the run."""
        place = self.batches + part * self.accelerator.num_processes + self.accelerator.process_index
        return nth_seed(self.settings.seed, place)

    def gather(self) -> None:
        """Where weights are shared, bring the averaged ones together in the first process, for `averaged`.

        All processes must call it; `train` does at its end.
        """
        if self.sharded:
            self._gathered = whole(self._ema_of_shares(), keep=self.is_main)

    def averaged(self) -> dict[str, dict[str, Tensor]]:
        """State dicts of the modules with averaged weights (the plain ones when there is no average)."""
        if not self.sharded:
            return self._ema_of_shares()
        if self._gathered is None or not self.is_main:
            raise ValueError("the weights of this run are shared among processes: gather() them, in the first process")
        return self._gathered

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which networks compute in the precision of the run."""
        return autocast_to_bf16(self.device, self.precision == "bf16")

    @contextmanager
    def averaged_in_place(self) -> Iterator[None]:
        """Put averaged weights into the modules for a while, to make clips with them."""
        with averaged(self._ema, list(self._network.parameters())):
            yield

    def _ema_of_shares(self) -> dict[str, dict[str, Tensor]]:
        with self.averaged_in_place():
            return {
                name: {key: value.detach().clone() for key, value in module.state_dict().items()}
                for name, module in self.modules.items()
            }

    def save(self) -> Path:
        """Write the whole state beside the old one and rename it into place; OSError where that fails."""
        if not self.is_main and not self.sharded:
            return self.folder
        self._check_complete()
        state = {
            "step": self.step,
            "batches": self.batches,
            "skipped": self.skipped,
            "seed": self.settings.seed,
            **tensors_of(self._network, self.optimizer, self._ema),
        }
        if self.settings.minutes is not None:  # a run without a limit of time has the same state however long it took
            state["seconds"] = self.seconds
        if self.sharded:
            state = whole(state, keep=self.is_main)
        if not self.is_main:
            return self.folder
        try:
            with unbroken():
                self._states.check(self.step)
                write_settings(self.folder, self._described())
                self._losses.write()  # before the state: what is too much can be dropped, what is missing not be made
                self._states.write(state)
                self._owns_folder = True
        except StateNotSaved:
            raise
        except (OSError, RuntimeError) as error:
            raise not_saved(self.folder, state, error) from error
        return self.folder

    def resume(self) -> bool:
        """Go on from `folder`; False when there is nothing yet.

        ValueError if it belongs to other modules or another seed, has no state that can be read, or is in use.
        """
        lock: AbstractContextManager[None] = run_lock(self.folder) if run_exists(self.folder) else nullcontext()
        with lock:
            state = self._states.read()
            if state is not None:
                check_settings(self.folder, self._described(), state.get("seed"))
                self._load(state)
            agree(self.step, self.folder)  # nobody writes before all have read
            if self.is_main and state is not None:
                self._losses.rewind(self.step)
        self._owns_folder = True
        return state is not None

    def _load(self, state: Mapping[str, Any]) -> None:
        load_tensors(self.folder, state, self._network, self.optimizer, self._ema, self.settings.ema_decay)
        self.step, self.skipped = state["step"], state.get("skipped", 0)
        self.seconds = float(state.get("seconds", 0.0))
        self.batches = state.get("batches", self.step * self._batches_a_step)

    def _described(self) -> dict[str, Any]:
        return {"processes": self.accelerator.num_processes, **asdict(self.settings), "precision": self.precision}


def open_run(
    modules: dict[str, nn.Module], settings: TrainSettings, folder: Path, description: Mapping[str, Any]
) -> TrainingRun:
    """A run in `folder`: a new one of what `description` says, or the one that is there, where it stopped.

    ValueError when the one that is there is of something else.
    """
    earlier_description(folder, description)
    run = TrainingRun(modules, settings, folder)
    run.resume()
    if run.is_main:
        write_description(folder, description)
    return run


def save_memory(network: nn.Module) -> None:
    """Turn on gradient checkpointing in the modules that have it; ValueError where none has."""
    able = [module for module in network.modules() if hasattr(module, "enable_gradient_checkpointing")]
    if not able:
        raise ValueError("none of these modules has gradient checkpointing; train without it, or with a smaller batch")
    for module in able:
        module.enable_gradient_checkpointing()  # type: ignore[operator]  # torch takes it for a tensor
