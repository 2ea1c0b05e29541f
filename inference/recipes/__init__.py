"""One room a domain: each declares its ``RECIPES`` and ``COMMANDS``, by name, with their options.

A recipe is the room's module of its name, with ``build``; a command the one with ``run``.
"""
