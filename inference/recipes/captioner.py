"""Show, attend and tell (Xu et al. 2015): captions of photographs, a look for every word.

lowerbound fit captioner --attention soft
lowerbound fit captioner --attention hard --estimator LeaveOneOut --particles 2 --data flickr8k
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inference.recipes.contract import EstimatorName, Recipe, Training

if TYPE_CHECKING:
    from pyro.infer import ELBO

    from inference.run import Run


@dataclass(frozen=True)
class Options(Training):
    """Show, attend and tell: captions said word by word, a look at the picture for every word."""

    data: str = "scenes"
    """scenes, scenes-clothing, flickr8k, hub:NAME, or a folder or file of captioned pictures."""
    attention: Literal["soft", "hard"] = "soft"
    """Look everywhere in proportion, or at one place, which is a latent."""
    guide: Literal["prior", "caption"] = "prior"
    """Of hard attention: the model's own looks (the paper's bound), or some that know the words."""
    encoder: str | None = None
    """Frozen network whose grid is looked at [pixels for scenes, else efficientnet-lite2]."""
    features: Path = Path("features")
    """Folder where the encoder's grids are kept."""
    hidden: int = 512
    """Width of the decoder's state and of its words."""
    dropout: float = 0.5
    """In training."""
    minimum: int = 5
    """How often a word must occur in the training captions to be said."""
    penalty: float = 1.0
    """Weight of soft attention's (1 − Σ_t α_ti)²."""
    entropy: float = 0.002
    """Weight of the bonus for undecided looks, of hard attention in training."""
    expected: float = 0.5
    """Share of captions whose looks are replaced by their expectation, likewise."""
    baseline: Literal["none", "average", "neural"] = "none"
    """Of ScoreFunction: nothing, a moving average, or NVIL's network with its normalisation."""
    estimator: EstimatorName = "ScoreFunction"
    """Gradient estimator."""
    batch_size: int | None = 64
    """Captions a step, of like length."""
    learning_rate: float = 4e-4
    """Of Adam, at its largest."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """The learning rate's course."""
    beam: int = 4
    """Captions kept at a time while the best is looked for."""
    length_penalty: float = 1.0
    """α of what is searched for: the largest log p(y | a) / length^α."""


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    from guides.caption_aware import CaptionAware
    from guides.empty import Empty
    from guides.prior import Prior
    from ppl_models.captioner import Captioner, HardAttention, SoftAttention

    train, valid, test, vocabulary = prepared(options)
    features, size = train.tables["a"].shape[-1], len(train)
    captioner = Captioner(
        features, len(vocabulary), options.hidden, options.hidden, dropout=options.dropout
    )
    model: Any
    guide: Any
    if options.attention == "soft":
        model, guide = SoftAttention(captioner, size, options.penalty), Empty()
    elif options.guide == "prior":
        model = HardAttention(captioner, size, options.entropy, options.expected)
        guide = Prior(model)
    else:
        model = HardAttention(captioner, size, options.entropy, expected=0.0)
        guide = CaptionAware(captioner, size)
    return Recipe(
        model,
        guide,
        train,
        valid,
        estimator=estimator(options, features),
        report=lambda run: report(run, test),
    )


def prepared(options: Options) -> tuple[Any, Any, Any, Any]:
    """Train, valid and test columns a (its pictures' grids) and y, and the vocabulary."""
    import torch

    from inference.data.captions import Vocabulary, load
    from inference.data.features import extract

    captioned = load(options.data)
    pixels = options.data.startswith("scenes")
    encoder = options.encoder or ("pixels" if pixels else "efficientnet-lite2")
    file = options.features / f"{Path(options.data).name}-{encoder}.npy".replace(":", "-")
    grids = extract(captioned.pictures, encoder, file, options.device)
    vocabulary = Vocabulary.build(captioned.captions("train"), options.minimum)
    table = torch.from_numpy(grids)
    parts = (captioned.rows(split, vocabulary) for split in ("train", "valid", "test"))
    train, valid, test = (columns(part, table) for part in parts)
    return train, valid, test, vocabulary


def columns(rows: Any, table: Any) -> Any:
    """Rows of captions with their pictures' grids: a (N,) into the table, y (N, T)."""
    from inference.data.columns import Columns
    from ppl_models.captioner import alive

    y = rows.tensors["y"]
    return Columns(
        {"a": rows.tensors["image"], "y": y}, tables={"a": table}, lengths={"y": alive(y).sum(1)}
    )


def estimator(options: Options, features: int) -> ELBO:
    """The named estimator with its baseline."""
    from torch import nn

    from inference.estimators import MovingAverage, NeuralBaseline, ScoreFunction
    from inference.recipes.registry import named_estimator
    from ppl_models.networks import mlp

    if options.estimator != "ScoreFunction" or options.baseline == "none":
        return named_estimator(options.estimator, options.particles)
    if options.baseline == "average":
        return ScoreFunction(options.particles, baseline=MovingAverage())
    network = mlp([features, 100, 1], nn.Tanh)
    guess = NeuralBaseline(network, lambda a, y: a.mean(-2))
    return ScoreFunction(options.particles, baseline=guess, normalise=True)


def report(run: Run, test: Any) -> dict[str, Any]:
    """The test bound."""
    from inference import evaluate

    test = run.place(test)
    return {"test ELBO": evaluate.importance_weighted_bound(run.programs[0], test, 1)}
