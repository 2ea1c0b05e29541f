"""Captioned pictures, and their features from frozen encoders."""
