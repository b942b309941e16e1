"""Stand-ins at the seams, for unit tests."""
