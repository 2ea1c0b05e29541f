"""Capture of a function that runs Pyro programs as a compiled graph."""
