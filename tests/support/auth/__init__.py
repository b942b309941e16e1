"""Authentication with fakes at its seams."""
