"""The device: where the model lies, how much fits, and what is recorded and compiled for it."""
