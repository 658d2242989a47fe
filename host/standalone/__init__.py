"""The stand-in for ComfyUI where it is not there: the same surface, on torch alone."""
