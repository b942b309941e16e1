"""JSON as providers write it."""
