"""Glimpses: what an image shows, said after a few looks at parts of it.

    l_t ~ p(l_t | h_t),   h_{t+1} = step(h_t, glimpse(I, l_t)),   y ~ Categorical(say(h_{t+1}))

Where to look is a latent.  With the prior as guide, the ELBO is E_{p(l | I)} log p(y | l, I), the
lower bound of log p(y | I) in Ba et al. 2014, equation 9, of which Mnih et al. 2014 is one target
and one network.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor

from ppl_models.glimpse_networks import Network
from ppl_models.places import Places


class Look(NamedTuple):
    """Where a run of the program looked, and what it would say after that."""

    place: Tensor  # (…, B, 2) in [−1, 1]², (column, row)
    logits: Tensor  # (…, B, classes)


class Glimpses(PyroModule):
    """Sites l_0, l_1, … and, after the last look at each target, y_0, y_1, …

    Args:
        network: reads glimpses, says where next and what was seen.
        places: where a glimpse may be.
        looks: at each target.
        size: N, images in the whole data set.
        targets: S, classes said one after the other.
        every: say a target after each look at it instead of after the last, so that a look is
            credited with what is said before the next.
        end: the class after which nothing more is said, if there is one.
    """

    def __init__(
        self,
        network: Network,
        places: Places,
        looks: int,
        size: int,
        *,
        targets: int = 1,
        every: bool = False,
        end: int | None = None,
    ) -> None:
        super().__init__()
        self.network, self.places = network, places
        self.looks, self.size, self.targets = looks, size, targets
        self.every, self.end = every, end

    def forward(self, x: Tensor, y: Tensor | None = None) -> list[Look]:
        """Images x (B, C, H, W); y (B,) or (B, S) classes, or None to draw places alone."""
        n, found = self.network, []
        with pyro.plate("data", self.size, subsample=x):
            scene, state = self.places.scene(x), n.start(x)
            for t in range(self.targets * self.looks):
                where = pyro.sample(f"l_{t}", self.places(n.aim(state)))
                patch, place = self.places.glimpse(scene, where)
                state = n.step(state, patch, place)
                logits = n.say(state)
                found.append(Look(place, logits))
                if y is not None and self.is_said(t):
                    self.say(t, logits, y.reshape(len(y), -1))
        return found

    def is_said(self, t: int) -> bool:
        """Whether a target is said after look t."""
        return self.every or (t + 1) % self.looks == 0

    def say(self, t: int, logits: Tensor, y: Tensor) -> None:
        """Observe the target of look t, (B, S) y, unless the sequence has ended before it."""
        name, said = self.target(t, logits, y)
        pyro.sample(name, said, obs=y[:, t // self.looks])

    def target(self, t: int, logits: Tensor, y: Tensor) -> tuple[str, dist.TorchDistribution]:
        """(name, distribution) of what is said after look t."""
        s = t // self.looks
        said = dist.Categorical(logits=logits)
        if self.end is not None:
            said = said.mask((y[:, :s] != self.end).all(-1))
        return f"y_{t if self.every else s}", said


class Rewarded(Glimpses):
    """The papers' objective: a look is credited with a 0/1 reward, not with log p(y | l).

    Its gradient is ∇log p(y | l) + λ (R − b) ∇log p(l), R whether the most probable class is y.  As
    a program: an event is observed that is certain if R = 1, and of probability e^−λ if not; and a
    factor of value 0 has the gradient of log p(y | l).

    Args:
        weight: λ, nats.
    """

    def __init__(self, *args: Any, weight: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.weight = weight

    def say(self, t: int, logits: Tensor, y: Tensor) -> None:
        """Observe that look t was rewarded."""
        name, said = self.target(t, logits, y)
        wrong = (logits.argmax(-1) != y[:, t // self.looks]).to(logits.dtype)
        event = dist.Bernoulli(torch.exp(-self.weight * wrong))
        pyro.sample(f"reward_{name}", event, obs=torch.ones_like(wrong))
        log_p = said.log_prob(y[:, t // self.looks])
        pyro.factor(name, log_p - log_p.detach())
