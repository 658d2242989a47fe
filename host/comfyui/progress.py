"""Progress and interrupts through what ComfyUI offers for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
from torch import Tensor

from ..own_bar import has_own_bar
from .page import say
from .preview import Preview

if TYPE_CHECKING:
    from PIL.Image import Image


class Bar:
    """The bar of the node that runs, with a preview where there is one."""

    shows_pictures = True
    shows_pace = False

    def __init__(self, total: int) -> None:
        self.total = total
        self.host_bar = comfy.utils.ProgressBar(total)

    def update(
        self, value: int, text: str | None = None, preview: Image | None = None, total: int | None = None
    ) -> None:
        """Show that `value` of the total is done; raises the host's interrupt when the user cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.total = total or self.total
        if text:
            say(text)
        self.host_bar.update_absolute(value, self.total, preview and ("JPEG", preview, None))

    def close(self) -> None:
        """Nothing: the host takes its bar away with the node that runs."""


class PartBar(Bar):
    """The bar of what a node may do as the whole of its work or as a part of it; a part only notices interrupts."""

    def __init__(self) -> None:
        self.is_part = has_own_bar()
        if not self.is_part:
            super().__init__(1)

    def update(
        self, value: int, text: str | None = None, preview: Image | None = None, total: int | None = None
    ) -> None:
        if self.is_part:
            comfy.model_management.throw_exception_if_processing_interrupted()
        else:
            super().update(value, text, preview, total)


class SamplingProgress:
    """The callback of a sampler: a step of the bar per model call, with a preview where the host is set to show any."""

    def __init__(self, patcher: Any) -> None:
        self.bar = Bar(1)
        self.preview = Preview(patcher)

    def __call__(self, step: int, clean: Tensor, clip: Tensor, total: int) -> None:
        """`clean` is the estimate of what is being made, `clip` all that there is so far, both normalised."""
        self.bar.update(step + 1, preview=self.preview.show(clean, clip, last=step + 1 == total), total=total)
