"""Scores of captions, and plots of a captioner's attention."""
