"""Several processes on one graph: each trains, and only the first makes files."""

from __future__ import annotations

import pytest
from pyramid_video.runner.ranks import is_first, own_outputs
from pyramid_video.runner.registry import node_classes

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
