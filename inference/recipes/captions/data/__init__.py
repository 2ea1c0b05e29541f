"""Captioned pictures, and what frozen networks see on them."""
