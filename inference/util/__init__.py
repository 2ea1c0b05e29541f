"""Utilities: errors, files, random numbers, sites, progress, tables."""
