"""Anybody's files: samples of every kind, mutations of them, and processes to read them in."""
