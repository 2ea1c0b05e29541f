"""The two recurrent networks behind glimpses: RAM and DRAM.

Each keeps a state, and answers from it: where to look (``aim``) and what was seen (``say``).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ppl_models.networks import Flatten


class Network(Protocol):
    """What the program asks of a network; its state is its own affair."""

    width: int

    def start(self, x: Tensor) -> Any:
        """The state before the first look, of images x (B, C, H, W)."""

    def step(self, state: Any, patch: Tensor, place: Tensor) -> Any:
        """The state after a look at patch (…, B, K, side, side), seen at place (…, B, 2)."""

    def aim(self, state: Any) -> Tensor:
        """(…, B, width) what the locator reads."""

    def say(self, state: Any) -> Tensor:
        """(…, B, classes) logits."""


class RAM(nn.Module):
    """h_{t+1} = relu(keep(h_t) + take(relu(what(relu(patch)) + where(relu(place))))).

    The core and the glimpse network of Mnih et al. 2014, section 4.

    Args:
        patch: shape (K, side, side) of a glimpse.
        classes: number of them.
        width: of the state; a patch and a place are read by half as many units each.
    """

    def __init__(self, patch: tuple[int, int, int], classes: int, width: int = 256) -> None:
        super().__init__()
        self.width, half = width, width // 2
        pixels = patch[0] * patch[1] * patch[2]
        self.what = nn.Sequential(
            Flatten(patch), nn.Linear(pixels, half), nn.ReLU(), nn.Linear(half, width)
        )
        self.where = nn.Sequential(nn.Linear(2, half), nn.ReLU(), nn.Linear(half, width))
        self.keep, self.take = nn.Linear(width, width), nn.Linear(width, width)
        self.classify = nn.Linear(width, classes)

    def start(self, x: Tensor) -> Tensor:
        """(B, width) the state before the first look, of images x (B, C, H, W)."""
        return x.new_zeros(len(x), self.width)

    def step(self, state: Tensor, patch: Tensor, place: Tensor) -> Tensor:
        """The state after a look at patch (…, B, K, side, side), seen at place (…, B, 2)."""
        glimpse = torch.relu(self.what(patch) + self.where(place))
        return torch.relu(self.keep(state) + self.take(glimpse))

    def aim(self, state: Tensor) -> Tensor:
        """(…, B, width) what the locator reads."""
        return state

    def say(self, state: Tensor) -> Tensor:
        """(…, B, classes) logits."""
        return self.classify(state)


class Layers(NamedTuple):
    """DRAM's state: (h, c) of the lower and of the upper LSTM, (…, B, width) each."""

    h1: Tensor
    c1: Tensor
    h2: Tensor
    c2: Tensor


class DRAM(nn.Module):
    """Two LSTMs: the lower one says what was seen, the upper one where to look next.

    Ba et al. 2014, section 3.  The whole image, coarsely, begins the upper one alone (the context
    network), so that what is said rests on glimpses.

    Args:
        patch: shape (K, side, side) of a glimpse; side at least 7, for three convolutions of 3 × 3.
        classes: number of them.
        image: shape (C, H, W) of the coarse image, which ``start`` makes; None for no context.
        width: of each LSTM and of the glimpse's features.
        channels: of the three convolutions.
    """

    def __init__(
        self,
        patch: tuple[int, int, int],
        classes: int,
        image: tuple[int, int, int] | None,
        width: int = 256,
        channels: tuple[int, int, int] = (32, 32, 64),
    ) -> None:
        super().__init__()
        self.width, self.image = width, image
        self.what = Convolutions(patch, channels, width)
        self.where = Unmoved(2, width)
        self.lower, self.upper = nn.LSTMCell(width, width), nn.LSTMCell(width, width)
        self.classify = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))
        if image is not None:
            self.context = Convolutions(image, channels, width)

    def start(self, x: Tensor) -> Layers:
        """The state before the first look, of images x (B, C, H, W)."""
        zero = x.new_zeros(len(x), self.width)
        if self.image is None:
            return Layers(zero, zero, zero, zero)
        coarse = nn.functional.adaptive_avg_pool2d(x, self.image[1:])
        return Layers(zero, zero, self.context(coarse), zero)

    def step(self, state: Layers, patch: Tensor, place: Tensor) -> Layers:
        """The state after a look at patch (…, B, K, side, side), seen at place (…, B, 2)."""
        glimpse = self.what(patch) * torch.relu(self.where(place))
        h1, c1 = cell(self.lower, glimpse, state.h1, state.c1)
        return Layers(h1, c1, *cell(self.upper, h1, state.h2, state.c2))

    def aim(self, state: Layers) -> Tensor:
        """(…, B, width) what the locator reads."""
        return state.h2

    def say(self, state: Layers) -> Tensor:
        """(…, B, classes) logits."""
        return self.classify(state.h1)


class Rectified(nn.Conv2d):
    """Begins with weights that keep the scale of what a ReLU passes on (He et al. 2015).

    With torch's own, four layers leave a thirtieth of a patch, and DRAM stays where it began.
    """

    def reset_parameters(self) -> None:
        """Gaussian weights, no biases."""
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Unmoved(nn.Linear):
    """Begins near 1: a product with it begins as the other factor."""

    def reset_parameters(self) -> None:
        """Torch's weights, and biases of 1."""
        super().reset_parameters()
        nn.init.ones_(self.bias)


class Convolutions(nn.Module):
    """Three 3 × 3 convolutions without padding and an affine layer, ReLU after each.

    Maps (…, *shape) to (…, out) ≥ 0.
    """

    def __init__(
        self, shape: tuple[int, int, int], channels: tuple[int, int, int], out: int
    ) -> None:
        super().__init__()
        first, second, third = channels
        side = (shape[1] - 6) * (shape[2] - 6)
        self.layers = nn.Sequential(
            *(Rectified(shape[0], first, 3), nn.ReLU()),
            *(Rectified(first, second, 3), nn.ReLU()),
            *(Rectified(second, third, 3), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(third * side, out), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the leading dimensions."""
        return self.layers(x.flatten(0, -4)).unflatten(0, x.shape[:-3])


def cell(lstm: nn.LSTMCell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM on (…, width) with any leading dimensions."""
    leading = torch.broadcast_shapes(x.shape[:-1], h.shape[:-1])
    rows = [part.expand(*leading, -1).reshape(-1, part.shape[-1]) for part in (x, h, c)]
    return tuple(part.unflatten(0, leading) for part in lstm(rows[0], (rows[1], rows[2])))
