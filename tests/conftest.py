"""Makes the checkout importable as `pyramid_video`, whatever folder pytest starts in and whatever is installed."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = Path(os.environ.get("PYRAMID_VIDEO_REFERENCE", ROOT / "tests" / "reference"))


class RootIsNoPackage:
    """The repository root has an `__init__.py` for ComfyUI; pytest must not import it as a test package."""

    @staticmethod
    def pytest_collect_directory(path, parent):
        if Path(path) == ROOT:
            return pytest.Dir.from_parent(parent, path=path)


def import_checkout() -> None:
    if "pyramid_video" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "pyramid_video", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["pyramid_video"] = module
    spec.loader.exec_module(module)


def hear_signals() -> None:
    """Undo what `nohup`, `&` and some CI machines do: processes that tests start would be deaf to signals as well."""
    for name, usual in (
        ("SIGINT", signal.default_int_handler),
        ("SIGTERM", signal.SIG_DFL),
        ("SIGHUP", signal.SIG_DFL),
    ):
        number = getattr(signal, name, None)  # Windows knows no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_configure(config):
    hear_signals()
    config.pluginmanager.register(RootIsNoPackage())
    import_checkout()


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference cases; PYRAMID_VIDEO_REFERENCE names another one."""
    return REFERENCE
