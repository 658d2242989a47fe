"""Pictures that blocks draw of stages, histories, latents and clips."""
