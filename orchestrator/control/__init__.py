"""Control: facts come in and are written down, takes go out, and what was lost is sent again."""
