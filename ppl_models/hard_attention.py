"""Hard attention to patches of an image, whose label is predicted at every step.

The hard attention of Xu et al. 2015, *Show, attend and tell*, in its simplest form: the location is
a one-hot latent s_t over L locations, and the ELBO bounds log p(y | a).
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn


class Glimpser(nn.Module):
    """The networks that model and guide share: features, state, attention and label.

    Args:
        features: length of a location's feature vector a_i.
        locations: L.
        classes: number of labels.
        hidden: length of the state.
    """

    def __init__(self, features: int, locations: int, classes: int, hidden: int = 32) -> None:
        super().__init__()
        self.hidden = hidden
        self.look = nn.Linear(hidden, locations)
        self.read = nn.Linear(features, hidden)
        self.place = nn.Linear(locations, hidden, bias=False)
        self.keep = nn.Linear(hidden, hidden)
        self.say = nn.Linear(hidden, classes)

    def start(self, a: Tensor) -> Tensor:
        """(B, hidden) the initial state."""
        return a.new_zeros(a.shape[0], self.hidden)

    def step(self, state: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """The next state from the attended location, z_t = Σ_i s_ti a_i; leading dims are kept."""
        z = (s.unsqueeze(-1) * a).sum(-2)
        return torch.tanh(self.keep(state) + self.read(z) + self.place(s))


class PatchAttention(PyroModule):
    """s_t ~ OneHot(softmax(look(h_{t−1}))), h_t = step(h_{t−1}, s_t), y ~ Categorical(say(h_t)).

    The label is observed after every step, so that each s_t has a learning signal of its own.

    Args:
        glimpser: the networks.
        steps: T.
        size: N, rows of the whole data set.
    """

    def __init__(self, glimpser: Glimpser, steps: int, size: int) -> None:
        super().__init__()
        self.glimpser, self.steps, self.size = glimpser, steps, size

    def forward(self, a: Tensor, y: Tensor) -> None:
        """a (B, L, features), y (B,): sites s0, y0, s1, y1, …"""
        g = self.glimpser
        with pyro.plate("data", self.size, subsample=a):
            state = g.start(a)
            for t in range(self.steps):
                s = pyro.sample(f"s{t}", dist.OneHotCategorical(logits=g.look(state)))
                state = g.step(state, a, s)
                pyro.sample(f"y{t}", dist.Categorical(logits=g.say(state)), obs=y)
