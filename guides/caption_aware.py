"""The attention's posterior given the caption: q(s_t | s_<t, a, y)."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.nn import PyroModule
from torch import Tensor, nn

from ppl_models.captioner import Captioner, alive, counted, previous


class CaptionAware(PyroModule):
    """s_t ~ OneHot(softmax(look(h_{t−1}) + aim(a)ᵀ tilt(r_t))), r_t read from y_T, …, y_t.

    The paper's guide is the prior, whose gap to log p(y | a) is KL(p(s | a) ‖ p(s | a, y)).  This
    one reads the words to come, so that its bound can be tighter.  The tilt is initially zero, so
    the guide starts at the prior.

    Args:
        captioner: the model's networks, which run the state.
        size: N, captions in the whole data set.
        width: of r_t and of aim.
    """

    def __init__(self, captioner: Captioner, size: int, width: int = 256) -> None:
        super().__init__()
        self.captioner, self.size = captioner, size
        self.read = nn.GRU(captioner.embed.embedding_dim, width, batch_first=True)
        self.aim = nn.Linear(captioner.key.in_features, width)
        self.tilt = nn.Linear(width, width)
        nn.init.zeros_(self.tilt.weight)
        nn.init.zeros_(self.tilt.bias)

    def forward(self, a: Tensor, y: Tensor) -> None:
        """Draw s_0, s_1, … for a (B, L, D) and the captions y (B, T)."""
        n, said, real = self.captioner, previous(y), alive(y)
        tilts = self.tilts(a, y)
        with pyro.plate("captions", self.size, subsample=y):
            state, keys = n.start(a), n.key(a)
            for t in range(y.shape[-1]):
                logits = counted(n.look(keys, state) + tilts[:, t], real[:, t])
                s = pyro.sample(f"s_{t}", dist.OneHotCategorical(logits=logits))
                state = n.step(said[:, t], n.context(s, a, state), state)

    def tilts(self, a: Tensor, y: Tensor) -> Tensor:
        """(B, T, L) the addition to the prior's logits, from the words from y_t on."""
        words = self.captioner.embed(y).flip(1)
        ahead, _ = self.read(words)
        return self.tilt(ahead.flip(1)) @ self.aim(a).transpose(1, 2)
