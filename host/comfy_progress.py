"""Progress, a line of text on the node, previews and interrupts, through what ComfyUI offers for them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
import latent_preview
from comfy_execution.utils import get_executing_context
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..samplers.pyramid import Call

SMALLEST_PREVIEW = 128  # pixels of the longer edge; the small model's latents have 8


class Bar:
    """The bar of the node that runs, with a preview where there is one."""

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


class SamplingProgress:
    """The callback of a sampler: a step of the bar per model call, with a preview where the host is set to show any."""

    def __init__(self, patcher: Any) -> None:
        self.bar = Bar(1)
        self.previewer = None
        self.find_previewer(patcher)

    def find_previewer(self, patcher: Any) -> None:
        try:
            self.previewer = latent_preview.get_previewer(patcher.load_device, patcher.model.latent_format)
        except Exception as error:
            logging.warning("Pyramid Video: no previews, because %s", error)

    def __call__(self, step: int, clean: Tensor, x: Tensor, total: int) -> None:
        self.bar.update(step + 1, preview=self.picture(clean), total=total)

    def picture(self, clean: Tensor) -> Image | None:
        """The first frame of the unit in work; a preview that fails is the last one, and the run goes on."""
        if self.previewer is None:
            return None
        try:
            return self.previewer.decode_latent_to_preview_image("JPEG", enlarge(clean))[1]
        except Exception as error:
            logging.warning("Pyramid Video: no more previews in this run, because %s", error)
            self.previewer = None
            return None


def enlarge(clip: Tensor) -> Tensor:
    """The first frame of the first clip `(b, c, t, h, w)`, large enough to be looked at."""
    frame = clip[:1, :, 0]
    factor = max(1, -(-SMALLEST_PREVIEW // max(frame.shape[-2:])))
    if factor > 1:
        frame = F.interpolate(frame, scale_factor=factor, mode="bilinear")
    return frame.unsqueeze(2)


def describe(call: Call) -> str:
    """Where a run is, in words."""
    return (
        f"frame group {call.unit + 1} of {call.units}, resolution {call.stage + 1} of {call.stages}, "
        f"step {call.step + 1} of {call.steps}"
    )


def say(text: str) -> None:
    """Write a line on the node that runs, if there is one."""
    context = get_executing_context()
    if context is not None:  # then there is a server, which a script that borrows the host's classes need not have
        from server import PromptServer

        PromptServer.instance.send_progress_text(text, context.node_id)
