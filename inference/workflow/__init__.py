"""The verbs: ``fit``, ``audit``, ``compare``, and what only they need."""
