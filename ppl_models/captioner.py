"""Show, attend and tell: captions of pictures word by word, with attention before each word.

Xu et al. 2015, *Show, attend and tell*.  Where to look is deterministic (soft attention, equation
13) or a one-hot latent s_t (hard attention, equations 8 to 10).  With the prior as guide, the ELBO
of the latter is the paper's L_s = Σ_s p(s | a) log p(y | s, a).
"""

from __future__ import annotations

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

END = 0  # the word that ends a caption, precedes its first word, and pads its row


class State(NamedTuple):
    """The LSTM's state: h and c, both (…, hidden)."""

    h: Tensor
    c: Tensor


class Captioner(nn.Module):
    """The networks of the decoder; every one keeps leading dimensions.

    State, attention and logits are kept in the parameters' dtype where autocast computes in a lower
    precision.

    Args:
        features: D, length of a location's feature vector a_i.
        words: size of the vocabulary, END among them.
        embedding, hidden, attention: widths of E, of h, and of the attention network.
        dropout: of the mean of a, of h and of the last layer, in training.
    """

    def __init__(
        self,
        features: int,
        words: int,
        embedding: int = 512,
        hidden: int = 512,
        attention: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, embedding)
        self.first_h, self.first_c = nn.Linear(features, hidden), nn.Linear(features, hidden)
        self.key = nn.Linear(features, attention)
        self.query = nn.Linear(hidden, attention, bias=False)
        self.score = nn.Linear(attention, 1, bias=False)
        self.gate = nn.Linear(hidden, 1)
        self.word_in = nn.Linear(embedding, 4 * hidden)
        self.look_in = nn.Linear(features, 4 * hidden, bias=False)
        self.state_in = nn.Linear(hidden, 4 * hidden, bias=False)
        self.state_out = nn.Linear(hidden, embedding)
        self.look_out = nn.Linear(features, embedding, bias=False)
        self.say = nn.Linear(embedding, words)
        self.dropout = nn.Dropout(dropout)

    def start(self, a: Tensor) -> State:
        """The initial state, from the mean of a (…, L, D)."""
        mean = self.dropout(a.mean(-2))
        return State(self._full(self.first_h(mean)).tanh(), self._full(self.first_c(mean)).tanh())

    def look(self, keys: Tensor, state: State) -> Tensor:
        """(…, L) logits of α_t, from keys = key(a) (…, L, attention): equations 4 and 5."""
        query = self.query(state.h).unsqueeze(-2)
        return self._full(self.score((keys + query).tanh())).squeeze(-1)

    def context(self, where: Tensor, a: Tensor, state: State) -> Tensor:
        """(…, D) ẑ_t = β_t Σ_i where_i a_i, with the gate β_t = σ(f_β(h_{t−1}))."""
        return self.gate(state.h).sigmoid() * (where.unsqueeze(-2) @ a).squeeze(-2)

    def step(self, word: Tensor, z: Tensor, state: State) -> State:
        """The LSTM's next state after the last word (…,) and the context: equations 1 to 3."""
        gates = self.word_in(self.embed(word)) + self.look_in(z) + self.state_in(state.h)
        i, f, o, g = self._full(gates).chunk(4, -1)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        return State(o.sigmoid() * c.tanh(), c)

    def speak(self, word: Tensor, z: Tensor, state: State) -> Tensor:
        """(…, words) logits of the next word: equation 7, its sum passed through tanh."""
        deep = self.embed(word) + self.state_out(self.dropout(state.h)) + self.look_out(z)
        return self._full(self.say(self.dropout(deep.tanh())))

    def _full(self, value: Tensor) -> Tensor:
        return value.to(self.embed.weight.dtype)


def previous(y: Tensor) -> Tensor:
    """(…, T) the word before each word of y (…, T)."""
    return torch.cat([torch.full_like(y[..., :1], END), y[..., :-1]], -1)


def alive(y: Tensor) -> Tensor:
    """(…, T) whether each word of y belongs to its caption, up to and including the first END."""
    first = torch.ones_like(y[..., :1], dtype=torch.bool)
    return torch.cat([first, y[..., :-1] != END], -1)


def counted(logits: Tensor, counts: Tensor) -> Tensor:
    """(…, L) logits of a look where it ``counts`` (…,); uniform where it does not.

    A uniform look has neither score nor KL, as model and guide agree.
    """
    return logits.where(counts.unsqueeze(-1), 0.0)


def soft_reading(n: Captioner, a: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits (…, B, T, words) of each word of y (B, T) given those before, and the T weights α_t.

    Args:
        n: the networks.
        a: (…, B, L, D) features.
        y: words, then END.
    """
    said, logits, looks = previous(y), [], []
    state, keys = n.start(a), n.key(a)
    for t in range(y.shape[-1]):
        alpha = n.look(keys, state).softmax(-1)
        z = n.context(alpha, a, state)
        state = n.step(said[:, t], z, state)
        logits.append(n.speak(said[:, t], z, state))
        looks.append(alpha)
    return torch.stack(logits, -2), looks


class SoftAttention(PyroModule):
    """y_t ~ Categorical(speak(…)) with the expected context, and the doubly stochastic penalty.

    Args:
        captioner: the networks.
        size: N, captions in the whole data set.
        penalty: λ of −λ Σ_i (1 − Σ_t α_ti)², equation 14, added in training.
    """

    def __init__(self, captioner: Captioner, size: int, penalty: float = 1.0) -> None:
        super().__init__()
        self.captioner, self.size, self.penalty = captioner, size, penalty

    def forward(self, a: Tensor, y: Tensor) -> list[Tensor]:
        """Site y, for a (B, L, D) and y (B, T) words, then END.

        Returns:
            The T weights α_t, (B, L) each, 0 after END.
        """
        real = alive(y)
        with pyro.plate("captions", self.size, subsample=y):
            logits, looks = soft_reading(self.captioner, a, y)
            attention = [alpha * real[:, t, None] for t, alpha in enumerate(looks)]
            words = dist.Categorical(logits=logits).mask(real)
            pyro.sample("y", words.to_event(1), obs=y)
            if self.training and self.penalty:
                missed = 1 - torch.stack(attention).sum(0)
                pyro.factor("penalty", -self.penalty * (missed**2).sum(-1))
        return attention


class HardAttention(PyroModule):
    """s_t ~ OneHot(α_t), y_t ~ Categorical(speak(…)) after each s_t, as reward-to-go needs it.

    In training, with the paper's two variance reductions, neither of which is in the bound:

    Args:
        captioner: the networks.
        size: N, captions in the whole data set.
        entropy: λ of the bonus λ Σ_t H[α_t].
        expected: share of the captions whose looks are replaced by their expectation α_t.
    """

    def __init__(
        self, captioner: Captioner, size: int, entropy: float = 0.002, expected: float = 0.5
    ) -> None:
        super().__init__()
        self.captioner, self.size = captioner, size
        self.entropy, self.expected = entropy, expected

    def forward(self, a: Tensor, y: Tensor) -> list[Tensor]:
        """Sites s_0, y_0, s_1, y_1, … for a (B, L, D) and y (B, T) words, then END.

        Returns:
            The T looks s_t, (…, B, L) each.
        """
        looks = []
        n, said, real = self.captioner, previous(y), alive(y)
        with pyro.plate("captions", self.size, subsample=y):
            looking = self.drawn_looks(real)
            state, keys = n.start(a), n.key(a)
            for t in range(y.shape[-1]):
                look = n.look(keys, state)
                alpha = dist.Categorical(logits=look)
                if self.training and self.entropy:
                    pyro.factor(f"entropy_{t}", self.entropy * real[:, t] * alpha.entropy())
                logits = counted(look, real[:, t] & looking)
                s = pyro.sample(f"s_{t}", dist.OneHotCategorical(logits=logits))
                z = n.context(s.where(looking.unsqueeze(-1), alpha.probs), a, state)
                state = n.step(said[:, t], z, state)
                words = dist.Categorical(logits=n.speak(said[:, t], z, state))
                pyro.sample(f"y_{t}", words.mask(real[:, t]), obs=y[:, t])
                looks.append(s)
        return looks

    def drawn_looks(self, real: Tensor) -> Tensor:
        """(B,) whether each caption's locations are drawn; all are in evaluation."""
        if not (self.training and self.expected):
            return torch.ones_like(real[:, 0])
        share = real.new_tensor(1 - self.expected, dtype=torch.get_default_dtype())
        return pyro.sample("looking", dist.Bernoulli(share)) == 1
