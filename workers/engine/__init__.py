"""The engine: its protocol, and the separate process in which it runs."""
