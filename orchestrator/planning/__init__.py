"""Planning: the takes of a catalog, those that are missing, the model that renders them, and the cost."""
