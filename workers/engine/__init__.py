"""The engine: its protocol, and the process of its own that it runs in."""
