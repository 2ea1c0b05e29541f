"""A Pyro program, and one loss of it."""
