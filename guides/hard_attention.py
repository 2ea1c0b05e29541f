"""A guide of hard attention: q(s_t | s_<t, a)."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from ppl_models.hard_attention import Glimpser


class Looker(PyroModule):
    """s_t ~ OneHot(softmax(aim([h_{t−1}, mean of a]))), the state run by the model's networks.

    Args:
        glimpser: the model's networks.
        features: length of a location's feature vector.
        steps: T.
        size: N, rows of the whole data set.
    """

    def __init__(self, glimpser: Glimpser, features: int, steps: int, size: int) -> None:
        super().__init__()
        self.glimpser, self.steps, self.size = glimpser, steps, size
        self.aim = nn.Linear(features, glimpser.look.out_features)

    def forward(self, a: Tensor, y: Tensor) -> None:
        """Draw s0, s1, … for a (B, L, features); the labels y are not used."""
        g = self.glimpser
        with pyro.plate("data", self.size, subsample=a):
            state, gist = g.start(a), self.aim(a.mean(-2))
            for t in range(self.steps):
                s = pyro.sample(f"s{t}", dist.OneHotCategorical(logits=g.look(state) + gist))
                state = g.step(state, a, s)
