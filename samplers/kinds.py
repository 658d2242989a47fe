"""Whose ladders and memories there are; loads nothing, so that widgets can list them."""

PYRAMID_FLOW, HELIOS = "Pyramid Flow", "Helios"
