"""Runs of tests with a fault: the copied tree, and the processes that run tests in it."""
