"""The maths of generating: pure functions over a velocity callable, torch only."""
