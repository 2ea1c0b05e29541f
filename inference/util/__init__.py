"""The ground: errors, files, random numbers, sites, progress, tables."""
