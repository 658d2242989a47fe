"""The pack inside ComfyUI: the only files that import it."""
