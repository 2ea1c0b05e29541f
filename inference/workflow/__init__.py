"""``fit``, ``audit`` and ``compare``."""
