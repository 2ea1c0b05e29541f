"""A finished fit: its trace, posterior, bounds and plots."""
