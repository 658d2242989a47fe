"""The core nodes that read and write files: what a workflow names stays inside the input and output folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....media.clips import read_picture
from ....media.video_reader import VIDEOS
from ... import get_host
from ...folders import resolve_inside
from ..video import Clip, named, read_clip, to_floats, write_mp4
from .saving import expand, graph_metadata, save_as

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CLIP_EXTENSIONS = (*VIDEOS, ".gif", ".webp")
HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}


def open_pictures(path: Path) -> tuple[Tensor, Tensor]:
    """All frames of a picture file as `(n, h, w, 3)` in 0..1, and what is transparent as `(n, h, w)`."""
    with named(path):
        frames = read_picture(path)
    masks = to_floats([frame[..., 3] for frame in frames])
    return to_floats([frame[..., :3] for frame in frames]), 1 - masks


class LoadImage:
    DESCRIPTION = "Opens a picture in the input folder."
    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": (get_host().list_inputs(IMAGE_EXTENSIONS), {"image_upload": True})}}

    @classmethod
    def VALIDATE_INPUTS(cls, image: Any = None) -> bool | str:
        return missing_input(image)

    def load(self, image: str) -> tuple[Any, ...]:
        return open_pictures(get_host().input_file(image))


class LoadVideo:
    DESCRIPTION = "Opens a video in the input folder."
    RETURN_TYPES = ("VIDEO",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"file": (get_host().list_inputs(CLIP_EXTENSIONS), {"video_upload": True})}}

    @classmethod
    def VALIDATE_INPUTS(cls, file: Any = None) -> bool | str:
        return missing_input(file)

    def load(self, file: str) -> tuple[Any, ...]:
        return (read_clip(get_host().input_file(file)),)


def missing_input(name: Any) -> bool | str:
    """True, or the sentence that says why an input file cannot be used."""
    try:
        get_host().input_file(str(name))
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return True


class GetVideoComponents:
    DESCRIPTION = "Takes a video apart into pictures and frames per second. Sound is not read."
    RETURN_TYPES = ("IMAGE", "AUDIO", "FLOAT")
    RETURN_NAMES = ("images", "audio", "fps")
    FUNCTION = "take_apart"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"video": ("VIDEO",)}}

    def take_apart(self, video: Clip) -> tuple[Any, ...]:
        return video.images, None, float(video.frame_rate)


class CreateVideo:
    DESCRIPTION = "Makes a video of pictures. Sound is left out."
    RETURN_TYPES = ("VIDEO",)
    FUNCTION = "create"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        fps = {"default": 30.0, "min": 1.0, "max": 120.0, "step": 1.0}
        return {"required": {"images": ("IMAGE",), "fps": ("FLOAT", fps)}, "optional": {"audio": ("AUDIO",)}}

    def create(self, images: Tensor, fps: float, audio: Any = None) -> tuple[Any, ...]:
        return (Clip(images, Fraction(round(fps * 1000), 1000)),)


class SaveVideo:
    DESCRIPTION = "Writes a video into the output folder, with the workflow inside."
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "save"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "video": ("VIDEO",),
                "filename_prefix": ("STRING", {"default": "video/ComfyUI"}),
                "format": (["auto", "mp4"], {"default": "auto"}),
                "codec": (["auto", "h264"], {"default": "auto"}),
            },
            "hidden": HIDDEN,
        }

    @classmethod
    def VALIDATE_INPUTS(cls, filename_prefix: Any = None) -> bool | str:
        return bad_prefix(filename_prefix)

    def save(
        self, video: Clip, filename_prefix: str, format: str, codec: str, prompt: Any = None, extra_pnginfo: Any = None
    ) -> dict[str, Any]:
        prefix = expand(filename_prefix, *video.get_dimensions())
        metadata = graph_metadata(prompt, extra_pnginfo)
        saved = save_as(get_host().output_dir, prefix, "mp4", lambda path: write_mp4(path, video, metadata))
        return {"ui": {"images": [{**saved, "type": "output"}], "animated": (True,)}}


class SaveImage:
    DESCRIPTION = "Writes pictures into the output folder, with the workflow inside."
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "save"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
            "hidden": HIDDEN,
        }

    @classmethod
    def VALIDATE_INPUTS(cls, filename_prefix: Any = None) -> bool | str:
        return bad_prefix(filename_prefix)

    def save(
        self, images: Tensor, filename_prefix: str = "ComfyUI", prompt: Any = None, extra_pnginfo: Any = None
    ) -> dict[str, Any]:
        prefix = expand(filename_prefix, images.shape[2], images.shape[1])
        metadata = graph_metadata(prompt, extra_pnginfo)
        saved = [save_as(get_host().output_dir, prefix, "png", png_writer(image, metadata)) for image in images]
        return {"ui": {"images": [{**entry, "type": "output"} for entry in saved]}}


def bad_prefix(prefix: Any) -> bool | str:
    """True, or the sentence that says why files may not be written under this name."""
    if not isinstance(prefix, str):
        return True  # linked, or of a type that the general check speaks about
    try:
        resolve_inside(get_host().output_dir, expand(prefix, 0, 0), "filename_prefix")
    except ValueError as error:
        return str(error)
    return True


def png_writer(image: Tensor, metadata: Mapping[str, str]) -> Callable[[Path], None]:
    """A function that writes one picture `(h, w, c)` as PNG."""

    def write(path: Path) -> None:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        for key, text in metadata.items():
            chunks.add_text(key, text)
        Image.fromarray((image * 255).clamp(0, 255).byte().cpu().numpy()).save(path, pnginfo=chunks)

    return write


class PreviewImage:
    DESCRIPTION = "Shows pictures in ComfyUI; nothing to see on the command line, so nothing is written."
    SHOWS_ONLY = True
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "show"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"images": ("IMAGE",)}, "hidden": HIDDEN}

    def show(self, images: Tensor, prompt: Any = None, extra_pnginfo: Any = None) -> dict[str, Any]:
        return {}


NODES = {
    node.__name__: node
    for node in (LoadImage, LoadVideo, GetVideoComponents, CreateVideo, SaveVideo, SaveImage, PreviewImage)
}
NAMES = {
    "LoadImage": "Load Image",
    "LoadVideo": "Load Video",
    "GetVideoComponents": "Get Video Components",
    "CreateVideo": "Create Video",
    "SaveVideo": "Save Video",
    "SaveImage": "Save Image",
    "PreviewImage": "Preview Image",
}
