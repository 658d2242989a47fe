"""The kinds of pyramidal model that stages and histories are made for; loads nothing, so that widgets can list them."""

from ..models.families import HELIOS, PYRAMID_FLOW

__all__ = ["HELIOS", "MOST_STAGES", "PYRAMID_FLOW"]

MOST_STAGES = 6  # that a block makes; the first is then 32 times smaller
