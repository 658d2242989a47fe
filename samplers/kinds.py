"""Whose ladders and memories there are, and how high; loads nothing, so that widgets can list them."""

PYRAMID_FLOW, HELIOS = "Pyramid Flow", "Helios"
MOST_STAGES = 6  # that a block makes; the first is then 32 times smaller
