"""Labelled texts, and their units as columns."""
