"""Hard attention to the patches of a digit: the smallest program with a sequence of looks.

lowerbound fit attention --estimator LeaveOneOut --particles 4
lowerbound audit attention --at 0 300
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.recipes.contract import EstimatorName, Recipe, Training

if TYPE_CHECKING:
    from inference.results.run import Run


@dataclass(frozen=True)
class Options(Training):
    """Hard attention: T one-hot looks at patches of a labelled image, the label said after each."""

    data: str = "digits"
    """A source of labelled images."""
    patch: int = 2
    """Side of a location, pixels."""
    steps_of_attention: int = 4
    """T."""
    estimator: EstimatorName = "LeaveOneOut"
    """Gradient estimator."""
    particles: int = 4
    """Draws from the guide a step."""
    batch_size: int | None = 64
    """Rows a step."""


def build(options: Options) -> Recipe:
    """The program and data that the options describe."""
    from guides.hard_attention import Looker
    from inference.data.sources import load
    from ppl_models.hard_attention import Glimpser, HardAttention

    splits = load(options.data)
    train, valid, test = (
        patches(part, options.patch) for part in (splits.train, splits.valid, splits.test)
    )
    _, locations, features = train.tensors["a"].shape
    glimpser = Glimpser(features, locations, int(train.tensors["y"].max()) + 1)
    steps, size = options.steps_of_attention, len(train)
    return Recipe(
        HardAttention(glimpser, steps, size),
        Looker(glimpser, features, steps, size),
        train,
        valid,
        report=lambda run: report(run, test),
    )


def patches(part: Any, side: int) -> Any:
    """Images (N, C, H, W) as columns a (N, locations, C · side²) and y."""
    from inference.data.columns import Columns

    x = part.tensors["x"]
    tiles = x.unfold(2, side, side).unfold(3, side, side).movedim(1, 3)
    return Columns({"a": tiles.flatten(3).flatten(1, 2), "y": part.tensors["label"]})


def report(run: Run, test: Any) -> dict[str, Any]:
    """The test bound over all T labels, and how often the last one said is right."""
    import torch

    from inference.results import evaluate

    test, program = run.place(test), run.programs[0]
    with program.scope(), torch.no_grad():
        trace, _ = program.traces(test.rows(None))
    said: Any = max(n for n in trace.nodes if n.startswith("y"))
    fn: Any = trace.nodes[said]["fn"]
    right = fn.logits.argmax(-1) == test.tensors["y"]
    return {
        "test ELBO": evaluate.importance_weighted_bound(program, test, 1),
        "test accuracy after the last look": right.double(),
    }
