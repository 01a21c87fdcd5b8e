"""One machine: the embedded broker and the local worker that a run starts for itself."""
