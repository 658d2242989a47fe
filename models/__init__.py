"""Networks, the statistics of their latents, and the files they are kept in. Needs torch, knows nothing of any host."""
