"""Planning: what a catalog stands for, what of it is missing, with which model, and what that will take."""
