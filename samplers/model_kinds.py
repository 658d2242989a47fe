"""The kinds of pyramidal model that stages and histories are made for; loads nothing, so that widgets can list them."""

PYRAMID_FLOW, HELIOS = "Pyramid Flow", "Helios"
MOST_STAGES = 6  # that a block makes; the first is then 32 times smaller
