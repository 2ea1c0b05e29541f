"""Running text in rows for skip-gram: what is kept, how it is cut, what stands beside it.

Where draws are random, |z| < 4.5 over at most twenty figures: a false alarm in 7,000 at the most.
"""

import math
from functools import partial

import numpy as np
import pyro
import pytest
import torch

from guides.empty import Empty
from guides.word_vectors import MeanFieldSkipGram
from inference import fit
from inference.engine.optim import RowwiseSGD, SparseAdagrad
from inference.recipes.words.data.skip_grams import Chunks, staying
from ppl_models.nce import NegativeSampling, Noise
from ppl_models.skip_gram import GaussianVectors, Products, SkipGram, WordVectors

V, C, W, M = 8, 16, 3, 4
Z = 4.5
COUNTS = torch.tensor([900, 700, 500, 400, 250, 150, 70, 30])


def chunks(length=C, words=None, sentence=None, share=0.05):
    """3,000 words in sentences of one to twenty; the frequent ones rarely stay."""
    if words is None:
        words = torch.arange(V).repeat_interleave(COUNTS)[torch.randperm(3000)].int()
        sentence = torch.arange(3000).repeat_interleave(torch.randint(1, 21, (3000,)))[:3000].int()
    counts = words.bincount()
    return Chunks(
        {"words": words, "sentence": sentence},
        keep=staying(counts, share),
        noise=Noise(counts.double() ** 0.75),
        beside=M,
        length=length,
        window=W,
    )


def text(size, length):
    """One sentence in which no word comes twice; all of it stays."""
    return chunks(length, torch.arange(size), torch.zeros(size, dtype=torch.int32), 1.0)


def test_frequent_words_stay_as_in_word2vec():
    """Its C code: (√(count / (sample · total)) + 1) · (sample · total) / count."""
    sample, total = 0.05, 3000
    for count, stay in zip(COUNTS.tolist(), staying(COUNTS, sample).tolist(), strict=True):
        ran = (math.sqrt(count / (sample * total)) + 1) * (sample * total) / count
        assert stay == pytest.approx(min(1.0, ran), rel=1e-12)
    assert staying(COUNTS, 1.0).eq(1).all()


def test_an_epoch_is_a_choice_of_seed_and_epoch():
    data = chunks()
    first = [index.clone() for index in data.order(10, 3, 5)]
    torch.manual_seed(99)
    np.random.seed(99)
    data.rows(first[0])
    for a, b in zip(first, data.order(10, 3, 5), strict=True):
        assert torch.equal(a, b)
    assert [len(index) for index in first] == [10] * math.ceil(len(data) / 10)
    for other in ((3, 6), (4, 5)):
        assert not torch.equal(first[0], data.order(10, *other)[0])
    rows, whole = torch.cat(first), data.order(None, 3, 5)[0]
    assert torch.equal(rows, torch.cat([whole, whole[: len(rows) - len(whole)]]))
    assert 0 < len(rows) - len(whole) < 10


def test_rows_are_one_stretch_of_what_was_kept():
    """Each row goes on where another ends, W words before and after it, and skips nothing kept."""
    data = chunks()
    rows = data.places(1, 2)
    assert rows.shape == (len(data), W + C + W)
    assert abs(len(data) * C - float((COUNTS * data.keep).sum())) <= C / 2
    rows = rows[rows[:, 0].argsort()]
    assert torch.equal(rows[:-1, C:], rows[1:, : 2 * W])
    assert (rows.diff() > 0).all()
    kept = (rows % 3000).unique()
    rank = torch.searchsorted(kept, rows % 3000) + rows // 3000 * len(kept)
    missing = (rank.diff() != 1).sum()
    assert missing == 0 or len(kept) < len(data) * C  # none, but where words were left over


@pytest.mark.parametrize(("size", "length"), [(200, C), (5, C), (37, 8), (1, 4), (2, 4)])
def test_a_window_holds_neighbours_only(size, length):
    """Nor do a text's end and beginning stand beside each other, or a short text's two readings."""
    data = text(size, length)
    batch = data.rows(data.order(None, 0, 0)[0])
    words, sentence = batch["words"], batch["sentence"]
    pairs = 0
    for distance in range(1, W + 1):
        near = sentence[:, distance:] == sentence[:, :-distance]
        apart = words[:, distance:] - words[:, :-distance]
        assert (apart[near] == distance).all()
        pairs += int(near.sum())
    assert pairs > 0 or size == 1


def test_sentences_are_the_texts_own():
    data = chunks()
    index = data.places(0, 0)
    batch, at = data.rows(index), index % 3000
    assert torch.equal(batch["words"], data.tensors["words"][at])
    same = batch["sentence"][:, 1:] == batch["sentence"][:, :-1]
    own = data.tensors["sentence"][at]
    inside = index[:, 1:] // 3000 == index[:, :-1] // 3000
    assert torch.equal(same, (own[:, 1:] == own[:, :-1]) & inside)


def test_places_of_words_are_what_epochs_hold():
    """400 epochs; 2 % more or less of any word, among all of it or a row's own, would be seen."""
    data, found = chunks(), []
    for epoch in range(400):
        batch = data.rows(data.order(None, 0, epoch)[0])
        own = batch["words"][:, W : W + C]
        every = torch.cat([batch["words"], batch["noise"]], -1)
        found.append(torch.stack([x.flatten().bincount(minlength=V) for x in (own, every)]))
    counts = torch.stack(found).double()
    expected, error = torch.stack(data.places_of_words()), counts.std(0) / math.sqrt(len(counts))
    assert (error < 0.02 / Z * expected).all()
    assert ((counts.mean(0) - expected) / error).abs().max() < Z


def test_words_that_never_stand_in_a_row_have_a_place():
    """Of a part of the text that lacks them: 1/n is finite."""
    part = chunks(words=torch.zeros(50, dtype=torch.int32), sentence=torch.zeros(50).int())
    part = Chunks(
        part.tensors,
        keep=torch.ones(2),
        noise=Noise(torch.ones(2)),
        beside=M,
        length=C,
        window=W,
    )
    inside, anywhere = part.places_of_words()
    assert inside.tolist() == [48.0, 1.0]
    assert anywhere.tolist() == [48 * (1 + 2 * W / C) + 6, 6.0]


def test_noise_follows_q():
    data = chunks()
    noise = torch.cat([data.rows()["noise"] for _ in range(200)]).flatten()
    q = data.noise.log_prob().exp()
    z = (noise.bincount(minlength=V) - len(noise) * q) / (len(noise) * q * (1 - q)).sqrt()
    assert z.abs().max() < Z
    assert torch.allclose(q, COUNTS**0.75 / (COUNTS**0.75).sum(), rtol=1e-12)


def test_evaluation_has_one_cut():
    data = chunks()
    whole = data.rows()
    assert len(whole["words"]) == len(data)
    for name in ("words", "sentence"):
        assert torch.equal(data.rows(slice(3, 7))[name], whole[name][3:7])
        assert torch.equal(data.rows()[name], whole[name])


# -- trained -------------------------------------------------------------------------------------


def programs(latent, data):
    torch.manual_seed(1)
    noise = Noise(COUNTS.double())
    if not latent:
        u, v = WordVectors(V, 2, 1.0), WordVectors(V, 2)
        contrast = NegativeSampling(u, Products(v), noise, 2, len(data))
        return SkipGram(contrast, W), Empty(), partial(RowwiseSGD, lr=3.0, reach=0.3)
    u, v = (GaussianVectors(*a) for a in zip("uv", (2, 2), data.places_of_words(), strict=True))
    model = SkipGram(NegativeSampling(u, Products(v), noise, 2, len(data)), W)
    return model, MeanFieldSkipGram(model, u, v), partial(SparseAdagrad, lr=0.1)


class KilledError(Exception):
    """Ends a training as a kill does: nothing more is saved."""


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize(
    ("latent", "compile"),
    [(False, True), (True, False), pytest.param(True, True, marks=pytest.mark.slow)],
)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, latent, compile):
    """Killed in the middle of the second of three epochs, with a held-out text."""
    data, valid, stopped = chunks(), text(V, 4), []

    def half(progress):
        if progress > 0.5 and not stopped:
            stopped.append(progress)
            raise KilledError
        return 1.0 - progress

    def train(schedule, **where):
        model, guide, optimizer = programs(latent, data)
        run = fit(
            model,
            guide,
            data,
            optimizer=optimizer,
            epochs=3,
            batch_size=20,
            valid=valid,
            schedule=schedule,
            precision="float64",
            compile=compile,
            progress=False,
            checkpoint_every=0.0,
            **where,
        )
        return run.trace, list(run.programs[0].parameters.values())

    with pytest.raises(KilledError):
        train(half, directory=tmp_path, resume=True)
    pyro.set_rng_seed(7)
    trace, resumed = train(half, directory=tmp_path, resume=True)
    whole_trace, whole = train(half)
    assert stopped
    for a, b in zip(resumed, whole, strict=True):
        assert torch.equal(a, b)
    for group in ("svi", "held_out"):
        assert np.array_equal(trace[group]["elbo"], whole_trace[group]["elbo"])
