"""Importing this makes `pyramid_video` the checkout these programs lie in, installed or not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if "pyramid_video" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "pyramid_video", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["pyramid_video"] = _module
    _spec.loader.exec_module(_module)
