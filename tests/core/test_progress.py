"""Bars on a terminal: one line at a time, and every number on it once."""

from __future__ import annotations

import pytest
import torch
from pyramid_video.host import use_host
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.nodes.messages import counting
from pyramid_video.nodes.training_progress import ProgressReporter
from pyramid_video.training.run.loop import TrainingRun, TrainSettings


@pytest.fixture
def host(tmp_path):
    host = StandaloneHost(output=tmp_path, device="cpu")
    use_host(host)
    yield host
    use_host(None)


def test_work_inside_other_work_draws_no_bar_of_its_own(host, capsys):
    outer = host.progress(10)
    outer.update(1, "training")
    host.progress(4).update(2, "decoding")
    outer.update(10)
    host.progress(4).update(2, "sampling")
    said = capsys.readouterr().err
    assert "training" in said and "sampling" in said and "decoding" not in said


def test_what_is_counted_but_not_to_its_end_leaves_the_next_bar_alone(host, capsys):
    """As when the last clips of a set are in the cache."""
    with counting("encoding") as update:
        update(3, 9)
    host.progress(4).update(2, "training")
    assert "training" in capsys.readouterr().err


@pytest.mark.parametrize("shows_pace", (True, False))
def test_a_line_on_training_tells_pace_and_time_left_once(host, tmp_path, monkeypatch, shows_pace):
    from pyramid_video.host.standalone.progress import Bar

    monkeypatch.setattr(Bar, "shows_pace", shows_pace)
    watch = ProgressReporter(TrainingRun({"line": torch.nn.Linear(1, 1)}, TrainSettings(steps=5), tmp_path / "run"))
    watch.last = {"loss": 0.25}
    words = watch.words(2)
    assert "loss 0.2500" in words and ("left" in words) is ("step" in words) is not shows_pace
