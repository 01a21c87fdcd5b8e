"""One machine: the broker and the worker that a run brings itself."""
