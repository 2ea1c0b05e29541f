"""Noise-contrastive estimation: learn p(w | c) by classifying data and noise.

Gutmann & Hyvärinen 2012; of language, Mnih & Teh 2012.

Given features h = encode(c) of a context, the score s(w | c) = score(h, w) is an unnormalised
number for each word.  Each datum is joined by k words drawn from q.  There are two kinds of
objective, and in each the score can stand for log p(w | c), or for the ratio p(w | c) / q(w):

=====================================  =========================  ==============================
question                               s → log p(w | c)           s → log p(w | c) / q(w) + const
=====================================  =========================  ==============================
of each word: data or noise?           ``NCE`` (const = 0)        ``NegativeSampling`` (− log k)
of all k + 1: which is the datum?      ``SampledSoftmax``         ``InfoNCE``
=====================================  =========================  ==============================

In the lower row the score is determined up to a constant of each context.  They approximate
``Softmax``.  All are Pyro programs without latents: fit them with ``guides.empty.Empty``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.nn import PyroModule
from torch import Tensor, nn

Encode = Callable[[Tensor], Tensor]


class Score(Protocol):
    """Scores of words; a module."""

    def __call__(self, h: Tensor, words: Tensor | None = None) -> Tensor:
        """(…, M) scores for features h (…, D) of the words (…, M).

        Words of fewer dimensions are scored for many h: (M,) for all of them, (B, M) for all of a
        row's h (B, T, D).  Without words, (…, V): scores of the whole vocabulary.
        """
        ...


class Noise(nn.Module):
    """q over V words, drawn on the device in constant time a word: Walker's alias method.

    A word is drawn by choosing one of V cells uniformly, then one of its two words.  Rounding
    errors are relative to 1/V; a cumulative sum in single precision would lose rare words.

    Args:
        weights: (V,) positive, proportional to q; counts, or counts^¾ as in word2vec.

    Raises:
        ValueError: a weight or q is not positive and finite: q must be positive for every word.
    """

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        q = weights.double() / weights.double().sum()
        if not bool(((weights > 0) & (q > 0)).all()):
            raise ValueError("noise must be able to draw every word: give positive weights")
        share, alias = alias_table(q.cpu().numpy())
        kind = torch.get_default_dtype()
        self.log_q: Tensor
        self.share: Tensor
        self.alias: Tensor
        self.register_buffer("log_q", q.log().to(kind))
        self.register_buffer("share", torch.from_numpy(share).to(kind))
        self.register_buffer("alias", torch.from_numpy(alias))

    def sample(self, *shape: int) -> Tensor:
        """Independent draws of words, of this shape."""
        cell = torch.randint(len(self.alias), shape, device=self.alias.device)
        place = torch.rand(shape, dtype=self.share.dtype, device=self.share.device)
        return cell.where(place < self.share[cell], self.alias[cell])

    def log_prob(self, words: Tensor | None = None) -> Tensor:
        """log q(w), of the words' shape; (V,) without words."""
        return self.log_q if words is None else self.log_q[words]


def alias_table(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probability of word i in cell i, the other word of cell i), both (V,): Vose 1991."""
    share: list[float] = (q * len(q)).tolist()
    alias = list(range(len(q)))
    poor = [i for i, s in enumerate(share) if s < 1]
    rich = [i for i, s in enumerate(share) if s >= 1]
    while poor and rich:
        needy, giver = poor.pop(), rich[-1]
        alias[needy] = giver
        share[giver] -= 1 - share[needy]
        if share[giver] < 1:
            poor.append(rich.pop())
    for rest in (*poor, *rich):  # 1 up to rounding
        share[rest] = 1.0
    return np.array(share), np.array(alias)


class Contrast(PyroModule):
    """The base of the four programs that contrast a datum's word with noise words.

    Args:
        encode: contexts c (B, …) → features h (*w.shape, D).
        score: s(w | c).
        noise: q.
        k: noise words for each datum.
        size: N, rows of the whole data set.
        shared: if given, so many noise words are drawn for the whole batch and used with each datum
            in place of k of its own (classifiers weight them as k words): one matrix product.
    """

    def __init__(
        self,
        encode: Encode,
        score: Score,
        noise: Noise,
        k: int,
        size: int,
        shared: int | None = None,
    ) -> None:
        super().__init__()
        self.encode, self.score, self.noise = encode, score, noise
        self.k, self.size, self.shared = k, size, shared

    def forward(self, c: Tensor, w: Tensor) -> None:
        """Contexts c (B, …) and the words w (B, *E) that followed: the next one, or a row's."""
        h = self.encode(c)
        words = self.noise.sample(*((self.shared,) if self.shared else (*w.shape, self.k)))
        with pyro.plate("rows", self.size, subsample=w, dim=-1 - w.dim()):
            self.observe(self.logit(h, w.unsqueeze(-1)), self.logit(h, words))

    def logit(self, h: Tensor, words: Tensor | None = None) -> Tensor:
        """The logit of being data; words and shape as of ``Score``."""
        raise NotImplementedError

    def log_q(self, h: Tensor, words: Tensor | None = None) -> Tensor:
        """log q(w), broadcastable against the scores of these words (see ``Score``)."""
        log_q = self.noise.log_prob(words)
        return log_q if words is None or words.dim() >= h.dim() else log_q.unsqueeze(-2)

    def log_u(self, h: Tensor) -> Tensor:
        """(…, V) log u(w | c) = logit + log k q(w), the unnormalised log p(w | c).

        Its softmax is the model's p(w | c), its logsumexp log Z(c): 0 at the classifiers'
        optimum, arbitrary for ``SampledSoftmax`` and ``InfoNCE``.
        """
        return self.logit(h) + math.log(self.k) + self.noise.log_prob()

    def observe(self, data: Tensor, noise: Tensor, positive: Tensor | None = None) -> None:
        """Observe, within the data's plate, which words are data.

        Args:
            data: (B, …, P) logits of positives; P = 1 in ``forward``.
            noise: (B, …, M) logits of the noise words beside them.
            positive: (B, …, P) weight of each positive, such as its expected count (0 outside of a
                window); 1 unless given.
        """
        raise NotImplementedError


class Classifier(Contrast):
    """y = 1 for data and y = 0 for noise, y ~ Bernoulli(σ(logit)): sites "data" and "noise".

    The ELBO is Σ_data log σ(logit) + Σ_noise log σ(−logit): with M shared words for k, the second
    sum's terms weigh k/M.
    """

    def observe(self, data: Tensor, noise: Tensor, positive: Tensor | None = None) -> None:
        """See ``Contrast``; each positive brings its k noise words."""
        observe_weighted("data", dist.Bernoulli(logits=data), torch.ones_like(data), positive)
        beside = None if positive is None else positive.sum(-1, keepdim=True)
        with poutine.scale(scale=self.k / noise.shape[-1]):
            observe_weighted("noise", dist.Bernoulli(logits=noise), torch.zeros_like(noise), beside)


class NCE(Classifier):
    """logit Δs = s(w | c) − log Z − log k q(w): Gutmann & Hyvärinen 2012, Mnih & Teh 2012.

    At the optimum σ(Δs) = p / (p + kq), so that exp(s) / Z = p(w | c) is normalised.

    Args:
        args, kwargs: those of ``Contrast``.
        log_z: log Z of every context; with ``learn_log_z`` the initial value of a parameter, for
            scores without a free scale.
    """

    def __init__(
        self, *args: Any, log_z: float = 0.0, learn_log_z: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.log_z: Tensor
        start = torch.tensor(log_z)
        if learn_log_z:
            self.log_z = nn.Parameter(start)
        else:  # a parameter would be trained
            self.register_buffer("log_z", start)

    def logit(self, h: Tensor, words: Tensor | None = None) -> Tensor:
        """Δs."""
        log_kq = math.log(self.k) + self.log_q(h, words)
        return self.score(h, words) - self.log_z - log_kq


class NegativeSampling(Classifier):
    """logit s: Mikolov et al. 2013.  At the optimum exp(s) = p / (kq), no distribution over words.

    With q the words' own frequencies, s is their pointwise mutual information − log k (Levy &
    Goldberg 2014).  It equals ``NCE`` for k = V and uniform q only.
    """

    def logit(self, h: Tensor, words: Tensor | None = None) -> Tensor:
        """The score s."""
        return self.score(h, words)


class Ranking(Contrast):
    """A categorical over the datum and the noise words, with their logits: site "data"."""

    def observe(self, data: Tensor, noise: Tensor, positive: Tensor | None = None) -> None:
        """See ``Contrast``; each positive is ranked among its noise words."""
        noise = noise.unsqueeze(-2).expand(*data.shape, noise.shape[-1])
        line = torch.cat([data.unsqueeze(-1), noise], -1)
        first = torch.zeros_like(data, dtype=torch.long)
        observe_weighted("data", dist.Categorical(logits=line), first, positive)


class SampledSoftmax(Ranking):
    """logit s − log q: a softmax over drawn words (Bengio & Senécal 2008; Ma & Collins 2018)."""

    def logit(self, h: Tensor, words: Tensor | None = None) -> Tensor:
        """s − log q."""
        return self.score(h, words) - self.log_q(h, words)


class InfoNCE(Ranking):
    """logit s: van den Oord et al. 2018.  s is log p/q up to a constant of the context.

    The ELBO per word + log(k + 1) bounds the mutual information of word and context from below
    where q is the words' marginal.
    """

    def logit(self, h: Tensor, words: Tensor | None = None) -> Tensor:
        """The score s."""
        return self.score(h, words)


class Softmax(PyroModule):
    """w ~ Categorical(exp s(· | c) / Z(c)), the sum over all V words at every step: site "data".

    Args:
        encode, score, size: as of ``Contrast``.
    """

    def __init__(self, encode: Encode, score: Score, size: int) -> None:
        super().__init__()
        self.encode, self.score, self.size = encode, score, size

    def forward(self, c: Tensor, w: Tensor) -> None:
        """Contexts c (B, …) and the words w (B, *E) that followed."""
        logits = self.score(self.encode(c))
        with pyro.plate("rows", self.size, subsample=w, dim=-w.dim()):
            observe_weighted("data", dist.Categorical(logits=logits), w)

    def log_u(self, h: Tensor) -> Tensor:
        """(…, V) the scores: log p(w | c) + log Z(c)."""
        return self.score(h)


def observe_weighted(
    name: str, question: TorchDistribution, value: Tensor, times: Tensor | None = None
) -> None:
    """Observe value (B, …), within the plate over B, each entry with its weight, or 1.

    (Pyro refuses a scale of 0, so these are masked.)  If particles have a value each, (…, B, …),
    the first one's is used.
    """
    if times is not None:
        value = value[(0,) * (value.dim() - times.dim())]
    with pyro.plate_stack(name, value.shape[1:]), ExitStack() as counted:
        if times is not None:
            counts: Any = times > 0  # Pyro's annotation asks for BoolTensor
            counted.enter_context(poutine.mask(mask=counts))
            counted.enter_context(poutine.scale(scale=times.where(counts, 1.0)))
        pyro.sample(name, question, obs=value)
