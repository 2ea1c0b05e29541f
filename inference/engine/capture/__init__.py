"""A run of a program becomes a compiled graph."""
