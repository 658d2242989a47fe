"""Numbers and choices of training that blocks and recipes share. Loads nothing, so that widgets can list them."""

from __future__ import annotations

NETWORK_SIZES = {  # name: double blocks, single blocks, heads, features of a head
    "tiny": (1, 2, 4, 32),
    "small": (2, 6, 5, 32),
    "medium": (4, 8, 8, 64),
    "large": (6, 16, 16, 64),
}
TIMESTEP_SAMPLINGS = ("logit_normal", "uniform")  # how the noise levels of a flow are drawn
GAN_LOSSES = ("relativistic", "non_saturating", "hinge")
AUTO = "auto"  # by the device
PRECISIONS = ("no", "bf16", AUTO)
BASE_DTYPES = (AUTO, "fp32", "bf16", "fp8_e4m3fn")  # in which the model is stored that a LoRA is trained for
SPLITS = ("train", "test", "all")  # of a dataset of animations
ROTARY_PARTS = (2, 3, 3)  # of eight: time, rows, columns
DISCRIMINATOR_WIDTHS = (48, 96, 96)  # of the discriminator of clips

SMALL_VAE_CONFIG = {
    "patch_size": 4,
    "block_shortcut": True,
    "encoder_out_channels": 24,
    "encoder_block_out_channels": [16, 32, 48, 48],
    "encoder_layers_per_block": [1, 1, 1, 1],
    "encoder_spatial_down_sample": [True, False, False, False],
    "encoder_temporal_down_sample": [False, True, True, False],
    "encoder_norm_num_groups": 8,
    "decoder_in_channels": 24,
    "decoder_block_out_channels": [64, 96, 96, 96],
    "decoder_layers_per_block": [1, 1, 1, 2],
    "decoder_spatial_up_sample": [False, False, True, False],
    "decoder_temporal_up_sample": [True, True, False, False],
    "decoder_norm_num_groups": 8,
}
VAE_SIZES = {"small": SMALL_VAE_CONFIG, "official": {}}  # {}: the defaults of `CausalVAEConfig`
FITTED_CLIPS = 200  # that the linear start of a VAE is made from
ENCODING = ("encoder.", "encoder_shortcut.", "quant_conv.")  # the weights of a VAE that make latents
TEXT_DROPOUT = 0.1  # share of the captions that are left empty
NOISY_CLIPS = ("flow", "diffusion")  # families whose networks are shown whole clips with noise in them
