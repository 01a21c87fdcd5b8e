"""The lane: takes wait here for the engine, and one rule decides what it does next."""
