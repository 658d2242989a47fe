"""Recipes of the weights in the pack; part of the repository, not of the installed package."""
