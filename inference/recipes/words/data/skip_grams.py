"""A corpus as rows of words for skip-gram, cut anew in every epoch, with noise words."""

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
    """(V,) word2vec's probability of keeping a word: √(share/f) + share/f, at most 1."""
    f = counts.double() / counts.sum()
    return ((share / f).sqrt() + share / f).clamp(max=1).to(torch.get_default_dtype())


@dataclass(frozen=True, kw_only=True)
class Chunks(Columns):
    """Rows of C words, with W more on either side: columns "words", "sentence" and "noise".

    In each epoch every word is kept with its probability and the kept words close up, as in
    word2vec, so that windows reach farther where frequent words were dropped.  The number of rows
    in an epoch is fixed at its expectation; a few words are therefore left out or repeated.

    Args:
        tensors: words (n,) of the text, and sentence (n,) the sentence of each.
        keep: (V,) probabilities of keeping a word.
        noise: q, the distribution of noise words.
        beside: M, noise words drawn for a row.
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
        """The expected number of rows."""
        counts = self.tensors["words"].bincount(minlength=len(self.keep))
        return max(1, round(float((counts.cpu() * self.keep).sum()) / self.length))

    @property
    def names(self) -> list[str]:
        """The columns of a batch."""
        return [*super().names, "noise"]

    def order(self, batch_size: int | None, seed: int, epoch: int) -> list[Tensor | None]:
        """Positions in the text (B, W + C + W) of each batch's rows; random by (seed, epoch).

        The last batch is completed with rows of the first, so that all have one shape.
        """
        rows = self.places(seed, epoch)
        size = batch_size or len(rows)
        full = -(-len(rows) // size) * size
        return list(rows[torch.arange(full) % len(rows)].split(size))

    def places(self, seed: int, epoch: int) -> Tensor:
        """Positions in the text of an epoch's rows (N, W + C + W), in random order.

        The text is continued beyond both ends by copies of itself, with positions outside of the
        text's own, so that no window holds both its end and its beginning.
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
        """(n,) each word's probability of being kept."""
        return self.keep[self.tensors["words"].cpu()].float().numpy()

    def rows(self, index: Tensor | slice | None = None) -> Batch:
        """The batch at these positions, or (for evaluation) of these rows of a fixed cut."""
        if not isinstance(index, Tensor):
            index = self._fixed[index or slice(None)]
        text = len(self.tensors["words"])
        batch = super().rows(index % text)
        batch["sentence"] = batch["sentence"] + (index // text * self._sentences).to(self.device)
        batch["noise"] = self.noise.sample(len(index), self.beside)
        return batch

    def places_of_words(self) -> tuple[Tensor, Tensor]:
        """(V,) each: the expected number of positions of a word in an epoch.

        First among a row's C words; second among its C + 2W words and the noise.
        """
        kept = self.tensors["words"].bincount(minlength=len(self.keep)).cpu() * self.keep
        inside = kept * (len(self) * self.length / kept.sum())
        drawn = len(self) * self.beside * self.noise.log_prob().cpu().exp()
        anywhere = inside * (1 + 2 * self.window / self.length) + drawn
        return inside.clamp(min=1), anywhere

    @cached_property
    def _sentences(self) -> int:
        """The offset between the numbers of a sentence and of its copy."""
        return int(self.tensors["sentence"].max()) + 1

    @cached_property
    def _fixed(self) -> Tensor:
        return self.places(EVALUATION_SEED, 0)

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same on ``device``."""
        self.noise.to(device)
        return super().to(device, dtype)
