"""What trained glimpses are worth, and where they looked."""
