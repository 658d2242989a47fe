"""Runs of a model, a LoRA or a VAE: what is trained, the training step, and what is saved of it."""
