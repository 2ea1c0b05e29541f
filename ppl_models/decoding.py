"""Decoding a trained captioner: greedily, by beam search, or by sampling; all pictures at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.captioner import END, Captioner, State, alive

UNKNOWN = 1  # the word for all words outside of the vocabulary
Attention = Literal["expected", "sampled"]
ChooseNext = Callable[[Tensor, Tensor], Tensor]


class Captions(NamedTuple):
    """One caption for each of B pictures, of at most T words, END among them.

    Attributes:
        words: (B, T), filled up with END.
        log_prob: (B,) nats, log p(words | a, looked) under the model, also where UNKNOWN is
            excluded; for a caption cut at T words, the probability of these words.
        attention: (B, T, L), α_t of each word; 0 after END.
        looked: (B, T, L), the weights of the locations in each word's context: α_t, or the one-hot
            s_t that was drawn; 0 after END.
    """

    words: Tensor
    log_prob: Tensor
    attention: Tensor
    looked: Tensor

    @property
    def lengths(self) -> Tensor:
        """(B,) words of each caption, END included."""
        return alive(self.words).sum(-1)


def beam_search(
    captioner: Captioner,
    a: Tensor,
    width: int = 1,
    longest: int = 30,
    length_penalty: float = 0.0,
    unknown: bool = False,
    attention: Attention = "expected",
) -> Captions:
    """The caption with the largest log p / length^length_penalty that ``width`` beams find.

    A caption that ends among the best ``width`` continuations frees its beam; the search stops when
    no beam can exceed the best caption.  Width 1 is greedy.

    Args:
        captioner: the networks; used without dropout.
        a: (B, L, D) features.
        width: k, beams a picture.
        longest: T, words at most, END included.
        length_penalty: 0 for the largest probability, 1 for the largest mean log-probability of a
            word; larger values give longer captions.
        unknown: whether UNKNOWN is allowed.
        attention: whether a word's context is the expectation under α_t (with hard attention, an
            approximation) or that of a location drawn from α_t, for each word and beam.

    Raises:
        ValueError: ``width`` or ``longest`` is below 1, or ``length_penalty`` below 0.
    """

    def best(live: Tensor, log_prob: Tensor) -> Tensor:
        return (live.unsqueeze(-1) + log_prob).flatten(1).topk(live.shape[1]).indices

    limits = _Limits(width, longest, length_penalty, unknown)
    return _say(captioner, a, best, attention, limits)


def sample_captions(
    captioner: Captioner,
    a: Tensor,
    longest: int = 30,
    unknown: bool = False,
    attention: Attention = "expected",
) -> Captions:
    """Captions drawn from the model, word by word; arguments as of ``beam_search``."""

    def drawn(live: Tensor, log_prob: Tensor) -> Tensor:
        return torch.multinomial(log_prob.squeeze(1).exp(), 1)

    return _say(captioner, a, drawn, attention, _Limits(1, longest, 0.0, unknown))


class _Limits(NamedTuple):
    """Arguments of a search, see ``beam_search``."""

    width: int
    longest: int
    length_penalty: float
    unknown: bool


@torch.no_grad()
def _say(
    captioner: Captioner,
    a: Tensor,
    choose: ChooseNext,
    attention: Attention,
    limits: _Limits,
) -> Captions:
    """Decode; ``choose``: log p of beams (B, k) and words (B, k, V) → k continuations."""
    width, longest, length_penalty, unknown = limits
    if width < 1 or longest < 1 or length_penalty < 0:
        raise ValueError(
            f"{width=} and {longest=} must be at least 1, {length_penalty=} at least 0"
        )
    with _without_dropout(captioner):
        beams = _Beams(captioner, a, width, attention)
        live = beams.state.h.new_full((len(a), width), -torch.inf)
        live[:, 0] = 0.0
        best, steps = _Best.none(live), []
        for t in range(longest):
            log_prob, alpha, looked = beams.speak()
            if not unknown:
                log_prob[..., UNKNOWN] = -torch.inf
            chosen = choose(live, log_prob)
            live = (live.unsqueeze(-1) + log_prob).flatten(1).gather(1, chosen)
            steps.append(_Step(*beams.go_on(chosen, log_prob.shape[-1]), alpha, looked))
            ended = (steps[-1].word == END) | (t + 1 == longest)
            best = best.or_better(live.masked_fill(~ended, -torch.inf), t, length_penalty)
            live = live.masked_fill(ended, -torch.inf)
            if (best.score >= live.amax(1) / longest**length_penalty).all():
                break
    return _trace_back(steps, best, longest)


@contextmanager
def _without_dropout(captioner: Captioner) -> Iterator[None]:
    training = captioner.training
    captioner.eval()
    try:
        yield
    finally:
        captioner.train(training)


class _Beams:
    """The decoder's state: k rows for each of B pictures."""

    def __init__(self, captioner: Captioner, a: Tensor, width: int, attention: Attention) -> None:
        self.captioner, self.attention, self.shape = captioner, attention, (len(a), width)
        self.state = State(*(x.repeat_interleave(width, 0) for x in captioner.start(a)))
        self.keys = captioner.key(a).repeat_interleave(width, 0)
        self.a = a.repeat_interleave(width, 0)
        self.word = torch.full((len(self.a),), END, device=a.device)
        self.first = torch.arange(0, len(self.a), width, device=a.device).unsqueeze(-1)

    def speak(self) -> tuple[Tensor, Tensor, Tensor]:
        """log p of the next words (B, k, V), α_t (B·k, L), the context's weights (B·k, L)."""
        n = self.captioner
        logits = n.look(self.keys, self.state)
        alpha = looked = logits.softmax(-1)
        if self.attention == "sampled":
            looked = dist.OneHotCategorical(logits=logits).sample()
        z = n.context(looked, self.a, self.state)
        self.state = n.step(self.word, z, self.state)
        log_prob = n.speak(self.word, z, self.state).log_softmax(-1)
        return log_prob.unflatten(0, self.shape), alpha, looked

    def go_on(self, chosen: Tensor, words: int) -> tuple[Tensor, Tensor]:
        """Keep k of the k·V continuations, (B, k): the rows they extend, and their words."""
        parent, word = self.first + chosen // words, chosen % words
        self.state = State(*(x[parent.flatten()] for x in self.state))
        self.word = word.flatten()
        return parent, word


class _Step(NamedTuple):
    """The row each beam extends and its word, (B, k); α_t and the context's weights, (B·k, L)."""

    parent: Tensor
    word: Tensor
    alpha: Tensor
    looked: Tensor


class _Best(NamedTuple):
    """The best ended caption of each picture: score, log p, last step and its beam, (B,) each."""

    score: Tensor
    log_prob: Tensor
    last: Tensor
    beam: Tensor

    @staticmethod
    def none(live: Tensor) -> _Best:
        nothing, zero = live.new_full((len(live),), -torch.inf), live.new_zeros(len(live)).long()
        return _Best(nothing, nothing, zero, zero)

    def or_better(self, ended: Tensor, t: int, length_penalty: float) -> _Best:
        """The better of these and those that end at step t, of log p (B, k)."""
        log_prob, beam = ended.max(1)
        score = log_prob / (t + 1) ** length_penalty
        new = _Best(score, log_prob, torch.full_like(beam, t), beam)
        better = score > self.score
        return _Best(*(torch.where(better, x, y) for x, y in zip(new, self, strict=True)))


def _trace_back(steps: Sequence[_Step], best: _Best, longest: int) -> Captions:
    size, places = len(best.beam), steps[0].alpha.shape[-1]
    words = best.beam.new_full((size, longest), END)
    attention = steps[0].alpha.new_zeros(size, longest, places)
    looked = torch.zeros_like(attention)
    width = steps[0].parent.shape[1]
    row = torch.arange(size, device=words.device) * width + best.beam
    for t, step in reversed(list(enumerate(steps))):
        said = t <= best.last
        parent = step.parent.flatten()[row]
        words[:, t] = step.word.flatten()[row].where(said, END)
        attention[:, t] = step.alpha[parent] * said.unsqueeze(-1)
        looked[:, t] = step.looked[parent] * said.unsqueeze(-1)
        row = parent.where(said, row)
    return Captions(words, best.log_prob, attention, looked)
