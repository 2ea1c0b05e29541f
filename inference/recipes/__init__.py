"""One package a domain, which declares its ``RECIPES`` and ``COMMANDS``: name → options class.

A recipe is the package's module of that name, with ``build``; a command's module has ``run``.
"""
