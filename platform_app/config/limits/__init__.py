"""Limit rules in the config file: `rules` declares them, and `checks` finds rules that contradict each other."""
