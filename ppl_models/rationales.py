"""Rationales: what a text is about, said by the few of its units that a latent mask keeps.

Lei, Barzilay & Jaakkola 2016 minimise E_{z ~ p(z | x)} [−log p(y | z, x) + Ω(z)], Ω as in
``mask_chain``.  There are two exact readings of it as a bound.

1. ``Rationales``: the generator is the model's p(z | x), and an event u of probability
   e^−Ω(z) is observed.  With the prior as guide the ELBO is the paper's objective, a lower bound
   of log p(y, u = 1 | x).
2. ``ChainRationales``: the cost is the prior e^−Ω(z) / Z, and the generator is the guide.  The
   ELBO is the paper's objective − log Z + H[q].
"""

from __future__ import annotations

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import Tensor, nn

from ppl_models.mask_chain import ChainPrior, Cost
from ppl_models.readers import Encoder, Reader, mean_of


class Marks(NamedTuple):
    """Masks that people made: z where ``marked``."""

    z: Tensor  # (B, T)
    marked: Tensor  # (B,) bool


class Selector(nn.Module):
    """The generator, p(z | x) = Π_t Bernoulli(z_t): whether a unit matters, seen from the whole.

    Args:
        width: of the units' vectors.
        encoder: of the units in a text.
        rate: probability of a unit at the start.
    """

    def __init__(self, width: int, encoder: Encoder, rate: float = 0.5) -> None:
        super().__init__()
        self.encoder, self.head = encoder(2 * width, width), nn.Linear(width, 1)
        nn.init.constant_(self.head.bias, torch.logit(torch.tensor(rate)).item())

    def forward(
        self,
        units: Tensor,
        valid: Tensor,
        marks: Marks | None = None,
        tilt: Tensor | float = 0.0,
    ) -> Tensor:
        """Draw site z, the mask (…, B, T) of units (B, T, width); ``tilt`` is added to logits."""
        logits = self.logits(units, valid) + tilt
        return drawn("z", dist.Bernoulli(logits=logits).mask(valid).to_event(1), marks) * valid

    def logits(self, units: Tensor, valid: Tensor) -> Tensor:
        """(B, T) log-odds of each unit, before any mask is drawn."""
        return self.head(self.read(units, valid)).squeeze(-1)

    def read(self, units: Tensor, valid: Tensor) -> Tensor:
        """(B, T, width) units in their context: their neighbours, and the mean of the text."""
        whole = mean_of(units, valid).unsqueeze(-2).expand_as(units)
        return self.encoder(torch.cat([units, whole], -1), valid)


class SequentialSelector(Selector):
    """The generator, p(z | x) = Π_t p(z_t | z_<t, x), sites z_0, z_1, …; z_<t by a GRU."""

    def __init__(self, width: int, encoder: Encoder, rate: float = 0.5) -> None:
        super().__init__(width, encoder, rate)
        self.cell, self.remember = nn.GRUCell(width + 1, width), nn.Linear(width, 1, bias=False)

    def forward(
        self,
        units: Tensor,
        valid: Tensor,
        marks: Marks | None = None,
        tilt: Tensor | float = 0.0,
    ) -> Tensor:
        """Draw sites z_0, z_1, …, the mask (…, B, T) of units (B, T, width)."""
        read = self.read(units, valid)
        logits = self.head(read).squeeze(-1) + tilt
        state, mask = torch.zeros_like(read[:, 0]), []
        for t in range(valid.shape[-1]):
            given = logits[..., t] + self.remember(state).squeeze(-1)
            known = None if marks is None else Marks(marks.z[:, t], marks.marked)
            z = drawn(f"z_{t}", dist.Bernoulli(logits=given).mask(valid[:, t]), known)
            mask.append(z * valid[:, t])
            state = self.after(read[:, t], mask[-1], state)
        return torch.stack(torch.broadcast_tensors(*mask), -1)

    def after(self, unit: Tensor, z: Tensor, state: Tensor) -> Tensor:
        """The state (…, B, width) after a unit (B, width) and whether it was kept, (…, B)."""
        leading = torch.broadcast_shapes(z.shape, state.shape[:-1])
        seen = torch.cat([unit.expand(*leading, -1), z.expand(leading).unsqueeze(-1)], -1)
        rows = state.expand(*leading, -1).flatten(0, -2)
        return self.cell(seen.flatten(0, -2), rows).unflatten(0, leading)


def drawn(name: str, p: dist.TorchDistribution, marks: Marks | None) -> Tensor:
    """A draw of p at site ``name``; where people marked, their marks are observed in its place."""
    if marks is None:
        return pyro.sample(name, p)
    z = pyro.sample(name, p.mask(~marks.marked))
    pyro.sample(f"{name}_marked", p.mask(marks.marked), obs=marks.z)
    marked = marks.marked.reshape(*marks.marked.shape, *(1,) * p.event_dim)
    return torch.where(marked, marks.z, z)


class Predictor(nn.Module):
    """p(y | z, x): a class from the mean of the kept units alone."""

    def __init__(self, width: int, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder, self.classify = encoder(width, width), nn.Linear(width, classes)

    def forward(self, units: Tensor, valid: Tensor, z: Tensor) -> Tensor:
        """Logits (…, B, classes) of units (B, T, width), which exist where valid (B, T)."""
        kept = units * z.unsqueeze(-1)
        return self.classify(mean_of(self.encoder(kept, valid), z))


class Rationales(PyroModule):
    """Sites z, the factor ``cost``, and y: the first reading.

    Args:
        reader: of the units' words.
        selector: p(z | x).
        predictor: p(y | z, x).
        cost: Ω.
        size: N, texts in the whole data set.
    """

    def __init__(
        self, reader: Reader, selector: Selector, predictor: Predictor, cost: Cost, size: int
    ) -> None:
        super().__init__()
        self.reader, self.selector, self.predictor = reader, selector, predictor
        self.cost, self.size = cost, size

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        marks: Tensor | None = None,
        marked: Tensor | None = None,
    ) -> Tensor:
        """Words x (B, T, W), classes y (B,), marks (B, T) of people where marked (B,); z."""
        known = None if marks is None or marked is None else Marks(marks, marked)
        with pyro.plate("data", self.size, subsample=x):
            units, valid = self.reader(x)
            z = self.selector(units, valid, known)
            pyro.factor("cost", -self.cost(z, valid))  # log p(u = 1 | z) = −Ω(z)
            pyro.sample("y", dist.Categorical(logits=self.predictor(units, valid, z)), obs=y)
        return z


class ChainRationales(PyroModule):
    """Sites z and y: the second reading.

    The selector is the guide's (``guides.rationales``), and is here only to be kept with the rest.

    Args:
        reader, selector, predictor, size: as in ``Rationales``.
        prior: e^−Ω / Z.
        beta: weight of log p(z) − log q(z); 1 is the ELBO.
    """

    def __init__(
        self,
        reader: Reader,
        selector: Selector,
        predictor: Predictor,
        prior: ChainPrior,
        size: int,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        self.reader, self.selector, self.predictor = reader, selector, predictor
        self.prior, self.size, self.beta = prior, size, beta

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Words x (B, T, W), classes y (B,); z."""
        with pyro.plate("data", self.size, subsample=x):
            units, valid = self.reader(x)
            with poutine.scale(scale=self.beta):
                z = pyro.sample("z", self.prior(valid)) * valid
            pyro.sample("y", dist.Categorical(logits=self.predictor(units, valid, z)), obs=y)
        return z
