"""Weights: find, check, convert, load, quantise and move the model's weights."""
