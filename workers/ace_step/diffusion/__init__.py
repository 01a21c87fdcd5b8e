"""Diffusion: from noise to latents, and from latents to audio."""
