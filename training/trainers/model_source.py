"""Where a transformer that is to be trained comes from: new in one of a few sizes, or from a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...models import checkpoints, layers, skip_init
from ...models.checkpoint_kinds import network_classes
from ...models.families import ModelFamily
from ...models.feature_discriminator import FeatureDiscriminator, FrozenTransformer
from ...models.latent_format import LatentFormat
from ...models.miniflux import MiniFluxConfig
from ...models.video_discriminator import VideoDiscriminator
from ...models.video_discriminator import init_weights as init_discriminator
from ..presets import DISCRIMINATOR_WIDTHS, NETWORK_SIZES, ROTARY_PARTS


@dataclass(frozen=True)
class ModelSource:
    """A new transformer of a `size`, or the one in the file `weights`.

    `family` is what it is trained to be. A new one gets its widths from the latents and texts it learns from.
    """

    family: ModelFamily
    size: str = "small"
    weights: Path | None = None

    def __post_init__(self) -> None:
        if self.weights is None and self.size not in NETWORK_SIZES:
            raise ValueError(f"unknown size {self.size!r}; expected one of {', '.join(NETWORK_SIZES)}")

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return (
            f"the new {self.size} {self.family}" if self.weights is None else f"the {self.family} {self.weights.stem}"
        )


@dataclass(frozen=True)
class TrainableModel:
    """The networks of a source, ready to learn: `modules["transformer"]`, of a GAN then its discriminators.

    `features` is what a feature discriminator reads, where there is one.
    """

    modules: dict[str, nn.Module]
    kind: str  # of checkpoint
    config: Any
    latent_format: LatentFormat | None  # of a model from a file; a new one takes that of its latents
    features: FrozenTransformer | None = None


def prepare(
    source: ModelSource, channels: int, text_width: int, pooled_width: int, seed: int, features: bool = True
) -> TrainableModel:
    """Make or read the networks of `source`, in float32 and ready to learn.

    With `features` a GAN from a file is judged by what the model in that file sees, too; a new model sees nothing yet.
    ValueError when a model from a file reads other latents or texts than these.
    """
    if source.weights is None:
        config = new_config(source, channels, text_width, pooled_width)
        kind, latent_format, state = "miniflux", None, None
    else:
        info = checkpoints.inspect(source.weights, checkpoints.TRAINABLE)
        config, kind, latent_format = info.config, info.kind, info.latent_format
        check_widths(source, config, channels, text_width, pooled_width)
        if source.family.name != info.family.name:
            config = replace(config, use_temporal_causal=source.family.name == "pyramid")
        state = checkpoints.load_state_dict(info, dtype=torch.float32)
    network = network_classes(kind)[1](config, ops=skip_init)  # all weights come below
    if state is None:
        layers.init_weights(network, torch.Generator().manual_seed(seed + 3))
    else:
        network.load_state_dict(state)
    modules: dict[str, nn.Module] = {"transformer": network.train()}
    seen = None
    if source.family.name == "gan":
        if features and source.weights is not None:
            seen = FrozenTransformer(network)
        modules |= new_discriminators(channels, pooled_width, config.width if seen else None, seed + 4)
    return TrainableModel(modules, kind, config, latent_format, seen)


def new_discriminators(channels: int, pooled_width: int, feature_width: int | None, seed: int) -> dict[str, nn.Module]:
    """The discriminator of clips, and with a `feature_width` that of what a transformer of this width sees."""
    new: dict[str, nn.Module] = {"discriminator": VideoDiscriminator(channels, pooled_width, DISCRIMINATOR_WIDTHS)}
    if feature_width is not None:
        new["feature_discriminator"] = FeatureDiscriminator(feature_width, pooled_width)
    for discriminator in new.values():
        init_discriminator(discriminator, torch.Generator().manual_seed(seed))
    return new


def new_config(source: ModelSource, channels: int, text_width: int, pooled_width: int) -> MiniFluxConfig:
    """The configuration of a new transformer; only a pyramid hides later frames from earlier ones."""
    double, single, heads, head = NETWORK_SIZES[source.size]
    return MiniFluxConfig(
        in_channels=4 * channels,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=head,
        num_attention_heads=heads,
        axes_dims_rope=tuple(part * head // sum(ROTARY_PARTS) for part in ROTARY_PARTS),
        joint_attention_dim=text_width,
        pooled_projection_dim=pooled_width,
        use_temporal_causal=source.family.name == "pyramid",
        input_skip=True,
    )


def check_source(source: ModelSource, channels: int, text_width: int, pooled_width: int) -> None:
    """`check_widths` for a model whose weights need not be read for it; a new model reads whatever there is."""
    if source.weights is not None:
        config = checkpoints.inspect(source.weights, checkpoints.TRAINABLE).config
        check_widths(source, config, channels, text_width, pooled_width)


def check_widths(source: ModelSource, config: Any, channels: int, text_width: int, pooled_width: int) -> None:
    """Raise ValueError unless a model from a file reads these latents and texts."""
    given = (channels, text_width, pooled_width)
    wanted = (config.latent_channels, config.text_width, config.pooled_width)
    if given != wanted:
        raise ValueError(
            f"{source.name} reads latents of {wanted[0]} channels and texts {wanted[1]} wide with a pooled vector "
            f"{wanted[2]} wide; the VAE and text encoder wired here give {given[0]}, {given[1]} and {given[2]}: "
            "load those that belong to it"
        )
