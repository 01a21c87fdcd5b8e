"""The scheduler: takes wait here for the engine, and one policy decides what it does next."""
