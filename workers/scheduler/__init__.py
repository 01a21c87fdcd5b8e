"""The scheduler: takes wait here for the engine, and one policy decides its next call."""
