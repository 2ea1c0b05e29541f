"""How often something of a known probability may happen."""

import torch
from torch.distributions import Binomial


def most(probability, trials, error=1e-4):
    """What a binomial count exceeds with that probability at most."""
    tail = torch.arange(trials + 1.0)
    mass = Binomial(trials, torch.tensor(probability)).log_prob(tail).double().exp()
    return int((mass.flip(0).cumsum(0).flip(0) > error).sum())
