"""The block that fits the colours of previews for a model whose file does not hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..host import get_host
from .block import Block, Int, Output, Wire
from .messages import counting, show_message

if TYPE_CHECKING:
    from torch import Tensor

    from ..training.data.datasets import VideoDataset


class FitPreviewColours(Block):
    ID, NAME = "PyramidVideoFitPreviewColours", "Fit preview colours"
    CATEGORY = "pyramid video/view"
    DESCRIPTION = (
        "Previews of official models have false colours, because their files do not describe the latents. This block "
        "finds the true colours from a few videos and keeps them for all later previews."
    )
    ALIASES = (
        "latent rgb factors, latent2rgb, preview colors, preview colours, false colours, wrong preview, live preview"
    )
    REQUIRED = (
        Wire("model", "MODEL").tip("The official model whose previews need true colours."),
        Wire("vae", "VAE").tip("The VAE that belongs to it; another one gives wrong colours."),
        Wire("dataset", "VIDEO_DATASET").tip(
            "Colourful videos, from a dataset block. Ten are enough; captions are not used."
        ),
        Int("clips", 16, 4, 1000).tip(
            "How many clips are drawn; one in four is only used to measure the result. 4 is quick; above 50 little "
            "changes."
        ),
    )
    OUTPUTS = (Output("IMAGE", "A clip that was not used for the fit, and its preview beside it.", "comparison"),)
    FUNCTION = "fit"
    OUTPUT_NODE = True

    def fit(self, model, vae, dataset: VideoDataset, clips):
        from ..drawings.comparison import side_by_side
        from ..drawings.pen import playing_on_node
        from ..models.preview_colours import save_colours
        from ..training.data.preview_colours import fit_preview
        from .compatibility import check_vae_fits_model

        host = get_host()
        info = host.model_info(model)
        check_vae_fits_model(info, host.vae_info(vae))
        if info.latent_format.rgb_factors is not None:
            raise ValueError(f"previews of {info.name} already have true colours, so there is nothing to fit")

        def encode(video: Tensor) -> Tensor:
            return host.encode(vae, (video[0].permute(1, 2, 3, 0) + 1) / 2)

        with counting("encoding clips") as on_clip:
            fitted = fit_preview(dataset, encode, info.latent_format, clips, on_clip)
        save_colours(host.preview_colours, fitted.latent_format)
        pair, _ = side_by_side([fitted.pictures, fitted.previews], ["clip", "preview"])
        said = show_message(
            f"Previews of {info.latent_format.name} models now have true colours: they show "
            f"{max(0.0, fitted.explained):.0%} of the differences between places in clips that were not "
            "used for the fit."
        )
        return {"ui": {**said, **playing_on_node(pair, 4.0, name="colours")}, "result": (pair,)}


BLOCKS = (FitPreviewColours,)
