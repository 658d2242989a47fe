"""Latents and texts made by one of several processes, for the tests: `cache_worker.py VIDEOS FOLDER [fail]`.

Each writes down what it encoded, and what it was told at the end. With `fail` the second process breaks down at its
second piece.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import conftest

conftest.import_checkout()

import test_latent_cache  # noqa: E402
import test_text_cache  # noqa: E402
from pyramid_video.runner.ranks import end_if_connected  # noqa: E402
from pyramid_video.training.data import latent_cache, text_cache  # noqa: E402
from pyramid_video.training.data.video_folder import VideoFolder  # noqa: E402

SMALL_PIECES = ((latent_cache, "CHUNK_BYTES", 1), (text_cache, "TEXTS_PER_FILE", 2))
TEXTS = [f"text {i}" for i in range(9)]


class Failing:
    """An encoder that gives up at its second call, where it is told to."""

    def __init__(self, encode, fail: bool) -> None:
        self.encode, self.fail, self.calls = encode, fail, 0

    def __call__(self, thing):
        self.calls += 1
        if self.fail and self.calls == 2:
            raise ValueError("the card fell out")
        return self.encode(thing)


def make(videos: Path, folder: Path, fail: bool = False):
    """Latents of 12 clips and features of ten texts."""
    encode, texts = test_latent_cache.Encoder(), test_text_cache.Encoder()
    errors = {}
    parts = {
        "latents": lambda: latent_cache.prepare_latents(
            VideoFolder(videos, **test_latent_cache.SETTINGS), Failing(encode, fail), folder, 12, 0, "vae"
        ),
        "texts": lambda: text_cache.prepare_texts(TEXTS, Failing(texts, fail), folder, "clip"),
    }
    found = {}
    for name, part in parts.items():
        try:
            found[name] = part()
        except (ValueError, OSError) as error:
            errors[name] = str(error)
    return {"clips": encode.clips, "texts": texts.asked, "errors": errors}, found


if __name__ == "__main__":
    videos, folder, *more = sys.argv[1:]
    rank = os.environ["RANK"]
    for place in SMALL_PIECES:
        setattr(*place)
    report, _ = make(Path(videos), Path(folder), more == ["fail"] and rank == "1")
    Path(folder, f"report-{rank}.json").write_text(json.dumps(report))
    end_if_connected()
