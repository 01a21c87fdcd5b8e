"""Weights: found, checked, converted, loaded, quantised and moved to where they are needed."""
