"""Readable SVI scripts, one room a domain: each declares its ``RECIPES``."""
