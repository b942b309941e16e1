"""Faults: made by rule from Python and other files, and a list by hand."""
