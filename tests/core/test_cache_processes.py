"""Several processes share the making of latents and texts; one that fails ends it for all, and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from cache_worker import SMALL_PIECES, TEXTS, make
from test_latent_cache import same_rows, videos  # noqa: F401 (a fixture)
from test_loop_processes import LAUNCH

WORKER = Path(__file__).with_name("cache_worker.py")
CLIPS = 12


def launch(clips, folder, *more):
    """What both processes report."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, *LAUNCH.split(), str(WORKER), str(clips), str(folder), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"report-{rank}.json").read_text()) for rank in (0, 1)]


def test_the_work_is_shared_and_goes_on_after_a_failure(videos, tmp_path, monkeypatch):  # noqa: F811
    for place in SMALL_PIECES:
        monkeypatch.setattr(*place)
    folder, other = tmp_path / "two", tmp_path / "one"
    first, second = launch(videos, folder, "fail")
    for part in ("latents", "texts"):
        assert second["errors"][part] == "the card fell out"
        assert first["errors"][part] == "process 1 of 2 stopped, and the others with it: the card fell out"
    assert (first["clips"], second["clips"]) == (2, 1)
    assert (len(first["texts"]), len(second["texts"])) == (2, 1)

    again = launch(videos, folder)
    assert all(not report["errors"] and report["clips"] > 3 and len(report["texts"]) > 2 for report in again)
    assert sum(report["clips"] for report in again) == CLIPS - 3
    asked = [text for report in (first, second, *again) for text in report["texts"]]
    assert sorted(asked) == sorted(["", *TEXTS])

    report, shared = make(videos, folder)
    assert report["clips"] == 0 and not report["texts"]
    _, alone = make(videos, other)
    assert same_rows(shared["latents"], alone["latents"])
    files = [sorted(place.glob(f"{alone['latents'].key}/*")) for place in (folder, other)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
