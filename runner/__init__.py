"""Runs workflow files without ComfyUI, or queues them on a ComfyUI server."""
