"""What a finished fit is, and what it says."""
