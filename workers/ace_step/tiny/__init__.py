"""The small random checkpoint: the real classes in the real layout, with random weights."""
