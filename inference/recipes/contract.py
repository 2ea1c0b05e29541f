"""What a recipe is: a file that says how to train one program on some data.

Writing a recipe (copy ``inference/recipes/images/vae.py``):

- ``Options``, a frozen dataclass that inherits ``Training``: each field becomes a flag, and the
  string under it the flag's help.
- ``build(options) -> Recipe``: the model, the guide and the columns of data; an estimator or an
  optimiser only where the options' own do not serve.
- ``report(run)``, if the run has more to say than its trace: figures by name, pictures written
  into ``run.directory``.

A file of your own holds all three, and ``lowerbound fit FILE.py`` trains it.  In ours, ``Options``
stands in the room's ``options.py``, so that ``--help`` answers before torch is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyro.infer import ELBO
from torch import Tensor

from inference.data.columns import Data
from inference.engine.optimizers import OptimizerFactory
from inference.recipes.options import EstimatorName, Training
from inference.results.report import Estimate
from inference.results.run import Run

__all__ = ["EstimatorName", "Figure", "Figures", "Recipe", "Training", "no_report"]

Figure = Tensor | Estimate | float | str  # a tensor (N,) stands for its mean
Figures = dict[str, Figure]


def no_report(run: Run) -> Figures:
    """Nothing but the trace."""
    return {}


@dataclass(frozen=True)
class Recipe:
    """A program with its data, ready to fit.

    Attributes:
        model, guide: Pyro programs.
        train, valid: columns to fit and (if any) to watch.
        estimator, optimizer: as ``fit`` takes them; None for what the options say.
        report: run → figures by name, after training; may draw pictures into ``run.directory``
            and add groups to ``run.trace``.
    """

    model: Callable
    guide: Callable
    train: Data
    valid: Data | None = None
    estimator: ELBO | None = None
    optimizer: OptimizerFactory | None = None
    report: Callable[[Run], Figures] = no_report
