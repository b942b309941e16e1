"""A gateway as operators run it, and what tests ask of it."""
