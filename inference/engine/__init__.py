"""Training of any Pyro program."""
