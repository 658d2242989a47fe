"""Training in processes of its own, for the tests: `loop_worker.py lives`, `loop_worker.py twins FOLDER` and `stopped`.

`lives` reads jobs, one JSON line each, and gives each a forked process: imports are paid once, and a job may have
itself killed by SIGKILL at its n-th moment. Moments are the calls and returns of Python, so they lie everywhere, also
between the parts of a file that is being written. `twins` is one of several processes, or alone in their place. In
`stopped FOLDER` the last of several processes is asked to end, of a run with whole and of one with shared weights.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest

conftest.import_checkout()

import torch  # noqa: E402
from loop_toys import SETTINGS, make_run, train  # noqa: E402
from pyramid_video.runner.ranks import end_if_connected  # noqa: E402
from pyramid_video.training.run.loop import TrainingRun  # noqa: E402
from torch import nn  # noqa: E402

ALWAYS_SAVING = replace(SETTINGS, steps=6, save_seconds=0.0)


class Moments:
    """Counts the moments of a life, notes those in which it saves, and ends it at one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at, self.now, self.saving = kill_at, 0, []

    def __call__(self, frame, event, argument) -> None:
        self.now += 1
        if self.now == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if frame.f_code is TrainingRun.save.__code__ and event in ("call", "return"):
            self.saving.append(self.now)


def live(folder: Path, kill_at: int | None) -> None:
    moments = Moments(kill_at)
    sys.setprofile(moments)
    run = make_run(folder, ALWAYS_SAVING)
    run.resume()
    train(run)
    sys.setprofile(None)
    spans = list(zip(moments.saving[::2], moments.saving[1::2], strict=True))
    (folder / "moments.json").write_text(json.dumps({"all": moments.now, "saving": spans}))


def lives() -> None:
    import accelerate.utils  # noqa: F401
    import diffusers.training_utils  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            try:
                live(Path(job["folder"]), job["kill_at"])
                os._exit(0)
            finally:
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def twins(folder: Path, accumulate: int = 1) -> None:
    """Train, be made anew, go on. Some batches have no finite loss, and some use modules and losses that others do not.

    The weights that a process brings are its own; those of the first shall count.
    """
    settings = replace(
        SETTINGS, steps=12, ema_decay=0.0, gradient_accumulation_steps=accumulate, weight_decay=0.1, save_seconds=1e9
    )
    for until in (5, settings.steps):
        own = torch.Generator().manual_seed(int(os.environ.get("RANK", 0)))
        modules = {name: nn.Linear(4, 2) for name in ("network", "sometimes", "never")}
        for parameter in nn.ModuleDict(modules).parameters():
            nn.init.normal_(parameter, generator=own)
        run = TrainingRun(modules, settings, folder)
        run.resume()

        def objective(step, generator, modules=modules):
            x = torch.randn(16, 4, generator=generator)
            losses = {"loss": (modules["network"](x) - x[:, :2]).square().mean()}
            if x[0, 0] > 0:
                losses["other"] = modules["sometimes"](x).square().mean()
                losses["loss"] = losses["loss"] + losses["other"]
            return losses if x[0, 1] < 1.2 else {**losses, "loss": losses["loss"] * float("inf")}

        run.train(objective, until)


def stopped(folder: Path) -> None:
    """Be stopped at another moment than the others, and write down at which step."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "graph"))
    from process_worker import launched_with_fsdp

    rank = int(os.environ["RANK"])
    timed(folder, rank)
    for name in ("whole", "shared"):
        if name == "shared":
            launched_with_fsdp()
        run = make_run(folder / name, replace(SETTINGS, ema_decay=0.0))

        def objective(step, generator, run=run):
            if step == 3 and rank:
                os.kill(os.getpid(), signal.SIGINT)
            return {"loss": run.modules["network"](torch.randn(16, 4, generator=generator)).square().mean()}

        try:
            run.train(objective)
        except KeyboardInterrupt as stop:
            (folder / f"{name}-{rank}.json").write_text(json.dumps([run.step, str(stop)]))


def timed(folder: Path, rank: int) -> None:
    """Learn for a limited time, one process slower than the other, and write down what came of it."""
    run = make_run(folder / "timed", replace(SETTINGS, steps=10_000, minutes=4 / 60, ema_decay=0.0))

    def objective(step, generator):
        time.sleep(0.01 * rank)
        return {"loss": run.modules["network"](torch.randn(16, 4, generator=generator)).square().mean()}

    run.train(objective)
    weights = run.modules["network"].weight.detach().flatten().tolist()
    (folder / f"timed-{rank}.json").write_text(json.dumps([run.step, run.seconds, weights]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    lives() if sys.argv[1] == "lives" else {"twins": twins, "stopped": stopped}[sys.argv[1]](Path(sys.argv[2]))
    end_if_connected()
