"""The block that opens a perceptual loss for training the VAE."""

from __future__ import annotations

from ..host import get_host
from .choices import model_names

OWN_LINEAR = "those of the same file"


class LoadPerceptual:
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Opens a VGG16 that judges whether two pictures look alike (LPIPS), as an additional loss for 'Train VAE'. The "
        "file is yours, in models/classifiers."
    )
    SEARCH_ALIASES = ["lpips", "vgg", "vgg16", "perceptual loss", "feature loss", "train", "training"]
    RETURN_TYPES = ("PERCEPTUAL_LOSS",)
    RETURN_NAMES = ("perceptual",)
    OUTPUT_TOOLTIPS = ("For 'Train VAE'.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        files = model_names("classifiers")
        return {
            "required": {
                "vgg_name": (
                    files,
                    {"tooltip": "A VGG16 as safetensors with the names of torchvision or timm, in models/classifiers."},
                ),
                "weight": (
                    "FLOAT",
                    {
                        "default": 0.1,
                        "min": 0.0,
                        "max": 100.0,
                        "step": 0.01,
                        "tooltip": "How much it counts beside the errors of the pixels. 0.1 is gentle; with linear "
                        "weights the numbers are about ten times smaller, and 1 is usual.",
                    },
                ),
            },
            "optional": {
                "linear_name": (
                    [OWN_LINEAR, *files],
                    {
                        "default": OWN_LINEAR,
                        "tooltip": "A safetensors file with the linear weights of LPIPS, if they are in another file. "
                        "Where there are none, all features count alike.",
                    },
                ),
            },
        }

    def load(self, vgg_name: str, weight: float, linear_name: str = OWN_LINEAR):
        import torch

        from ..models.perceptual import load_perceptual
        from ..training.objectives.vae import PerceptualTerm

        host = get_host()
        linear = None if linear_name == OWN_LINEAR else host.find_model("classifiers", linear_name)
        with torch.inference_mode(False):  # or nothing could be learned through it
            return (PerceptualTerm(load_perceptual(host.find_model("classifiers", vgg_name), linear), weight),)


NODES = {"PyramidVideoLoadPerceptual": LoadPerceptual}
NAMES = {"PyramidVideoLoadPerceptual": "Load perceptual loss"}
