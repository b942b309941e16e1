"""The documentation as tests read it: pages, their examples, the rules of prose, the compatibility table."""
