"""Variational programs q(z | x): one family a file."""
