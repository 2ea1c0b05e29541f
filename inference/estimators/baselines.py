"""Baselines: predictions of a learning signal that do not depend on the current draw.

A baseline is called with the site's name, its signal (K, plates …) and the program's arguments, and
returns a tensor that broadcasts against the signal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """``b ← d b + (1 − d) mean(signal)``, corrected for its start at zero; a scalar a site.

    Xu et al. 2015 take d = 0.9.  A step's signals enter the average after it was used.

    >>> import torch
    >>> average = MovingAverage(decay=0.9)
    >>> signal = torch.full((2, 3), 4.0)  # K = 2 particles, 3 data
    >>> [round(average("z", signal, (), {}).item(), 4) for step in range(2)]
    [0.0, 4.0]

    Args:
        decay: d.
        shared: one average for all sites.
    """

    def __init__(self, decay: float = 0.9, *, shared: bool = False) -> None:
        super().__init__()
        self.decay, self.shared = decay, shared
        self.averages: dict[str, Tensor] = {}

    def forward(self, name: str, signal: Tensor, args: Any, kwargs: Any) -> Tensor:
        """() the average so far; 0 at first."""
        average = self._average("all sites" if self.shared else name, signal)
        total, weight = average.unbind()
        baseline = total / weight.clamp(min=torch.finfo(weight.dtype).tiny)
        if self.training and torch.is_grad_enabled():
            seen = torch.stack([signal.mean(), torch.ones_like(weight)])
            average.lerp_(seen, 1 - self.decay)  # in place, for captured steps
        return baseline

    def _average(self, key: str, signal: Tensor) -> Tensor:
        """(2,) sum and weight, made at the first call and moved to the signal's device."""
        average = self.averages.get(key)
        if average is None or (average.device, average.dtype) != (signal.device, signal.dtype):
            average = signal.new_zeros(2) if average is None else average.to(signal)
            self.averages[key] = average
        return average

    def get_extra_state(self) -> dict[str, Tensor]:
        """Site → (sum, weight)."""
        return {name: average.clone() for name, average in self.averages.items()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Restore ``get_extra_state``, in place."""
        for name in self.averages.keys() | state.keys():
            if name not in self.averages:
                self.averages[name] = state[name].clone()
            elif name in state:
                self.averages[name].copy_(state[name])
            else:
                self.averages[name].zero_()


class NeuralBaseline(nn.Module):
    """A network's prediction of the signal from the program's input (Mnih & Gregor 2014, NVIL).

    >>> import torch
    >>> from inference.estimators import ScoreFunction
    >>> network = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1))
    >>> baseline = NeuralBaseline(network, inputs=lambda x: x)  # of what model(x) is called with
    >>> baseline("z", torch.zeros(1, 7), (torch.ones(7, 2),), {}).shape
    torch.Size([7])
    >>> estimator = ScoreFunction(baseline=baseline, normalise=True)

    ``b_i(x) = C(x) + c_i``: the network, trained on ``(signal − b)²``, and a moving average of the
    residual for each site.

    Args:
        network: inputs → a prediction for each element of the sites' plates, (B,) or (B, 1).
        inputs: the program's arguments → the network's input.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], inputs: Callable[..., Tensor], decay: float = 0.9
    ) -> None:
        super().__init__()
        self.network, self.inputs = network, inputs
        self.offset = MovingAverage(decay)

    def forward(self, name: str, signal: Tensor, args: Any, kwargs: Any) -> Tensor:
        """(B,) the predictions, with their graph."""
        guess: Tensor = self.network(self.inputs(*args, **kwargs)).reshape(signal.shape[1:])
        rest: Tensor = self.offset(name, signal - guess.detach(), args, kwargs)
        return guess + rest
