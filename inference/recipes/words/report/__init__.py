"""Word vectors as files, figures and maps."""
