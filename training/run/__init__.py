"""One run of training: steps, state, processes, and what is written about them."""
