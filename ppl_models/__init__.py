"""Generative programs p(x, z): one system a file, each a ``PyroModule`` over named data columns."""
