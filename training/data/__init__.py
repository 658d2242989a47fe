"""From files to batches: clips and captions, and the caches of what was encoded."""
