"""The block that loads a perceptual loss for training the VAE."""

from __future__ import annotations

from ..host import get_host
from .block import Block, Float, Output
from .shared_inputs import ModelFile

OWN_LINEAR = "those of the same file"


class LoadPerceptual(Block):
    ID, NAME = "PyramidVideoLoadPerceptual", "Load perceptual loss"
    CATEGORY = "pyramid video/training"
    DESCRIPTION = (
        "Loads a VGG16 that measures how alike two pictures look (LPIPS), as an additional loss for 'Train VAE'. You "
        "provide the file, in models/classifiers."
    )
    ALIASES = "lpips, vgg, vgg16, perceptual loss, feature loss, train, training"
    REQUIRED = (
        ModelFile("vgg_name", "classifiers").tip(
            "A VGG16 as safetensors, with the names of torchvision or timm, in models/classifiers."
        ),
        Float("weight", 0.1, 0.0, 100.0, 0.01).tip(
            "Its weight beside the errors of the pixels. 0.1 is gentle; with linear weights the values are about ten "
            "times smaller, and 1 is usual."
        ),
    )
    OPTIONAL = (
        ModelFile("linear_name", "classifiers", OWN_LINEAR).tip(
            "A safetensors file with the linear weights of LPIPS, if they are in another file. Without any, all "
            "features count alike."
        ),
    )
    OUTPUTS = (Output("PERCEPTUAL_LOSS", "For 'Train VAE'.", "perceptual"),)
    FUNCTION = "load"

    def load(self, vgg_name, weight, linear_name):
        import torch

        from ..models.perceptual import load_perceptual
        from ..training.objectives.vae import PerceptualTerm

        host = get_host()
        linear = None if linear_name == OWN_LINEAR else host.find_model("classifiers", linear_name)
        with torch.inference_mode(False):  # or nothing could be learned through it
            return (PerceptualTerm(load_perceptual(host.find_model("classifiers", vgg_name), linear), weight),)


BLOCKS = (LoadPerceptual,)
