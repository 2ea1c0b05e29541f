"""The guide of a program without latents: nothing to draw, so that the ELBO is log p(y | x)."""

from __future__ import annotations

from typing import Any

from pyro.nn import PyroModule


class Empty(PyroModule):
    """A guide without latents."""

    def forward(self, *args: Any, **columns: Any) -> None:
        """Draw nothing."""
