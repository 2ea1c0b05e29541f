"""What a recipe is: a file that says how to train one program on some data.

Writing a recipe (copy ``inference/recipes/images/vae.py``):

- ``Options``, a frozen dataclass that inherits ``Training``: each field becomes a flag, the string
  under it the flag's help.
- ``build(options) -> Recipe``: the model, the guide and the columns of data; an estimator or an
  optimiser only where the options' own do not serve.
- ``report(run)``, optional: returns figures by name, may write pictures into ``run.directory``.

A file of your own holds all three, and ``lowerbound fit FILE.py`` trains it.  For the built-in
recipes, ``Options`` is in the package's ``options.py``, so that ``--help`` does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyro.infer import ELBO
from torch import Tensor, nn

from inference.data.columns import Data
from inference.engine.optimizers import OptimizerFactory
from inference.recipes.options import EstimatorName, Training
from inference.results.report import Estimate
from inference.results.run import Run

__all__ = ["EstimatorName", "Figure", "Figures", "Recipe", "Training", "no_report"]

Figure = Tensor | Estimate | float | str  # a tensor (N,) is reported as its mean
Figures = dict[str, Figure]


def no_report(run: Run) -> Figures:
    """No figures."""
    return {}


@dataclass(frozen=True)
class Recipe:
    """A program with its data, ready to fit.

    Attributes:
        model, guide: Pyro programs.
        train, valid: columns to fit and (optional) held-out columns.
        estimator, optimizer: as ``fit`` takes them; None for those of the options.
        report: run → figures by name, after training; may draw pictures into ``run.directory``
            and add groups to ``run.trace``.
        baseline: of ``ScoreFunction``, where the options name that estimator.
    """

    model: Callable
    guide: Callable
    train: Data
    valid: Data | None = None
    estimator: ELBO | None = None
    optimizer: OptimizerFactory | None = None
    report: Callable[[Run], Figures] = no_report
    baseline: nn.Module | None = None
