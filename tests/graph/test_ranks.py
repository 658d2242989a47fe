"""Several processes on one graph: each trains, and only the first makes files."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyramid_video.drawings import curves
from pyramid_video.recipes.emoji import figure_vae
from pyramid_video.recipes.emoji.recipe import VAE_FILE
from pyramid_video.runner.ranks import own_outputs
from pyramid_video.runner.registry import node_classes
from pyramid_video.runner.train import prepare, train_part
from pyramid_video.training.run import processes
from pyramid_video.training.run.launch import is_first

PROMPT = {
    "train": {"class_type": "PyramidVideoTrainFlow", "inputs": {}},
    "curves": {"class_type": "SaveImage", "inputs": {}},
    "save": {"class_type": "PyramidVideoSaveTrained", "inputs": {}},
    "video": {"class_type": "SaveVideo", "inputs": {}},
}


@pytest.mark.parametrize(("rank", "expected"), [(None, list(PROMPT)), ("0", list(PROMPT)), ("1", ["train"])])
def test_only_the_first_process_makes_files(monkeypatch, rank, expected):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert own_outputs(PROMPT, list(PROMPT), node_classes()) == expected
    assert is_first() == (rank != "1")


@pytest.mark.parametrize("first", [True, False])
def test_only_the_first_process_exports_what_was_trained(monkeypatch, first):
    """Under FSDP the others do not even have the whole weights."""
    exported = []
    monkeypatch.setattr(
        "pyramid_video.training.data.datasets.AnimationDataset", lambda *_, size: SimpleNamespace(size=size)
    )
    trained = SimpleNamespace(run=SimpleNamespace(is_main=first), save=lambda path: exported.append(path) or path)
    monkeypatch.setattr(figure_vae, "train_figure_vae", lambda *_, **__: trained)
    monkeypatch.setattr(curves, "save_curves", lambda folder: folder / "curves.png")
    values = dict.fromkeys(("animations", "steps", "clips", "judge_from", "begin_from", "pixels", "minutes"))
    options = argparse.Namespace(**values, part="vae", seed=0, run=Path("run"), out=Path("out"))
    assert list(train_part(options, *prepare(options))) == [Path("out", VAE_FILE), Path("run/curves.png")] * first
    assert len(exported) == first


def test_fsdp_that_is_asked_for_and_not_there_is_told_once(monkeypatch, caplog):
    processes.warn_unsharded.cache_clear()
    with caplog.at_level(logging.WARNING):
        processes.start_accelerator()
        assert not caplog.records
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
        for _ in range(2):
            processes.start_accelerator()
    (record,) = caplog.records
    assert "asks for FSDP" in record.getMessage() and "whole model" in record.getMessage()


def test_processes_that_are_not_connected_do_not_write_the_same_run(monkeypatch):
    processes.start_accelerator()  # alone, and it stays so in this process
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started.*write the same run"):
        processes.start_accelerator()
