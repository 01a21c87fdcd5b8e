"""The small random checkpoint: the real classes and the real layout, with random weights."""
