"""Pictures brought to another size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def fill(images: Tensor, width: int, height: int) -> Tensor:
    """Resize pictures `(n, h, w, c)` so that they cover `width` x `height`, cutting off what sticks out evenly.

    Bilinear. Clips of a data set are scaled by `training.data.buckets.fill`, bicubic: neither can take the place of the
    other without changing start images or the latents in caches.
    """
    from torch.nn.functional import interpolate

    h, w = images.shape[1:3]
    if (w, h) == (width, height):
        return images
    kept_h, kept_w = min(h, max(1, round(w * height / width))), min(w, max(1, round(h * width / height)))
    top, left = (h - kept_h) // 2, (w - kept_w) // 2
    centre = images[:, top : top + kept_h, left : left + kept_w].movedim(-1, 1)  # (n, c, h, w)
    resized = interpolate(centre, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized.movedim(1, -1).clamp(0, 1)
