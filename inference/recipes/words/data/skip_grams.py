"""A corpus as rows of running text for skip-gram, cut anew in every epoch, noise beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from inference.data.columns import Batch, Columns
from inference.engine.training.validation import EVALUATION_SEED
from ppl_models.nce import Noise


def staying(counts: Tensor, share: float) -> Tensor:
    """(V,) the probability that a word stays, word2vec's: √(share/f) + share/f, at most 1."""
    f = counts.double() / counts.sum()
    return ((share / f).sqrt() + share / f).clamp(max=1).to(torch.get_default_dtype())


@dataclass(frozen=True, kw_only=True)
class Chunks(Columns):
    """Rows of C words, and W more on either side: columns "words", "sentence" and "noise".

    In each epoch every word is kept with a probability of its own and those left over move
    together, as in word2vec, so that windows reach farther where frequent words fell out.  An epoch
    has as many rows as are expected; chance decides which few words it lacks, or repeats.

    Args:
        tensors: words (n,) the text's, and sentence (n,) which sentence each belongs to.
        keep: (V,) probabilities of staying.
        noise: q.
        beside: M, noise words drawn for each row.
        length: C.
        window: W.
    """

    keep: Tensor
    noise: Noise
    beside: int
    length: int
    window: int

    def __len__(self) -> int:
        return self.rows_an_epoch

    @cached_property
    def rows_an_epoch(self) -> int:
        """How many rows are expected."""
        counts = self.tensors["words"].bincount(minlength=len(self.keep))
        return max(1, round(float((counts.cpu() * self.keep).sum()) / self.length))

    @property
    def names(self) -> list[str]:
        """The columns of a batch."""
        return [*super().names, "noise"]

    def order(self, batch_size: int | None, seed: int, epoch: int) -> list[Tensor | None]:
        """Places in the text (B, W + C + W) of each batch's rows: a choice of (seed, epoch).

        The last batch is filled up with rows of the first, so that all have one shape.
        """
        rows = self.places(seed, epoch)
        size = batch_size or len(rows)
        full = -(-len(rows) // size) * size
        return list(rows[torch.arange(full) % len(rows)].split(size))

    def places(self, seed: int, epoch: int) -> Tensor:
        """Places in the text of an epoch's rows (N, W + C + W), in any order.

        The text goes on after its end, and before its beginning, as a copy of itself: places there
        are beyond the text's own, so that no window holds both its end and its beginning.
        """
        chance = np.random.default_rng([seed, epoch])
        kept = self._kept(chance)
        steps = np.arange(-self.window, len(self) * self.length + self.window)
        copy, at = np.divmod(chance.integers(len(kept)) + steps, len(kept))
        whole = torch.from_numpy(kept[at] + copy * len(self.tensors["words"]))
        rows = whole.unfold(0, self.length + 2 * self.window, self.length)
        return rows[torch.from_numpy(chance.permutation(len(self)))]

    def _kept(self, chance: np.random.Generator) -> np.ndarray:
        stay = self._stay
        kept = np.flatnonzero(chance.random(len(stay), dtype=np.float32) < stay)
        return kept if len(kept) else np.arange(len(stay))

    @cached_property
    def _stay(self) -> np.ndarray:
        """(n,) each word's probability."""
        return self.keep[self.tensors["words"].cpu()].float().numpy()

    def rows(self, index: Tensor | slice | None = None) -> Batch:
        """The batch at these places, or (for evaluation) of these rows of one fixed cut."""
        if not isinstance(index, Tensor):
            index = self._fixed[index or slice(None)]
        text = len(self.tensors["words"])
        batch = super().rows(index % text)
        batch["sentence"] = batch["sentence"] + (index // text * self._sentences).to(self.device)
        batch["noise"] = self.noise.sample(len(index), self.beside)
        return batch

    def places_of_words(self) -> tuple[Tensor, Tensor]:
        """(V,) each: at how many places an epoch is expected to have a word.

        First as one of a row's C words; then anywhere, as one of C + 2W or as noise.
        """
        kept = self.tensors["words"].bincount(minlength=len(self.keep)).cpu() * self.keep
        inside = kept * (len(self) * self.length / kept.sum())
        drawn = len(self) * self.beside * self.noise.log_prob().cpu().exp()
        anywhere = inside * (1 + 2 * self.window / self.length) + drawn
        return inside.clamp(min=1), anywhere

    @cached_property
    def _sentences(self) -> int:
        """How far apart the numbers of a sentence and of its copy are."""
        return int(self.tensors["sentence"].max()) + 1

    @cached_property
    def _fixed(self) -> Tensor:
        return self.places(EVALUATION_SEED, 0)

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same on ``device``."""
        self.noise.to(device)
        return super().to(device, dtype)
