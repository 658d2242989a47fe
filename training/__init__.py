"""Learning: data, objectives and the training loop. Imports torch, never a host."""
