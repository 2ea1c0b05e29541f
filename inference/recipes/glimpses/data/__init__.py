"""Digits on canvases, and house numbers."""
