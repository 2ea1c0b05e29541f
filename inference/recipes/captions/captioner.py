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
    from torch import Tensor

    from inference.data.columns import Columns
    from inference.recipes.captions.data.captions import Captioned, Vocabulary
    from inference.results.run import Run
    from ppl_models.captioner import Captioner


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
    start: Path | None = None
    """Directory of a finished captioner whose networks to begin with [new ones]."""
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
    beam: int = 5
    """Captions kept at a time while the best is looked for."""
    length_penalty: float = 0.3
    """α of what is searched for: the largest log p(y | a) / length^α."""


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    from guides.caption_aware import CaptionAware
    from guides.empty import Empty
    from guides.prior import Prior
    from inference.recipes.named_estimators import baselined
    from ppl_models.captioner import Captioner, HardAttention, SoftAttention

    captioned, vocabulary, (train, valid, test) = prepared(options)
    features, size = train.tables["a"].shape[-1], len(train)
    captioner = Captioner(
        features, len(vocabulary), options.hidden, options.hidden, dropout=options.dropout
    )
    if options.start is not None:
        begin(captioner, options.start, vocabulary, options.seeds)
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
        estimator=baselined(options, features, lambda a, y: a.mean(-2)),
        report=lambda run: report(run, options, captioned, vocabulary, test),
    )


def prepared(options: Options) -> tuple[Captioned, Vocabulary, list[Columns]]:
    """The pictures, the vocabulary, and train, valid and test columns, see ``columns``."""
    import torch

    from inference.recipes.captions.data.captions import Vocabulary, load
    from inference.recipes.captions.data.features import extract

    captioned = load(options.data)
    encoder = options.encoder or default_encoder(options.data)
    file = f"{Path(options.data).name}-{encoder}.npy".replace(":", "-")
    grids = extract(captioned.pictures, encoder, options.features / file, options.device)
    vocabulary = Vocabulary.build(captioned.captions("train"), options.minimum)
    table = torch.from_numpy(grids)
    parts = (captioned.rows(split, vocabulary) for split in ("train", "valid", "test"))
    return captioned, vocabulary, [columns(part, table) for part in parts]


def begin(captioner: Captioner, start: Path, vocabulary: Vocabulary, seeds: int) -> None:
    """Give the captioner the networks of a finished run.

    Raises:
        UserError: the run is not finished, or says other words; the networks have other widths;
            there is more than one seed, as further ones draw new networks.
    """
    from inference.recipes.captions.captioning import trained
    from inference.util.errors import UserError

    if seeds > 1:
        raise UserError(f"{seeds} seeds cannot all begin with the networks of {start}: fit one")
    _, words, found = trained(start)
    if words != vocabulary:
        raise UserError(f"{start} says other words: give it the same data and the same minimum")
    try:
        captioner.load_state_dict(found.state_dict())
    except RuntimeError:
        raise UserError(
            f"the networks of {start} have other widths: give the same encoder and --hidden"
        ) from None


def default_encoder(data: str) -> str:
    """What scenes, and what photographs are looked at with."""
    return "pixels" if data.startswith("scenes") else "efficientnet-lite2"


def columns(rows: Columns, table: Tensor) -> Columns:
    """Captions with their pictures' grids: a (N,), row numbers of the table, and y (N, T).

    Where places of the words' objects are known, they stay beside them: ``places`` (N, T).
    """
    from inference.data.columns import Columns
    from ppl_models.captioner import alive

    tensors = dict(rows.tensors)
    tensors = {"a": tensors.pop("image"), **tensors}
    return Columns(tensors, tables={"a": table}, lengths={"y": alive(tensors["y"]).sum(1)})


def report(run: Run, *known: Any) -> dict[str, Any]:
    """Bounds, scores, pictures: see ``inference.recipes.captions.captioning``."""
    from inference.recipes.captions import captioning

    return captioning.report(run, *known)
