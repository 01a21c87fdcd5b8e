"""The device: the place of the model, the division of its memory, and the recorded and compiled work on it."""
