"""The guide that draws from the model's prior: q(z) = p(z), whatever the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro import poutine
from pyro.nn import PyroModule
from pyro.poutine.runtime import Message


class Prior(PyroModule):
    """The model with its observed sites hidden.

    With hard attention its ELBO is L_s = Σ_s p(s | a) log p(y | s, a), equation 10 of Xu et al.
    2015.  The estimators of ``inference`` run model and guide once, not twice.

    Args:
        model: whose prior to draw from.

    Attributes:
        prior_of: the model, read by estimators.
    """

    def __init__(self, model: Callable) -> None:
        super().__init__()
        self.model = model

    @property
    def prior_of(self) -> Callable:
        """The model."""
        return self.model

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Draw the model's latents."""
        poutine.block(self.model, hide_fn=is_observed)(*args, **kwargs)


def is_observed(message: Message) -> bool:
    """Whether it is an observed sample site."""
    return message["type"] == "sample" and message["is_observed"]
