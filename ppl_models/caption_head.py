"""A caption said of a code: the captioner's RNN, with the code as what it begins with and looks at.

Pu et al. 2016, section 3.2: the code is the RNN's first state.  Here it is, too, what a word may
look at: as one location, or as the h × w locations of its maps.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Size, Tensor

from ppl_models.captioner import Captioner, alive, soft_reading
from ppl_models.deconvolutional import Head

NO_CAPTION = -1  # in place of the words of a row that has none


class Caption(Head):
    """y_t ~ Categorical(speak(…)) word by word, where a row has a caption.

    Args:
        captioner: the networks, of ``features(code, attention)`` features.
        code: (K, h, w) of s as maps.
        attention: whether words look at places of the maps, or at the whole code.
    """

    def __init__(self, captioner: Captioner, code: Size, attention: bool) -> None:
        super().__init__()
        self.captioner, self.code, self.attention = captioner, code, attention

    def forward(self, s: Tensor, y: Tensor) -> None:
        """Observe captions y (B, T) of codes s (…, B, D)."""
        known = (y[..., 0] != NO_CAPTION).unsqueeze(-1)
        words = y.clamp(min=0)
        logits, _ = soft_reading(self.captioner, self.locations(s), words)
        said = dist.Categorical(logits=logits).mask(alive(words) & known)
        pyro.sample("y", said.to_event(1), obs=words)

    def locations(self, s: Tensor) -> Tensor:
        """(…, L, features) what is looked at."""
        if not self.attention:
            return s.unsqueeze(-2)
        return s.unflatten(-1, self.code).flatten(-2).mT


def features(code: Size, attention: bool) -> int:
    """Length of what a location of a code is."""
    return code[0] if attention else code.numel()
