"""Readers of files and folders that no domain owns."""
