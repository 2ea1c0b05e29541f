"""Texts as rows of numbered words."""
