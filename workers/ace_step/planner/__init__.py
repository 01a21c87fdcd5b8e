"""The planner: the language model that chooses metadata and writes audio codes."""
