"""What a finished fit of rationales says."""
