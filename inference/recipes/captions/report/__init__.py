"""Captions scored, and pictures of where a captioner looked."""
