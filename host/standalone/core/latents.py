"""The core nodes between pictures and latents, and the one that resizes pictures."""

from __future__ import annotations

from typing import Any

from ... import get_host

CHUNK = 2  # latent frames decoded at once: the same pictures as from all at once, in less memory
LARGEST_SIDE = 16384


class VAEDecode:
    DESCRIPTION = "Turns a latent video into pictures."
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"samples": ("LATENT",), "vae": ("VAE",)}}

    def decode(self, samples: dict[str, Any], vae: Any) -> tuple[Any, ...]:
        return (get_host().decode(vae, samples["samples"], CHUNK),)


class VAEDecodeTiled:
    DESCRIPTION = "Turns a latent video into pictures tile by tile, in less memory; tiles may leave faint seams."
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "samples": ("LATENT",),
                "vae": ("VAE",),
                "tile_size": ("INT", {"default": 512, "min": 64, "max": 4096, "step": 32}),
                "overlap": ("INT", {"default": 64, "min": 0, "max": 4096, "step": 32}),
                "temporal_size": ("INT", {"default": 64, "min": 8, "max": 4096, "step": 4}),
                "temporal_overlap": ("INT", {"default": 8, "min": 4, "max": 4096, "step": 4}),
            }
        }

    def decode(
        self,
        samples: dict[str, Any],
        vae: Any,
        tile_size: int,
        overlap: int = 64,
        temporal_size: int = 64,
        temporal_overlap: int = 8,
    ) -> tuple[Any, ...]:
        # Our VAE blends tiles and joins chunks by rules of its own, so the overlaps have nothing to say.
        chunk = max(2, temporal_size // get_host().vae_info(vae).time_compression)
        return (get_host().decode(vae, samples["samples"], chunk, tile_size),)


class VAEEncode:
    DESCRIPTION = "Turns pictures that follow each other into a latent video."
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"pixels": ("IMAGE",), "vae": ("VAE",)}}

    def encode(self, pixels: Any, vae: Any) -> tuple[Any, ...]:
        return ({"samples": get_host().encode(vae, pixels)},)


class ImageScale:
    DESCRIPTION = "Resizes pictures; 0 for one side keeps their shape."
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "scale"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        side = {"default": 512, "min": 0, "max": LARGEST_SIDE, "step": 1}
        return {
            "required": {
                "image": ("IMAGE",),
                "upscale_method": (["nearest-exact", "bilinear", "area", "bicubic"],),
                "width": ("INT", side),
                "height": ("INT", side),
                "crop": (["disabled", "center"],),
            }
        }

    def scale(self, image: Any, upscale_method: str, width: int, height: int, crop: str) -> tuple[Any, ...]:
        from torch.nn.functional import interpolate

        h, w = image.shape[1:3]
        if not width and not height:
            return (image,)
        width, height = width or max(1, round(w * height / h)), height or max(1, round(h * width / w))
        if crop == "center":
            kept_h, kept_w = min(h, round(w * height / width)), min(w, round(h * width / height))
            top, left = (h - kept_h) // 2, (w - kept_w) // 2
            image = image[:, top : top + kept_h, left : left + kept_w]
        return (interpolate(image.movedim(-1, 1), (height, width), mode=upscale_method).movedim(1, -1).clamp(0, 1),)


NODES = {node.__name__: node for node in (VAEDecode, VAEDecodeTiled, VAEEncode, ImageScale)}
NAMES = {
    "VAEDecode": "VAE Decode",
    "VAEDecodeTiled": "VAE Decode (Tiled)",
    "VAEEncode": "VAE Encode",
    "ImageScale": "Upscale Image",
}
