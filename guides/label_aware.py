"""Where to look, given what must be said: q(l_t | h_t, y)."""

from __future__ import annotations

import pyro
import torch
import torch.nn.functional as F
from pyro.nn import PyroModule
from torch import Tensor, nn

from ppl_models.glimpses import Glimpses


class LabelAware(PyroModule):
    """The model's places, tilted by δ(h_t, y): l_t ~ p(l_t | h_t, δ), the state run by the model.

    The papers' guide is the prior, whose gap to log p(y | I) is KL(p(l | I) ‖ p(l | I, y)).  This
    one knows the label, so that its bound can be tighter; it never predicts.  δ begins at zero: at
    the prior.

    Args:
        model: whose network and places.
        classes: of a target.
        width: of δ's hidden layer.
    """

    def __init__(self, model: Glimpses, classes: int, width: int = 128) -> None:
        super().__init__()
        self.model, self.classes = model, classes
        self.hidden = nn.Linear(model.network.width + classes, width)
        self.tilt = nn.Linear(width, model.places.dims)
        nn.init.zeros_(self.tilt.weight)
        nn.init.zeros_(self.tilt.bias)

    def forward(self, x: Tensor, y: Tensor) -> None:
        """Draw l_0, l_1, … for images x (B, C, H, W) and classes y (B,) or (B, S)."""
        m, n = self.model, self.model.network
        targets = F.one_hot(y.reshape(len(y), -1), self.classes).to(x.dtype)
        with pyro.plate("data", m.size, subsample=x):
            scene, state = m.places.scene(x), n.start(x)
            for t in range(m.targets * m.looks):
                h, target = n.aim(state), targets[:, t // m.looks]
                tilt = self.delta(h, target)
                where = pyro.sample(f"l_{t}", m.places(h, tilt))
                state = n.step(state, *m.places.glimpse(scene, where))

    def delta(self, h: Tensor, target: Tensor) -> Tensor:
        """δ (…, B, dims) of the state h (…, B, width) and the one-hot target (B, classes)."""
        target = target.expand(*h.shape[:-1], -1)
        return self.tilt(torch.tanh(self.hidden(torch.cat([h, target], -1))))
