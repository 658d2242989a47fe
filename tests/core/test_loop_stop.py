"""A run that is asked to stop keeps its last step, and two processes never undo each other's run."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyramid_video
import pytest
from loop_toys import SETTINGS, assert_same, make_run, objective_of, saved, train
from pyramid_video.models.file_lock import LockedError
from pyramid_video.runner.signals import ending_as_ctrl_c
from pyramid_video.training.run import stopping
from pyramid_video.training.run.run_lock import LOCK, run_lock
from pyramid_video.training.run.run_state import STATE
from pyramid_video.training.run.stopping import unbroken

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs signals that a process sends to itself")
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("where", ["objective", "average", "state", "losses", "on_step"])
def test_wherever_a_signal_falls_the_step_is_kept(tmp_path, monkeypatch, number, where):
    run = make_run(tmp_path)
    objective, calls = objective_of(run), []

    def at(place: str, work=lambda *_: None):
        def call(*arguments):
            calls.append(place)
            if place == where and run.step == 3:
                send(number, *([] if number == signal.SIGINT else SIGNALS[1:]))  # and once more, of either kind
            return work(*arguments)

        return call

    monkeypatch.setattr(run._ema, "step", at("average", run._ema.step))
    monkeypatch.setattr(run._states, "write", at("state", run._states.write))
    monkeypatch.setattr(run._losses, "write", at("losses", run._losses.write))
    with ending_as_ctrl_c(), pytest.raises(KeyboardInterrupt, match=r"keeps the run after [34] steps"):
        run.settings.__dict__["save_seconds"] = 0.0 if where in ("state", "losses") else 1e9
        run.train(at("objective", objective), on_step=at("on_step"))
    done = 4 if where in ("objective", "average") else 3
    assert saved(tmp_path)["step"] == run.step == done
    again = make_run(tmp_path)
    assert again.resume()
    assert_same(train(again), train(make_run(tmp_path / "straight")))
    assert not (tmp_path / LOCK).exists()


SWALLOWS = """
import os, signal, time
try:
    for number in {numbers}:
        os.kill(os.getpid(), number)
    time.sleep(0.2)
except BaseException:  # as a C extension does that an exception meets, or a callback
    pass
"""


@pytest.mark.parametrize("numbers", [[number] for number in SIGNALS] + [[signal.SIGTERM, signal.SIGINT]])
def test_a_signal_during_an_import_ends_the_command_when_the_module_is_whole(tmp_path, monkeypatch, numbers):
    (tmp_path / "swallows_signals.py").write_text(SWALLOWS.format(numbers=[int(number) for number in numbers]))
    monkeypatch.syspath_prepend(tmp_path)
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(KeyboardInterrupt), ending_as_ctrl_c():
        try:
            import swallows_signals

            time.sleep(10)
        finally:
            whole = sys.modules.pop("swallows_signals", None)
    assert whole is not None and whole is swallows_signals
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_is_stopped_while_it_is_loaded_says_one_line(tmp_path, number):
    """The module that is loaded first is one that signals, and what it raises would become another error."""
    (tmp_path / "argparse.py").write_text(
        f"{SWALLOWS.format(numbers=[int(number)])}\nimport sys\nsys.path.remove(os.path.dirname(__file__))\n"
        "del sys.modules['argparse']\nimport argparse\n"
    )
    package = Path(pyramid_video.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(package)])}
    command = [sys.executable, "-m", pyramid_video.__name__, "nodes"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "pyramid-video: interrupted\n")


@pytest.fixture
def import_signalling(tmp_path, monkeypatch):
    """Imports a module that signals its own process, and does nothing else."""
    (tmp_path / "signals_itself.py").write_text(f"import os\nos.kill(os.getpid(), {int(signal.SIGINT)})\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: importlib.import_module("signals_itself")
    sys.modules.pop("signals_itself", None)


def test_a_signal_that_waited_for_an_import_comes_once_whoever_hears_it_then(import_signalling):
    """Training counts the presses of who is impatient, so it may not hear one twice."""
    saved_all = False
    with ending_as_ctrl_c():
        import_signalling()
        with pytest.raises(KeyboardInterrupt), ending_as_ctrl_c():
            try:
                time.sleep(10)
            finally:
                time.sleep(0.2)
                saved_all = True
    assert saved_all


def test_a_signal_that_fell_into_the_last_import_counts(import_signalling):
    with pytest.raises(KeyboardInterrupt), ending_as_ctrl_c():
        import_signalling()


def test_of_several_signals_one_counts_and_ctrl_c_is_heard_again():
    with pytest.raises(KeyboardInterrupt), ending_as_ctrl_c():
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGTERM, signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)
                time.sleep(10)


def test_blocks_are_loaded_when_they_are_asked_for():
    """The command line hears signals from its first import on, so that one has to be short."""
    lines = [
        "import sys, pyramid_video",
        "assert not {'pyramid_video.nodes', 'torch'} & set(sys.modules)",
        "assert set(pyramid_video.NODE_CLASS_MAPPINGS) == set(pyramid_video.NODE_DISPLAY_NAME_MAPPINGS) != set()",
        "assert not hasattr(pyramid_video, 'comfy_entrypoint')",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(pyramid_video.__file__).parent.parent)}
    subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment, check=True, timeout=120)


def test_ctrl_break_of_windows_waits_for_the_end_of_a_step(monkeypatch):
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    whole = False
    with ending_as_ctrl_c(), pytest.raises(KeyboardInterrupt), unbroken() as held:
        send(signal.SIGUSR1)
        assert held == [signal.SIGUSR1]
        whole = True
    assert whole


def test_what_the_caller_ignores_stays_ignored():
    """As `nohup` asks for SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_as_ctrl_c():
            send(signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_presses_ctrl_c_again_does_not_wait_for_the_step(monkeypatch):
    monkeypatch.setattr(stopping, "IMPATIENT", -1.0)
    done = []
    with pytest.raises(KeyboardInterrupt), unbroken():
        send(signal.SIGINT)
        done.append("goes on")
        send(signal.SIGINT)
        done.append("is not reached")
    assert done == ["goes on"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_process_is_told_who_trains(tmp_path):
    """And nothing of it is written; a thread of this process stands for the other one."""
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with run_lock(tmp_path):
            inside.set()
            done.wait(20)

    other = threading.Thread(target=hold)
    other.start()
    assert inside.wait(20)
    try:
        with pytest.raises(LockedError, match=rf"process {os.getpid()} on .* has been training .* another name"):
            train(make_run(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    finally:
        done.set()
        other.join(20)
    train(make_run(tmp_path))


def test_a_lock_within_a_lock_is_one(tmp_path):
    with run_lock(tmp_path), run_lock(tmp_path / "x" / ".."):
        train(make_run(tmp_path))
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("when", ["before its first step", "while it trains"])
def test_a_state_that_is_further_on_is_never_replaced(tmp_path, when):
    """Where the file system has no locks, or somebody copies a run into the folder of another process."""
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    train(make_run(folder), until=2)
    shutil.copytree(folder, elsewhere)
    slow = make_run(folder)
    slow.resume()
    fast = make_run(elsewhere)
    fast.resume()
    train(fast)
    if when == "before its first step":
        shutil.copy(elsewhere / STATE, folder / STATE)
    before = saved(elsewhere)
    with pytest.raises(OSError, match=r"is of step 8, and this process is at step [25]"):
        train(slow, until=5, on_step=lambda step, _: step == 4 and shutil.copy(elsewhere / STATE, folder / STATE))
    assert saved(folder)["step"] == before["step"] == SETTINGS.steps
    again = make_run(folder)
    assert again.resume() and again.step == 8
    assert_same(again, fast)
